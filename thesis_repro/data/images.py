"""The one look at images that every public function takes: arrays or tensors, of one layout.

What is given in another layout, range or type is refused in one line that says how to turn it
into what is needed. Nothing is rescaled or transposed on a guess.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro.lab import checks

__all__ = ["check_images", "check_model", "fitting", "images", "labels", "tensor"]

Shape = Sequence[int]


def tensor(name: str, values: Any, model: Callable[..., Any] | None = None) -> Tensor:
    """A numpy array or tensor of floats as a tensor.

    Parameters
    ----------
    name : of the argument, for the message
    values : array or tensor of floats, on any device
    model : module, optional
        Whose device the tensor is moved to.

    Raises
    ------
    ValueError
        If it is neither, holds no floats or no values at all; as :func:`check_model`.

    Examples
    --------
    >>> tensor("x", np.zeros((2, 3), np.float32)).shape
    torch.Size([2, 3])
    >>> tensor("x", [[0.5]])
    Traceback (most recent call last):
    ValueError: x need to be a torch tensor or a numpy array, got list
    """
    if isinstance(values, np.ndarray):
        kind = str(values.dtype)
        if values.dtype.kind in "fiub":
            # a copy where torch cannot share the memory: read-only, reversed, other byte order
            native = values.astype(values.dtype.newbyteorder("="), copy=not values.flags.writeable)
            values = torch.from_numpy(np.ascontiguousarray(native))
    elif isinstance(values, Tensor):
        kind = str(values.dtype).removeprefix("torch.")
    else:
        raise ValueError(
            f"{name} need to be a torch tensor or a numpy array, got {type(values).__name__}"
        )
    if isinstance(values, Tensor):
        _check_values(name, values)
    if not isinstance(values, Tensor) or not values.is_floating_point():
        remedy = ": for pixels in 0..255 give x / 255 as float32" if kind == "uint8" else ""
        raise ValueError(f"{name} need to be floating-point numbers, got {kind}{remedy}")
    if model is not None:
        check_model(model)
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return values if weight is None else values.to(weight.device)


def _check_values(name: str, values: Tensor) -> None:
    """Refuse tensors that hold no values, and those that lie in another layout than arrays."""
    if values.is_meta:
        raise ValueError(f"{name} lie on the device meta, without values: load them to cpu or cuda")
    if values.layout is not torch.strided:
        raise ValueError(f"{name} need to be a dense tensor: x.to_dense() makes one")


def check_model(model: Any) -> None:
    """Refuse what is no net, and nets whose weights have no values.

    Parameters
    ----------
    model : nn.Module, or a function of a batch

    Raises
    ------
    ValueError
        On a path, a state dict, a class, or a module with weights on the device meta.

    Examples
    --------
    >>> check_model("mine.pt")
    Traceback (most recent call last):
    ValueError: the model needs to be an nn.Module, got str 'mine.pt': make the net, and load its \
weights by net.load_state_dict
    """
    if isinstance(model, type) or not callable(model):
        kind = f"class {model.__name__}" if isinstance(model, type) else type(model).__name__
        named = f" {str(model)!r}" if isinstance(model, str | Path) else ""
        remedy = (
            "call it to make one"
            if isinstance(model, type)
            else "make the net, and load its weights by net.load_state_dict"
        )
        raise ValueError(f"the model needs to be an nn.Module, got {kind}{named}: {remedy}")
    if isinstance(model, nn.Module):
        for name, value in model.named_parameters():
            if value.is_meta:
                raise ValueError(
                    f"the model has weights without values, on the device meta ({name}): "
                    f"model.to_empty(device='cpu'), then model.load_state_dict"
                )


def images(
    x: Any, shape: Shape | None = None, model: Callable[..., Any] | None = None, name: str = "x"
) -> Tensor:
    """Images as a tensor, after a look at type, layout and range.

    Parameters
    ----------
    x : (n, channels, height, width), array or tensor of floats in [0, 1]
    shape : of one image, where it is known; (channels, height, width) of any size without it
    model : module, optional
        Whose device they are moved to.
    name : of the argument, for the message

    Raises
    ------
    ValueError
        On no tensor or array, whole numbers, channels last, one image without its batch dimension,
        no image, another shape, NaN, or values outside [0, 1]. One line with what to do.

    Examples
    --------
    >>> images(np.full((2, 1, 4, 4), 0.5)).shape
    torch.Size([2, 1, 4, 4])
    >>> images(np.zeros((2, 32, 32, 3)), (3, 32, 32))
    Traceback (most recent call last):
    ValueError: images need shape (n, 3, 32, 32) with n >= 1, got (2, 32, 32, 3), with channels \
