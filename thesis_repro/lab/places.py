"""Where files are looked for and left.

Each place has a variable of the environment that moves it; one that is empty counts as unset.
"""

import os
from pathlib import Path

DATA = "THESIS_REPRO_DATA"
STORE = "THESIS_REPRO_STORE"
RESULTS = "THESIS_REPRO_RESULTS"

_ABOVE = Path(__file__).resolve().parents[2]


def named(variable: str) -> Path | None:
    """The folder that a variable of the environment names, with `~` expanded; None without one.

    Raises
    ------
    ValueError
        If the variable begins with `~user` and there is no such user.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{variable}={value!r}: nobody has this home folder") from None


def cache() -> Path:
    """The project's folder in the user's cache."""
    try:
        from platformdirs import user_cache_path
    except ImportError:  # an image made for GPUs may lack it; it is Linux, and this its rule
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "thesis-repro"
    return user_cache_path("thesis-repro")


def checkout() -> Path | None:
    """The checkout that this package lies in; None where it was installed from a wheel."""
    there = (_ABOVE / "pyproject.toml").is_file() and (_ABOVE / "book").is_dir()
    return _ABOVE if there else None


def results_root() -> Path:
    """$THESIS_REPRO_RESULTS, else results/ of the checkout, else of the working directory."""
    return named(RESULTS) or (checkout() or Path.cwd()) / "results"


def shipped() -> Path | None:
    """The recorded results that an installed package brings; None in a checkout."""
    there = _ABOVE / "thesis_repro" / "recorded"
    return there if checkout() is None and there.is_dir() else None


def recorded(name: str | Path) -> Path:
    """Where something recorded is read: under `results_root`, else as the package brings it.

    Where $THESIS_REPRO_RESULTS names a folder, what is not there is not recorded.

    Parameters
    ----------
    name : path of a file or folder, relative to the folder of results
    """
    own, brought = results_root() / name, shipped()
    if brought is None or named(RESULTS) is not None or own.exists():
        return own
    return brought / name if (brought / name).exists() else own
