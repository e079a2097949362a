"""What the package asks of a machine that only computes: no more than the numerical libraries."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

NEEDED = {
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "statsmodels",
    "safetensors",
    "typer",
    "tqdm",
    "joblib",
    "threadpoolctl",  # scikit-learn needs it
    "packaging",  # statsmodels needs it
}
"""What images for GPUs have."""

MODULES = {
    "beautifulsoup4": "bs4",
    "ipython": "IPython",
    "markdown-it-py": "markdown_it",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
"""Names of modules that differ from those of their packages."""

PROGRAM = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Absent())
import thesis_repro
from pathlib import Path
from thesis_repro.lab import places

folder = Path(thesis_repro.__file__).parent
for path in sorted(folder.rglob("*.py")):
    name = ".".join(["thesis_repro", *path.relative_to(folder).with_suffix("").parts])
    name = name.removesuffix(".__init__")
    if not {"figures", "moving", "publish"} & set(name.split(".")):
        importlib.import_module(name)
print(len(sys.modules), places.cache())
"""


def test_modules_import_with_the_numerical_libraries_alone(root: Path, tmp_path: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *chain.from_iterable(project["optional-dependencies"].values()),
    ]
    names = {re.match(r"[\w-]+", need)[0].lower() for need in listed}
    blocked = sorted(MODULES.get(n, n.replace("-", "_")) for n in names - NEEDED)
    assert {"platformdirs", "mlxtend", "dask", "captum", "opacus", "matplotlib"} <= set(blocked)
    done = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {blocked!r}\n{PROGRAM}"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{tmp_path / 'thesis-repro'}\n")
