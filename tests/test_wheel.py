"""The package as others get it, outside a checkout: a wheel; the notebooks and their source."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import jupytext
import nbformat
import pytest

from thesis_repro import publish
from thesis_repro.publish import export

ROOT = Path(__file__).resolve().parent.parent
TAKEN = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")

WALK = """
import contextlib, io, pathlib, runpy, sys
import thesis_repro
from thesis_repro import cli

here = pathlib.Path.cwd()
package = pathlib.Path(thesis_repro.__file__).parent
assert sys.prefix in str(package), package
before = sorted(package.rglob("*"))


def call(line, status=0):
    sys.argv = ["thesis-repro", *line.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    assert code == status, (line, code, out.getvalue(), err.getvalue())
    assert "Traceback" not in err.getvalue()
    return out.getvalue() + err.getvalue()


assert "certify" in call("--help")
assert "mnist-5k" in call("doctor")
assert "paper-" in call("tables")
assert call("table gloro-vra").count("|") > 20
assert "hash confirmed" in call("table gloro-vra --check")
assert "gloro/vra.py" in call("where gloro-vra")
from thesis_repro.tables import headlines
assert [headlines.headline(chapter).verdict for chapter in headlines.lines()]
assert "run this inside a checkout" in call("book build", 1)
said = call("certify mnist-2c2f-gloro mnist-5k --points 40 --out own.json --csv own.csv")
assert "of 40 points certified" in said and "right in all" in said
assert "0 contradicted" in call("verify own.json --model mnist-2c2f-gloro --data mnist-5k")
assert len((here / "own.csv").read_text().splitlines()) == 41
run = call("run lipschitz-soundness")
recorded = here / "results" / "lipschitz-soundness" / "quick.csv"
assert recorded.is_file(), run
assert "hash confirmed" in call("table lipschitz-soundness --check")
for program in sorted((here / "examples").iterdir()):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runpy.run_path(str(program))
    assert said.getvalue(), program
after = [p for p in package.rglob("*") if "__pycache__" not in str(p)]
assert not set(after) - set(before), "something was written beside the package"
print("walked")
"""


def run(command: list[str | Path], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves its own files in the tree that it builds."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in TAKEN:
        shutil.copy(ROOT / name, tree)
    for name in ("thesis_repro", "results"):
        shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    left = tree / "build" / "lib" / "thesis_repro" / "recorded" / "gone-table"  # by another build
    left.mkdir(parents=True)
    (left / "quick.csv").touch()
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run([*pip, "-w", out, tree])
    (found,) = out.glob("*.whl")
    return found


def environment(folder: Path, seen: bool) -> Path:
    """A new environment; returns its Python. `seen`: the packages of this one are seen from it."""
    venv.create(folder, with_pip=not seen)
    python = folder / "bin" / "python"
    if seen:
        site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def alone(folder: Path) -> dict[str, str]:
    """The variables that an installed package is started with, in a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("THESIS_REPRO", "PYTHON"))}
    return {**kept, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}


EXAMPLES = ("own_data", "relaxed_sets")
"""Programs of the page "Use it on your own net", which says that a package is enough for them."""


def walk(python: Path, folder: Path) -> str:
    (folder / "examples").mkdir(parents=True)
    for name in EXAMPLES:
        shutil.copy(ROOT / "examples" / f"{name}.py", folder / "examples")
    return run([python, "-I", "-c", WALK], cwd=folder, env=alone(folder))


def test_a_wheel_brings_the_package_and_what_is_recorded(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("gloro-vra/quick.csv", "published.csv", "models/mnist-2c2f-gloro.safetensors"):
        assert f"thesis_repro/recorded/{name}" in names
    recorded = {p.relative_to(ROOT / "results").as_posix() for p in (ROOT / "results").rglob("*")}
    brought = {n.removeprefix("thesis_repro/recorded/") for n in names if "/recorded/" in n}
    assert brought <= recorded
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"thesis_repro"}


def test_installed_without_a_checkout_all_of_it_works(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", seen=True)
    target = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target]
    run([*pip, wheel])
    assert walk(python, tmp_path / "work").endswith("walked\n")


@pytest.mark.slow
def test_a_clean_environment_resolves_what_the_wheel_needs(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", seen=False)
    run([python, "-m", "pip", "install", "-q", wheel])
    assert walk(python, tmp_path / "work").endswith("walked\n")


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader unpacks, with the archive of the source beside the notebooks."""
    folder = tmp_path_factory.mktemp("taken")
    (folder / export.SOURCE).write_bytes(export.source(ROOT))
    for docname in publish.chapters(ROOT):
        notebook = jupytext.read(ROOT / f"{docname}.md", fmt="md:myst")
        path = folder / f"{docname.rpartition('/')[2]}.ipynb"
        nbformat.write(export.exported(notebook, docname, {}), path)
    return folder


@pytest.mark.slow
def test_the_first_cell_installs_what_every_notebook_needs(notebooks: Path, tmp_path: Path) -> None:
    """Some 6 GB of packages, then every chapter on the quick profile in an empty store."""
    python = environment(tmp_path / "env", seen=False)
    paths = sorted(notebooks.glob("*.ipynb"))
    first = nbformat.read(paths[0], as_version=4).cells[0].source
    (wanted,) = re.findall(r'^pip install "(.*)"$', first, re.MULTILINE)
    run([python, "-m", "pip", "install", "-q", wanted, "papermill", "ipykernel"], cwd=notebooks)
    fell = {}
    for path in paths:
        command = [python, "-m", "papermill", "-k", "python3", "--no-progress-bar", path.name]
        done = subprocess.run(
            [*command, f"done-{path.name}"],
            cwd=notebooks,
            env=alone(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            fell[path.stem] = done.stderr[-2000:]
    assert fell == {}
    assert len(paths) == len(publish.chapters(ROOT))


def test_what_the_notebooks_are_installed_with_is_an_extra_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(export.EXTRAS.split(",")) <= set(project["optional-dependencies"])