last: x.transpose(0, 3, 1, 2) of an array, x.permute(0, 3, 1, 2) of a tensor puts them first
    """
    found = tensor("images", x, model)
    check_images(found, shape)
    return found


def check_images(x: Tensor, shape: Shape | None = None) -> None:
    """Refuse what is no tensor, images of a wrong shape, and pixels outside [0, 1].

    Raises
    ------
    ValueError
        As :func:`images`.
    """
    tensor("images", x)
    given = tuple(x.shape)
    wrong = x.ndim != 4 if shape is None else given[1:] != tuple(shape)
    swapped = shape is None and x.ndim == 4 and given[3] in (1, 3) and given[1] > given[3]
    if wrong or swapped or not len(x):
        needed = ("channels", "height", "width") if shape is None else tuple(shape)
        raise ValueError(
            f"images need shape (n, {', '.join(map(str, needed))}) with n >= 1, got "
            f"{given}{_layout(given, shape, swapped)}"
        )
    if x.numel() == 0:
        raise ValueError(f"images need at least one pixel, got shape {given}")
    low, high = (end.item() for end in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        bytes_ = ": for pixels in 0..255 give x / 255" if low >= 0 and 1 < high <= 255 else ""
        raise ValueError(
            f"pixels need to lie in [0, 1], got values from {low:.3g} to {high:.3g}{bytes_}"
        )


def _layout(given: Shape, shape: Shape | None, swapped: bool) -> str:
    """What to do about a shape, where that is clear."""
    last = shape is not None and len(shape) == 3 and tuple(given[1:]) == (*shape[1:], shape[0])
    if swapped or last:
        return (
            ", with channels last: x.transpose(0, 3, 1, 2) of an array, x.permute(0, 3, 1, 2) of "
            "a tensor puts them first"
        )
    if len(given) == 3 and (shape is None or shape[0] == 1) and given[0] not in (1, 3):
        return ", without channels: x[:, None] adds one"
    if len(given) == 3 and (shape is None or tuple(given) == tuple(shape)):
        return ", one image alone: x[None] makes a batch of it"
    return ""


def labels(name: str, y: Any, like: Tensor, classes: int | None = None) -> Tensor:
    """Labels as an int64 tensor beside the images `like`.

    Parameters
    ----------
    name : of the argument, for the message
    y : (n,) array or tensor of whole numbers in [0, classes)
    like : the images, (n, ...)
    classes : without it labels only need to be at least 0

    Raises
    ------
    ValueError
        On text, floats, another length, or a label out of range.

    Examples
    --------
    >>> labels("y", np.array([1, 0]), torch.zeros(2, 1, 4, 4), 2)
    tensor([1, 0])
    >>> labels("y", np.array(["cat", "dog"]), torch.zeros(2, 1, 4, 4))
    Traceback (most recent call last):
    ValueError: y need to be whole numbers, got text: data.from_arrays(x, y) numbers the classes
    """
    if not isinstance(y, Tensor):
        found = np.asarray(y)
        if found.dtype.kind in "USO":
            raise ValueError(
                f"{name} need to be whole numbers, got text: data.from_arrays(x, y) numbers the "
                f"classes"
            )
        if found.dtype.kind not in "iu":
            raise ValueError(f"{name} need to be whole numbers, got {found.dtype}")
        y = torch.from_numpy(found.astype(np.int64))
    _check_values(name, y)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"{name} need to be whole numbers, got {y.dtype}".replace("torch.", ""))
    if y.shape != like.shape[:1]:
        raise ValueError(
            f"{name} need to be one label for each of {len(like)} images, got shape "
            f"{tuple(y.shape)}"
        )
    checks.labels(name, y, classes)
    labels: Tensor = y.to(like.device, torch.int64)
    return labels


@contextmanager
def fitting(x: Tensor) -> Iterator[None]:
    """Say in one line that a model, which is asked inside the block, takes no inputs like x.

    Raises
    ------
    ValueError
        Where torch found sizes that do not fit each other.

    Examples
    --------
    >>> with fitting(x := torch.zeros(2, 5)):
    ...     nn.Linear(3, 1)(x)
    Traceback (most recent call last):
    ValueError: the model takes no float32 inputs of shape (2, 5): mat1 and mat2 shapes cannot be \
multiplied (2x5 and 3x1)
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, torch.OutOfMemoryError) or not _SIZES.search(said):
            raise
        kind = str(x.dtype).removeprefix("torch.")
        remedy = "; model.float() and x.float() give both one format" if _TYPES.search(said) else ""
        raise ValueError(
            f"the model takes no {kind} inputs of shape {tuple(x.shape)}: {said}{remedy}"
        ) from error


_TYPES = re.compile(r"dtype|same type|be the same")
_SIZES = re.compile(
    r"shapes? |channels|[Ee]xpected \d+D|size|must match|too small|expected device"
    rf"|{_TYPES.pattern}"
)
