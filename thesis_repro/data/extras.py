"""Photographs and ImageNet weights for the chapters on explanations; neither is a data set.

The photographs illustrate. Some were chosen because a net classified them correctly, so an
accuracy measured on them means nothing.
"""

import csv
import zipfile
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from thesis_repro.data.files import check_sums, require
from thesis_repro.data.readers import integers, read_image, unit
from thesis_repro.data.sources import DataDamaged, Source

PHOTOS = Source(
    name="photos",
    title="Photographs of ImageNet classes, cars above all",
    folder="photos",
    get="no one download holds them: the page `data` of the book lists the sources and the layout",
    licence="research, non-commercial; the photographs belong to their owners",
    pattern="**/*",
    known={
        "a6a884a7f736587c87f321d37a397d6add977805341dd71cc742938989cd5ea4": (
            "60 ImageNet samples, 100 chosen cars, 200 Tiny-ImageNet cars"
        ),
    },
)

SQUEEZENET = Source(
    name="squeezenet1_1",
    title="SqueezeNet 1.1, ImageNet weights",
    folder="squeezenet1_1.npz",
    get="run `thesis-repro data fetch squeezenet1_1` (torchvision downloads it)",
    licence="BSD-3-Clause (torchvision)",
    known={
        "38c7dacebb6d85ad5ca367864535d5c16039b7631abe68a98de3eadaa45539a4": (
            "convolutions rounded to float16"
        ),
    },
)

EXTRAS = {"photos": PHOTOS, "squeezenet1_1": SQUEEZENET}


@dataclass(frozen=True, eq=False)
class Photos:
    """Photographs, cropped to squares.

    Parameters
    ----------
    x : (n, 3, size, size) float32
        Pixels in [0, 1].
    y : (n,) int64
        Class index in ImageNet's usual order.
    kinds : tuple of str
        The class of each, in words.
    names : tuple of str
        The file of each inside ``photos/``.
    """

    x: Tensor
    y: Tensor
    kinds: tuple[str, ...]
    names: tuple[str, ...]


def photos(group: str = "imagenet", size: int = 224) -> Photos:
    """Load one group of photographs.

    Each is scaled so that its shorter side is 8/7 of ``size`` (the usual 256 for 224), and the
    middle is cut out; pictures that are ``size`` squares already are left as they are.

    Parameters
    ----------
    group : str
        Folder inside ``photos/``: "imagenet", "stanford_cars" or "tinyimagenet64".
    size : int
        Side of the crops, in pixels.

    Raises
    ------
    ValueError
        There is no such group; the message lists them.
    DataMissing, DataDamaged
        As for ``data.load``.
    """
    folder = require(PHOTOS)
    check_sums(folder)
    try:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["torchvision_index"]]
    except (FileNotFoundError, KeyError):
        raise DataDamaged(f"{folder / 'labels.csv'}: expected a list of photographs") from None
    groups = sorted({row["file"].partition("/")[0] for row in rows})
    if group not in groups:
        raise ValueError(f"no group of photographs is called {group!r}; there are {groups}")
    chosen = [row for row in rows if row["file"].startswith(f"{group}/")]
    pixels = np.stack([_square(read_image(folder / row["file"]), size) for row in chosen])
    return Photos(
        unit(pixels.transpose(0, 3, 1, 2)),
        integers([int(row["torchvision_index"]) for row in chosen]),
        tuple(row["class"] for row in chosen),
        tuple(row["file"] for row in chosen),
    )


def _square(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    from PIL import Image

    scale = size * 8 / 7 / min(height, width)
    image = Image.fromarray(pixels).resize(
        (max(size, round(width * scale)), max(size, round(height * scale))),
        Image.Resampling.BILINEAR,
    )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def weights(name: str = "squeezenet1_1") -> dict[str, Tensor]:
    """Load ImageNet weights under the names that torchvision's model has for them.

    They expect inputs in [0, 1] from which the mean (0.485, 0.456, 0.406) was subtracted and
    which were divided by the standard deviation (0.229, 0.224, 0.225), channel by channel.

    Returns
    -------
    dict of str to Tensor
        A state dict, all float32.

    Raises
    ------
    ValueError
        We have no weights of this name.
    DataMissing, DataDamaged
        As for ``data.load``.
    """
    if name != SQUEEZENET.name:
        raise ValueError(f"no weights are called {name!r}; there are {SQUEEZENET.name}")
    path = require(SQUEEZENET)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {k: torch.from_numpy(arrays[k].astype(np.float32)) for k in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataDamaged(f"{path}: expected arrays in an npz file, found {error}") from None
