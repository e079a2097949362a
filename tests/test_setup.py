"""Setting up: pip's settings of the user, file systems, the stamp; and make's variables."""

import errno
import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def setup(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, with a project of its own that is not installed."""
    spec = importlib.util.spec_from_file_location("setup_venv", root / "tools" / "setup_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("as before")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    return module


def test_old_python_is_refused_in_one_line(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "NEEDED", (9, 0))
    with pytest.raises(SystemExit) as stop:
        setup.main()
    assert "3.11 or newer is needed" in str(stop.value)


def test_the_stamp_changes_with_the_pins_and_the_needs(setup: ModuleType, tmp_path: Path) -> None:
    names = []
    for change in (None, "requirements.lock", "pyproject.toml"):
        for name in ("requirements.lock", "pyproject.toml"):
            (tmp_path / name).write_text("changed" if name == change else "as before")
        names.append(setup.stamp_name(str(tmp_path)))
    assert len(set(names)) == 3
    assert not setup.works(str(tmp_path / "no-python"))
    assert setup.works(sys.executable)


def test_pip_keeps_where_packages_come_from_and_nothing_that_says_where_they_go(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nuser = yes\nroot = /elsewhere\nindex-url = https://a.example/simple\n"
        "extra-index-url =\n  https://b.example/simple\n  https://c.example/simple\n"
        "cert = /global.pem\n[install]\nno-deps = yes\nprefix = /elsewhere\ncert = /install.pem\n"
        "[download]\nproxy = http://not.example\n"
    )
    hostile = {
        "PIP_CONFIG_FILE": str(settings),
        "PIP_TARGET": "/elsewhere",
        "PIP_PREFIX": "/elsewhere",
        "PIP_DRY_RUN": "1",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_PROXY": "http://proxy.example",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": "/x.py",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    env = setup.pip_environment(sys.executable)
    assert not [name for name in env if name.startswith("PYTHON")]
    assert env["PATH"] == os.environ["PATH"]
    command = [sys.executable, "-m", "pip", "config", "list"]
    seen = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    lines = dict(line.split("=", 1) for line in seen.splitlines())
    found = {name.removeprefix(":env:."): value.strip("'") for name, value in lines.items()}
    for ours in ("config-file", "user"):
        found.pop(ours, None)
    # what the machine itself sets stays too
    assert (
        found.items()
        >= {
            "index-url": "https://a.example/simple",
            "extra-index-url": "\\nhttps://b.example/simple\\nhttps://c.example/simple",
            "cert": "/install.pem",
            "proxy": "http://proxy.example",
        }.items()
    )
    assert set(found) <= set(setup.KEPT)
    assert env["PIP_USER"] == "0"


def test_a_module_on_the_path_of_the_user_is_not_taken_for_pip(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert setup.works(sys.executable)


@pytest.fixture
def began(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots that an installation was begun for; nothing is installed."""
    roots: list[str] = []
    monkeypatch.setattr(setup, "install", roots.append)
    return roots


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_is_set_up_with_one_line(
    setup: ModuleType,
    began: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    setup.main()
    assert began == [setup.ROOT]
    assert capsys.readouterr().err == (
        "this file system has no locks: do not run make twice at a time\n"
    )


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_checkout_that_cannot_be_written_is_one_line(
    setup: ModuleType, began: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = open

    def refuse(path: str, mode: str = "r") -> object:
        if "w" in mode:
            raise OSError(code, os.strerror(code), path)
        return real(path, mode)

    monkeypatch.setattr(setup, "open", refuse, raising=False)
    with pytest.raises(SystemExit) as stop:
        setup.main()
    assert str(stop.value).startswith("set-up stopped: ")
    assert os.strerror(code) in str(stop.value)
    assert "\n" not in str(stop.value)
    assert began == []
    # one that was set up before needs no writing
    venv = Path(setup.ROOT) / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / setup.stamp_name(setup.ROOT)).touch()
    monkeypatch.setattr(setup, "works", lambda python: True)
    setup.main()
    assert began == []


def test_variables_of_the_user_do_not_choose_what_make_computes(root: Path) -> None:
    hostile = {"PROFILE": "paper", "DEVICE": "cuda", "SEED": "7", "OMP_NUM_THREADS": "8"}
    hostile |= {"PYTHONOPTIMIZE": "2", "PYTHONPATH": "/x", "PYTEST_ADDOPTS": "-k nothing"}

    def shown(*arguments: str) -> str:
        command = ["make", "-n", "-o", "setup", *arguments]
        done = subprocess.run(
            command, cwd=root, env=os.environ | hostile, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "book build --profile quick --device cpu --seed 0\n" in shown("book")
    asked = shown("book", "PROFILE=paper", "DEVICE=cuda", "SEED=3")
    assert "book build --profile paper --device cuda --seed 3\n" in asked
    # what a recipe inherits
    names = [name for name in hostile if name.startswith(("PYTHON", "PYTEST", "OMP"))]
    makefile = f"include {root}/Makefile\nprobe:\n\t@env\n"
    done = subprocess.run(
        ["make", "-f", "-", "probe"],
        input=makefile,
        cwd=root,
        env=os.environ | hostile,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: seen.get(name) for name in names} == {
        "OMP_NUM_THREADS": "1",
        "PYTHONOPTIMIZE": None,
        "PYTHONPATH": None,
        "PYTEST_ADDOPTS": None,
    }
