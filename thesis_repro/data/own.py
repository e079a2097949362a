"""Data sets of one's own: from arrays or a loader.

They come out as the named ones do: float32 images (n, channels, height, width) in [0, 1] with
int64 labels, dealt into a training and a test part where they are not dealt already. The deal
depends on nothing but the order of the points, and every beginning of the test part is a random
sample of it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from thesis_repro.data import sets
from thesis_repro.data.images import images, labels
from thesis_repro.data.readers import stratified
from thesis_repro.data.sets import Dataset, Split

__all__ = ["content", "dealt", "from_arrays", "from_loader"]

SHARE = 0.8
"""The part of each class to train on, where a set comes in one piece."""

Pair = tuple[Any, Any]


def from_arrays(
    x: Any,
    y: Any,
    classes: Sequence[str] | None = None,
    *,
    test: Pair | None = None,
    name: str = "own",
) -> Dataset:
    """Make a data set of images and labels in memory; both are copied.

    Parameters
    ----------
    x : (n, channels, height, width), array or tensor of floats in [0, 1]
    y : (n,) whole numbers, or names of classes as text
    classes : names of the classes; by default the names in y, sorted, or "0", "1", ... up to the
        largest label
    test : (x, y) of a test part; without it, a fifth of each class of x is dealt out for it
    name : of the set

    Raises
    ------
    ValueError
        On another type, layout or range of images, labels that do not fit or name no class, or a
        class too small to be dealt into two parts. One line with what to do.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((20, 1, 8, 8))
    >>> own = from_arrays(x, ["cat", "dog"] * 10)
    >>> own.classes, len(own.train), len(own.test), own.train.x.dtype
    (('cat', 'dog'), 16, 4, torch.float32)
    """
    if test is not None and (not isinstance(test, list | tuple) or len(test) != 2):
        raise ValueError(f"a test part needs to be a pair (x, y), got {type(test).__name__}")
    known, (given, *others) = _numbered([y, *([test[1]] if test else [])], classes)
    train = _split(x, given, len(known))
    if test is None:
        return dealt(name, train, known)
    held = _split(test[0], others[0], len(known))
    if held.x.shape[1:] != train.x.shape[1:]:
        raise ValueError(
            f"test images of shape {tuple(held.x.shape[1:])} do not fit training images of "
            f"{tuple(train.x.shape[1:])}"
        )
    train, held = (Split(one.x.clone(), one.y.clone()) for one in (train, held))
    return Dataset(name, train, held, known)


def _split(x: Any, y: Any, classes: int) -> Split:
    found = images(x).detach().to("cpu", torch.float32)
    return Split(found, labels("labels", y, found, classes))


def _numbered(
    given: Sequence[Any], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Any]]:
    """Names of the classes, and labels that are numbers, of several parts."""
    parts = [_read(y) for y in given]
    for part in parts:
        if part.ndim != 1:
            raise ValueError(
                f"labels need to be one for each image, of shape (n,), got {tuple(part.shape)}"
            )
        if isinstance(part, Tensor) and part.is_meta:
            raise ValueError("labels lie on the device meta, without values")
    text = [isinstance(y, np.ndarray) and y.dtype.kind == "U" for y in parts]
    if classes is not None:
        known = _names(classes)
    elif any(text):
        known = tuple(sorted({str(value) for y in parts for value in y.tolist()}))
    else:
        top = max(map(_largest, parts))
        known = tuple(map(str, range(top + 1 if 0 <= top < 1e6 else 1)))
    number = {kind: i for i, kind in enumerate(known)}
    found = []
    for y, names in zip(parts, text, strict=True):
        if names and (unknown := sorted({str(v) for v in y.tolist()} - set(number))):
            raise ValueError(f"label {unknown[0]!r} is none of the classes {', '.join(known)}")
        found.append(np.array([number[str(v)] for v in y.tolist()]) if names else y)
    return known, found


def _names(classes: Any) -> tuple[str, ...]:
    """Names of classes, each once; what is in bytes is text."""
    listed = classes.tolist() if isinstance(classes, np.ndarray | Tensor) else classes
    try:
        given = [] if isinstance(listed, str | bytes) else list(listed)
    except TypeError:  # one number
        given = []
    if not given or any(isinstance(kind, list | tuple) for kind in given):
        raise ValueError(f"classes need to be a list of names, got {listed!r}")
    known = tuple(kind.decode() if isinstance(kind, bytes) else str(kind) for kind in given)
    if len(set(known)) != len(known):
        raise ValueError(f"classes need to be names, each once, got {known}")
    return known


def _largest(y: Any) -> int:
    """The largest label; 0 without one. What is no whole number is refused further on."""
    if isinstance(y, Tensor):
        if y.is_floating_point() or y.is_complex() or y.layout is not torch.strided:
            return 0
        y = y.cpu().numpy()  # torch has no maximum of some types
    return int(y.max()) if y.dtype.kind in "iu" and len(y) else 0


def _read(y: Any) -> Any:
    """Labels as a tensor, or as an array of text or of numbers: what is mixed is no label."""
    if isinstance(y, Tensor):
        return y
    found = np.asarray(y)
    if found.dtype.kind not in "USO" or found.ndim != 1 or not found.size:
        return found
    # numpy writes what is beside text in a list as text: a label that is missing would be "nan"
    values = [v.decode() if isinstance(v, bytes) else v for v in (found if found is y else y)]
    for kind in (str, int):
        if all(isinstance(v, kind | np.integer) and not isinstance(v, bool) for v in values):
            return np.array(values)
    odd = next(v for v in values if not isinstance(v, str))
    raise ValueError(
        f"labels need to be all names of classes or all whole numbers, got {odd!r} among them"
    )


def dealt(name: str, whole: Split, classes: tuple[str, ...]) -> Dataset:
    """The set with a fifth of each class held out."""
    keys = list(whole.names) or [str(i) for i in range(len(whole))]
    train, test = stratified(whole.y.tolist(), keys, SHARE)
    if lacking := set(whole.y.tolist()) - set(whole.y[test].tolist()):
        kind = min(lacking)
        raise ValueError(
            f"{int((whole.y == kind).sum())} images of class {classes[kind]} are too few to hold "
            f"out {1 - SHARE:.0%} of each class: give more, or a test part"
        )
    return Dataset(name, _taken(whole, train), sets.spread_test(_taken(whole, test)), classes)


def _taken(whole: Split, rows: Any) -> Split:
    names = tuple(whole.names[i] for i in rows) if whole.names else ()
    return Split(whole.x[rows], whole.y[rows], names)


def from_loader(
    loader: Iterable[Any],
    classes: Sequence[str] | None = None,
    *,
    test: Iterable[Any] | None = None,
    name: str = "own",
) -> Dataset:
    """Make a data set of all that a `DataLoader` (or any iterable of batches) yields.

    Parameters
    ----------
    loader : yields pairs: x (batch, channels, height, width) in [0, 1], and y (batch,). It is read
        once. One that shuffles deals the points anew each time: give it a seeded generator.
    classes, name : as for :func:`from_arrays`
    test : a loader of the test part

    Raises
    ------
    ValueError
        If a batch is no pair, and as :func:`from_arrays`.

    Examples
    --------
    >>> pairs = torch.utils.data.TensorDataset(torch.rand(20, 3, 8, 8), torch.arange(20) % 2)
    >>> own = from_loader(torch.utils.data.DataLoader(pairs, batch_size=7))
    >>> len(own.train), len(own.test)
    (16, 4)
    """
    held = None if test is None else _joined(test)
    return from_arrays(*_joined(loader), classes, test=held, name=name)


def _joined(loader: Iterable[Any]) -> Pair:
    xs, ys = [], []
    if isinstance(loader, TorchDataset):
        raise ValueError(
            f"a loader needs to yield batches: DataLoader(dataset, batch_size=256) makes one of "
            f"the {type(loader).__name__}"
        )
    if not isinstance(loader, Iterable):
        raise ValueError(f"a loader needs to yield batches, got {type(loader).__name__}")
    for number, batch in enumerate(loader):
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ValueError(
                f"a loader needs to yield pairs (images, labels), got "
                f"{type(batch).__name__} as batch {number}"
            )
        xs.append(images(batch[0]).detach().to("cpu", torch.float32))
        y = batch[1]
        given = labels("labels", y if y.ndim else y[None], xs[-1]) if isinstance(y, Tensor) else y
        ys.append(np.atleast_1d(np.asarray(given)))
    if not xs:
        raise ValueError("the loader yields no batch")
    if len({tuple(x.shape[1:]) for x in xs}) > 1:
        shapes = " and ".join(sorted({str(tuple(x.shape[1:])) for x in xs}))
        raise ValueError(f"the loader yields images of shapes {shapes}: it has to make them one")
    if len(kinds := sorted({_kind(y.dtype) for y in ys})) > 1:
        raise ValueError(
            f"the loader yields labels of {' and '.join(kinds)}: it has to make them one"
        )
    return torch.cat(xs), np.concatenate(ys)


def _kind(dtype: "np.dtype[Any]") -> str:
    """What numpy joins without turning one into another."""
    return "text" if dtype.kind in "USO" else "numbers" if dtype.kind in "biuf" else str(dtype)


def content(dataset: Dataset) -> str:
    """SHA-256 over the numbers of a set: shapes, pixels, labels and names of its classes."""
    digest = hashlib.sha256(repr(dataset.classes).encode())
    for part in _tensors(dataset):
        digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensors(dataset: Dataset) -> Iterator[Tensor]:
    for split in (dataset.train, dataset.test):
        yield split.x
        yield split.y
