"""Data sets of one's own in files: a folder of pictures, an npz file, or what a command names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thesis_repro.data import sets
from thesis_repro.data.own import dealt, from_arrays
from thesis_repro.data.readers import integers
from thesis_repro.data.sets import Dataset, Split
from thesis_repro.data.sources import DataDamaged, DataMissing

__all__ = ["from_folder", "from_npz", "load_any"]

FOLDER = "folder:"
SIZE = re.compile(r"@(\d+)x(\d+)$")
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TESTS = ("test", "val", "valid", "validation")


def from_folder(path: Path | str, size: tuple[int, int] | None = None) -> Dataset:
    """Read a folder of pictures: one folder for each class, in `train` and `test` or in one piece.

    Parameters
    ----------
    path : folder with ``PATH/CLASS/*.png``, or ``PATH/train/CLASS/`` and ``PATH/test/CLASS/``
        (or val/); jpg, bmp, gif, ppm, tif and webp are read as well, at any depth. Files and
        folders whose names begin with a dot are left out.
    size : (height, width) to resize the pictures to; by default they need to have one size

    Returns
    -------
    Dataset
        Named as the folder; classes in the order of their names. One channel if all pictures are
        grey, else three. Pixels are bytes / 255; nothing else is done to them.

    Raises
    ------
    DataMissing
        There is no such folder.
    DataDamaged
        A picture does not decode whole.
    ValueError
        There are no pictures in folders of classes, or they have several sizes, or more than 8 bits
        a channel; of `train` and `test` one is there alone; `size` is no (height, width); as
        :func:`from_arrays`.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for i in range(10):
    ...     place = root / ("cat" if i % 2 else "dog") / f"{i}.png"
    ...     place.parent.mkdir(exist_ok=True)
    ...     Image.new("RGB", (8, 8), (i, 0, 0)).save(place)
    >>> own = from_folder(root)
    >>> own.classes, own.train.x.shape
    (('cat', 'dog'), torch.Size([8, 3, 8, 8]))
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataMissing(f"{root}: there is no such folder")
    _check_size(size)
    kinds, files = _listed(root)
    loaded = [[_picture(file, size) for _, file in part] for part in files]
    grey = all(array.ndim == 2 for array in chain(*loaded))
    _check_sizes([file for _, file in chain(*files)], list(chain(*loaded)))
    splits = [
        Split(
            torch.from_numpy(np.stack([_channels(array, grey) for array in arrays])),
            integers([kinds.index(kind) for kind, _ in part]),
            tuple(file.relative_to(root).as_posix() for _, file in part),
        )
        for part, arrays in zip(files, loaded, strict=True)
    ]
    classes, name = tuple(kinds), root.resolve().name
    if len(splits) == 1:
        return dealt(name, splits[0], classes)
    return Dataset(name, splits[0], sets.spread_test(splits[1]), classes)


def _listed(root: Path) -> tuple[list[str], list[list[tuple[str, Path]]]]:
    """The classes, and class and file of each picture of one part or of two."""
    held = next((root / name for name in TESTS if (root / name).is_dir()), None)
    parts = [root / "train", held] if held and (root / "train").is_dir() else [root]
    found = [_pictures(part) for part in parts if part is not None]
    kinds = sorted({kind for part in found for kind in part})
    if len(parts) == 1:
        _check_parts(root, found[0])
    files = [[(kind, file) for kind in kinds for file in part.get(kind, [])] for part in found]
    if not all(files):
        example = f"{root.resolve().name}/cat/1.png"
        raise ValueError(
            f"{root}: need one folder of pictures for each class, as {example}, or the same in "
            f"train/ and test/"
        )
    return kinds, files


def _check_parts(root: Path, found: dict[str, list[Path]]) -> None:
    """Refuse a part that would be read as a class: a folder of such a name, with folders inside."""
    for kind, files in found.items():
        inside = all(file.parent != root / kind for file in files)
        if inside and kind.lower() in ("train", "training", "testing", *TESTS):
            raise ValueError(
                f"{root}: holds {kind}/, which is no class: need train/ and test/, in small "
                f"letters, or the folders of the classes without them"
            )


def _check_size(size: Any) -> None:
    """Refuse a size that no picture can be resized to."""
    sides = list(size) if isinstance(size, Sequence | np.ndarray) else []
    good = len(sides) == 2 and all(isinstance(n, int | np.integer) and n >= 1 for n in sides)
    if size is not None and not good:
        raise ValueError(f"size needs to be (height, width), each 1 pixel or more, got {size!r}")


def _check_sizes(files: Sequence[Path], arrays: Sequence[NDArray[np.uint8]]) -> None:
    """Refuse pictures of several sizes, naming the first that differs."""
    shape = arrays[0].shape[:2]
    for file, array in zip(files, arrays, strict=True):
        if array.shape[:2] != shape:
            raise ValueError(
                f"{file}: {_sides(array.shape)} pixels, where {files[0].name} has "
                f"{_sides(shape)}: size=(height, width) resizes them to one, in a command "
                f"{FOLDER}PATH@{_sides(shape)}"
            )


def _pictures(part: Path) -> dict[str, list[Path]]:
    """The pictures of each class folder, sorted by path."""
    found = {}
    for kind in sorted(p for p in part.iterdir() if p.is_dir()):
        there = (p for p in kind.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
        files = [p for p in there if not _is_hidden(p.relative_to(part))]
        if files:
            found[kind.name] = sorted(files, key=lambda p: p.relative_to(part).as_posix())
    return found


def _is_hidden(path: Path) -> bool:
    """Whether a file, or a folder that it lies in, is one that programs keep to themselves."""
    return any(name.startswith(".") for name in path.parts)


def _picture(file: Path, size: tuple[int, int] | None) -> Any:
    """(height, width) uint8 of a grey picture, else (height, width, 3)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            mode = image.mode
            shown = image.convert("L" if mode in ("1", "L") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # all four are Pillow's: by format, and for more pixels than it decodes
        raise DataDamaged(f"{file}: does not decode as a picture ({error})") from None
    if mode[0] in "IF":  # what is above 255 would be white
        raise ValueError(
            f"{file}: has more than 8 bits a channel (mode {mode}): read such pictures as floats "
            f"in [0, 1], and give them to from_arrays"
        )
    if size is not None:
        shown = shown.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(shown)


def _channels(pixels: Any, grey: bool) -> Any:
    if grey:
        return pixels[None].astype(np.float32) / 255
    wide = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, -1)
    return wide.transpose(2, 0, 1).astype(np.float32) / 255


def _sides(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def from_npz(path: Path | str) -> Dataset:
    """Read an npz file with arrays x and y, or x_train, y_train, x_test and y_test; and `classes`.

    Parameters
    ----------
    path : file; the arrays are as for :func:`from_arrays`

    Raises
    ------
    DataMissing
        There is no such file.
    ValueError
        It is no npz file, lacks these arrays, or as :func:`from_arrays`.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "digits.npz"
    >>> np.savez(file, x=np.zeros((10, 1, 8, 8)), y=np.arange(10) % 2, classes=["zero", "one"])
    >>> from_npz(file).classes
    ('zero', 'one')
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataMissing(f"{file}: there is no such file")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except MemoryError:
        raise
    except Exception:  # of damaged bytes zipfile, zlib and numpy raise many kinds
        raise ValueError(f"{file}: need an npz file of plain arrays") from None
    names = found.pop("classes", None)
    ends = "_train" if "x_train" in found else ""
    pairs = [f"x{ends}", f"y{ends}"] + (["x_test", "y_test"] if "x_test" in found else [])
    if missing := [key for key in pairs if key not in found]:
        raise ValueError(
            f"{file}: has no {missing[0]}; need x and y, or x_train, y_train, x_test and y_test"
        )
    train, test = (found[pairs[0]], found[pairs[1]]), tuple(found[key] for key in pairs[2:])
    try:
        return from_arrays(*train, names, test=(test[0], test[1]) if test else None, name=file.stem)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def load_any(text: str | Path) -> Dataset:
    """Load what a command line names: a set's name, ``folder:PATH``, or the path of an npz file.

    ``folder:PATH@32x48`` resizes the pictures to 32 rows and 48 columns. The test part of a named
    set is in the order of :func:`thesis_repro.data.held_out`.

    Raises
    ------
    ValueError, DataMissing, DataDamaged
        As `data.load`, :func:`from_folder` and :func:`from_npz`.

    Examples
    --------
    >>> len(load_any("mnist-5k").test)
    1000
    """
    text = str(text)
    if text.startswith(FOLDER):
        path, resized = text.removeprefix(FOLDER), SIZE.search(text)
        if resized is None:
            return from_folder(path)
        return from_folder(SIZE.sub("", path), (int(resized[1]), int(resized[2])))
    if text.endswith(".npz"):
        return from_npz(text)
    if text not in sets.LOADERS and Path(text).expanduser().is_dir():
        raise ValueError(f"{text} is a folder: name it as {FOLDER}{text}")
    if text not in sets.LOADERS:
        raise ValueError(
            f"no data set is called {text!r}; there are {', '.join(sets.LOADERS)}, "
            f"{FOLDER}PATH with a folder for each class, and the path of an npz file"
        )
    found = sets.LOADERS[text][1]()
    return replace(found, test=sets.spread_test(found.test)) if text in sets.DEALT else found
