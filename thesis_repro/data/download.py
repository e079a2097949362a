"""Download a set from its original source: to a temporary folder, checked, then moved."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thesis_repro.data.files import SUMS, fingerprint, list_files, roots, sha256_of
from thesis_repro.data.readers import read_image
from thesis_repro.data.sources import DataMissing, Source

TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def fetch(source: Source) -> Path:
    """Download a set and put it under the first root.

    Returns
    -------
    where the set lies now

    Raises
    ------
    DataMissing
        There is no download for it, or the download failed.
    DataDamaged
        What was downloaded is not what was published; it is thrown away.
    """
    if source.name not in DOWNLOADS:
        raise DataMissing(f"{source.name} cannot be fetched: {source.get}")
    root = roots()[0]
    root.mkdir(parents=True, exist_ok=True)
    target = root / source.folder
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as name:
        part = Path(name)
        try:
            DOWNLOADS[source.name](part)
        except (OSError, RuntimeError) as error:  # no network, no space, a wrong archive hash
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataMissing(f"{source.name}: the download failed: {reason}") from error
        fetched = part / source.folder
        fingerprint(source, fetched)
        if not source.md5 and fetched.is_dir():
            _note_sums(source, fetched)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(_aside(target))
        fetched.rename(target)
    return target


def _note_sums(source: Source, folder: Path) -> None:
    lines = (
        f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in list_files(source, folder)
    )
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _aside(target: Path) -> Path:
    """Return a free name for a damaged copy."""
    names = (target.with_name(f"{target.name}.damaged-{i}") for i in range(1, 1000))
    return next(name for name in names if not name.exists())


def _mnist(root: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(root, download=True)


def _cifar10(root: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(root, download=True)


def _cifar100(root: Path) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(root, download=True)


def _eurosat(root: Path) -> None:
    from torchvision.datasets import EuroSAT

    EuroSAT(root, download=True)


def _tiny_imagenet(root: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(TINY_IMAGENET_URL, root, md5=TINY_IMAGENET_MD5)


def _lfw(root: Path) -> None:
    """Cut scikit-learn's funneled photographs to 64x64.

    Of people with at least 20 photographs, rows 68 to 196 and columns 61 to 189 are kept, and
    every 2x2 pixels are averaged. The name of a file says which photograph it is.
    """
    from PIL import Image
    from sklearn.datasets import fetch_lfw_people

    fetch_lfw_people(data_home=root, min_faces_per_person=500, resize=0.1)
    for person in sorted((root / "lfw_home/lfw_funneled").iterdir()):
        photographs = sorted(person.glob("*.jpg")) if person.is_dir() else []
        if len(photographs) < 20:
            continue
        (root / "lfw64" / person.name).mkdir(parents=True)
        for path in photographs:
            crop = read_image(path)[68:196, 61:189].astype(np.float32)
            small = crop.reshape(64, 2, 64, 2, 3).mean((1, 3)).round().astype(np.uint8)
            Image.fromarray(small).save(root / "lfw64" / person.name / f"{path.stem}.png")


def _squeezenet(root: Path) -> None:
    from torchvision.models import SqueezeNet1_1_Weights

    state = SqueezeNet1_1_Weights.IMAGENET1K_V1.get_state_dict(
        progress=True, check_hash=True, model_dir=str(root / "hub"), weights_only=True
    )
    np.savez(root / "squeezenet1_1.npz", **{k: v.numpy() for k, v in state.items()})
    shutil.rmtree(root / "hub")


DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "tiny-imagenet": _tiny_imagenet,
    "lfw": _lfw,
    "eurosat": _eurosat,
    "squeezenet1_1": _squeezenet,
}
