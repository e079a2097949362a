"""Where a result came from: code, packages, device, date. Nothing that names a machine."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from thesis_repro.lab import threads

PACKAGES = ("thesis-repro", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas")
FIELDS = ("date", "commit", "clean", "device", "threads", "python", "packages")


def collect(device: str, repository: Path | None) -> dict[str, Any]:
    """Describe the code, the environment and the device of a run.

    Parameters
    ----------
    device : "cpu" or "cuda"
    repository : folder of the project's checkout; None outside one

    Returns
    -------
    dict
        date (ISO, UTC), commit and clean (None outside a checkout), device (a product name),
        threads per cell, python, packages (name to version).
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _git(repository, "rev-parse", "HEAD"),
        "clean": _clean(repository),
        "device": device_name(device),
        "threads": threads.threads(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def device_name(device: str) -> str:
    """The product name of the device: a GPU's, or the processor's; empty where there is no GPU."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(repository: Path | None, *arguments: str) -> str | None:
    if repository is None:  # git would answer for whatever lies around the package
        return None
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=repository, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _clean(repository: Path | None) -> bool | None:
    """Whether tracked code is unchanged; recorded results themselves do not count."""
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no", "--", ":!results")
    return None if changes is None else changes == ""
