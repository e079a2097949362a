"""From file contents to arrays: IDX, the CIFAR batches, image files; and splits that never move.

The CIFAR batches are pickles. They are only handed to :func:`unpickle` after their published MD5
was found right, and it can build nothing but arrays, numbers, text, lists and dictionaries.
"""

import hashlib
import io
import pickle
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_repro.data.sources import DataDamaged

Bytes = NDArray[np.uint8]


def read_idx(content: bytes) -> Bytes:
    """Read an IDX file of unsigned bytes, the format of MNIST.

    Returns
    -------
    uint8 array of the shape that the file's header gives

    Raises
    ------
    DataDamaged
        The header is another one, or the length does not agree with it.
    """
    dims = content[3] if len(content) > 3 else 0
    head = 4 + 4 * dims
    if content[:3] != b"\0\0\x08" or len(content) < head:
        raise DataDamaged(f"expected an IDX file of bytes, found one that starts {content[:4]!r}")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dims, offset=4))
    size = len(content) - head
    if size != int(np.prod(shape)):
        raise DataDamaged(f"expected {shape} bytes after an IDX header, found {size}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


# what the pickle of an array names; `numpy.core` is where NumPy 1 kept its own parts
_ARRAY_PARTS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that refuses every global but the three that an array is made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise DataDamaged(f"expected a pickle of arrays, found one that names {module}.{name}")
        return _ARRAY_PARTS[module, name]


def unpickle(content: bytes) -> dict[str, Any]:
    """Read one CIFAR batch whose hash has been checked.

    Returns
    -------
    the batch's dictionary, its keys as text; the byte strings in it stay bytes

    Raises
    ------
    DataDamaged
        The pickle names anything that an array does not need.
    """
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise DataDamaged(f"expected a dictionary in the batch, found {type(batch).__name__}")
    return {key.decode("ascii"): value for key, value in batch.items()}


def read_image(path: Path, size: tuple[int, int] | None = None) -> Bytes:
    """Read an image file as colour.

    Parameters
    ----------
    path : a file that Pillow can read
    size : the (height, width) that it must have; any if None

    Returns
    -------
    (height, width, 3) uint8

    Raises
    ------
    DataDamaged
        The file does not decode whole, or has another size; its hash is given.
    """
    from PIL import Image

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataDamaged(f"{path}: expected an image, found no such file") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # all three are Pillow's, by format
        found = hashlib.sha256(content).hexdigest()
        raise DataDamaged(
            f"{path}: expected an image, found {len(content)} bytes that do not decode whole "
            f"(SHA-256 {found})"
        ) from None
    if size is not None and pixels.shape[:2] != size:
        found = "x".join(map(str, pixels.shape[:2]))
        raise DataDamaged(f"{path}: expected {size[0]}x{size[1]} pixels, found {found}")
    return pixels


def read_images(paths: Sequence[Path], size: tuple[int, int]) -> Bytes:
    """Read many image files of one size; decoding runs on a few threads.

    Returns
    -------
    (n, 3, height, width) uint8
    """
    pixels = np.empty((len(paths), 3, *size), np.uint8)

    def put(i: int) -> None:
        pixels[i] = read_image(paths[i], size).transpose(2, 0, 1)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(put, range(len(paths))):
            pass
    return pixels


def unit(pixels: Bytes) -> Tensor:
    """Turn bytes in 0..255 into float32 in [0, 1], without further scaling."""
    return torch.from_numpy(pixels.astype(np.float32)).div_(255.0)


def integers(labels: Sequence[int] | NDArray[Any]) -> Tensor:
    """Turn labels into an int64 tensor."""
    return torch.from_numpy(np.asarray(labels).astype(np.int64))


def stratified(
    labels: Sequence[int], names: Sequence[str], share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split items at random, class by class, in the same way for ever.

    The items are put in the order of the SHA-256 of their names: as good as a seeded shuffle, and
    it depends on no library's random generator. Of each class the first ``share`` (rounded to
    whole items) are for training.

    Parameters
    ----------
    labels : class of each item
    names : a distinct name of each item
    share : in (0, 1), the part of each class to train on

    Returns
    -------
    indices of the training and of the test items, in the order of their digests. The training
    items are shuffled. The test items are what is left when a class is full, so their beginning is
    rich in the classes that fill up first: :func:`spread` orders them anew.
    """
    left = {label: int(share * n + 0.5) for label, n in Counter(labels).items()}
    train: list[int] = []
    test: list[int] = []
    digests = [hashlib.sha256(f"thesis-repro/{name}".encode()).digest() for name in names]
    for i in sorted(range(len(names)), key=digests.__getitem__):
        (train if left[labels[i]] > 0 else test).append(i)
        left[labels[i]] -= 1
    return np.array(train, np.int64), np.array(test, np.int64)


def spread(n: int) -> NDArray[np.int64]:
    """An order of n items of which every beginning is a random sample, the same for ever.

    The order of the SHA-256 of their numbers: independent of what put them in the order they have.

    Returns
    -------
    (n,) a permutation of range(n)
    """
    digests = [hashlib.sha256(f"thesis-repro/test/{i}".encode()).digest() for i in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__), np.int64)
