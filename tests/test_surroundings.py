"""Chapters run in an environment that is ours: nothing of the user's decides an output."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipykernel.kernelapp import IPKernelApp
from IPython.core import application
from jupyter_client.manager import AsyncKernelManager

from thesis_repro import publish
from thesis_repro.lab import locks, workers
from thesis_repro.publish import surroundings
from thesis_repro.publish.execute import ChapterFailed, _check_figures, validate
from thesis_repro.publish.execute import store as store_of
from thesis_repro.publish.render import RenderFailed, render
from thesis_repro.publish.render import _put as put_pages
from thesis_repro.publish.stage import _put as put_sources
from thesis_repro.publish.surroundings import INHERITED, environment

PAGE = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst, format_version: 0.13}
kernelspec: {name: python3, display_name: Python 3}
---

# Tiny

```{code-cell} ipython3
:tags: [parameters]
profile = "quick"
seed = 0
device = "cpu"
```

```{code-cell} ipython3
import builtins, locale, os, sys, time, warnings
import matplotlib.pyplot as plt

names = [n for n in os.environ if not n.startswith("JPY_")]
print({n: os.environ[n] for n in sorted(names) if n not in INHERITED})
print(sys.executable, sys.flags, sys.path, sys.warnoptions, len(warnings.filters))
print("leaked" in globals(), hasattr(builtins, "leaked"), hash("x"), time.tzname)
print(locale.setlocale(locale.LC_ALL, ""), plt.get_backend(), plt.rcParams["figure.figsize"])
config = dict(get_ipython().config)
config.pop("KernelApp", None); config["IPKernelApp"].pop("connection_file")
print(config)
```

```{code-cell} ipython3
plt.plot([0, 1], label="∂");
plt.title("t");
```
"""

KINDS = ("Python", "Jupyter", "matplotlib", "home", "torch", "threads", "language", "results")

RUN = """
import sys
from pathlib import Path
from thesis_repro.publish.execute import _all
from thesis_repro.publish.sources import Run
root = Path(sys.argv[1])
path = root / "tiny.ipynb"
sys.exit("; ".join(_all(root, Run(), {"book/tiny": path}, 1, lambda line: None)) or 0)
"""


@pytest.fixture
def tiny(root: Path, tmp_path: Path) -> Path:
    """A project of one small page."""
    project = tmp_path / "tiny {final} [1]"  # braces: papermill would fill them in
    (project / "book").mkdir(parents=True)
    (project / "thesis_repro").symlink_to(root / "thesis_repro")
    (project / "_toc.yml").write_text("format: jb-book\nroot: book/tiny\n")
    (project / "book" / "tiny.md").write_text(PAGE.replace("INHERITED", repr(INHERITED)))
    return project


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def hostile(folder: Path) -> dict[str, dict[str, str]]:
    """What may be found in a user's shell and home, by the library that reads it."""
    leak = "import builtins\nbuiltins.leaked = leaked = 1\n"
    figures = "figure.figsize: 2, 1\n"
    kernel = json.dumps({"argv": ["false"], "display_name": "x", "language": "python"})
    for base in ("jupyter", "home/.local/share/jupyter"):
        write(folder, f"{base}/kernels/python3/kernel.json", kernel)
    for base in ("ipython", "home/.ipython"):
        write(folder, f"{base}/profile_default/startup/00.py", leak)
        write(folder, f"{base}/profile_default/ipython_config.py", "c.InlineBackend.rc={'x':1}\n")
    write(folder, "home/.config/matplotlib/matplotlibrc", figures)
    write(folder, "path/sitecustomize.py", leak)
    return {
        "Python": {
            "PYTHONSTARTUP": write(folder, "startup.py", leak),
            "PYTHONPATH": str(folder / "path"),
            "PYTHONHASHSEED": "5",
            "PYTHONOPTIMIZE": "1",
            "PYTHONWARNINGS": "always",
            "PYTHONUTF8": "0",
        },
        "Jupyter": {
            "JUPYTER_PATH": str(folder / "jupyter"),
            "JUPYTER_DATA_DIR": str(folder / "jupyter"),
            "JUPYTER_PREFER_ENV_PATH": "0",
            "IPYTHONDIR": str(folder / "ipython"),
        },
        "matplotlib": {
            "MPLBACKEND": "Agg",
            "MATPLOTLIBRC": write(folder, "matplotlibrc", figures),
            "MPLCONFIGDIR": str(folder),
        },
        "home": {"HOME": str(folder / "home")},
        "torch": {"TORCH_LOGS": "+dynamo", "ATEN_CPU_CAPABILITY": "default"},
        "threads": {
            "OMP_NUM_THREADS": "3",
            "MKL_NUM_THREADS": "3",
            "OPENBLAS_NUM_THREADS": "3",
            "THESIS_REPRO_THREADS": "3",
        },
        "language": {"LANG": "C", "LC_ALL": "C", "TZ": "Asia/Tokyo", "COLUMNS": "40"},
        "results": {"THESIS_REPRO_RESULTS": str(folder), "THESIS_REPRO_STORE": str(folder)},
    }


def run(project: Path, root: Path, settings: dict[str, str]) -> subprocess.Popen[str]:
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {"THESIS_REPRO_JOBS": "1"} | settings
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [settings.get("PYTHONPATH"), str(root)]))
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(project)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(process: subprocess.Popen[str], project: Path) -> str:
    _, wrong = process.communicate()
    assert process.returncode == 0, wrong
    notebook = nbformat.read(project / "tiny.ipynb", as_version=4)
    return json.dumps(notebook.cells).replace(str(project), "ROOT")


def same_under(tiny: Path, root: Path, settings: dict[str, str]) -> None:
    other = tiny.with_name("other {final}")
    shutil.copytree(tiny, other, symlinks=True)
    projects = {tiny: {}, other: settings}
    processes = {project: run(project, root, env) for project, env in projects.items()}
    clean, under = (outputs(process, project) for project, process in processes.items())
    assert clean == under
    assert '"image/png"' in clean
    assert "False False" in clean


def test_a_chapter_is_the_same_under_every_hostile_setting_at_once(
    tiny: Path, root: Path, tmp_path: Path
) -> None:
    every = {name: v for kind in hostile(tmp_path).values() for name, v in kind.items()}
    same_under(tiny, root, every)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_chapter_is_the_same_under_one_kind(
    tiny: Path, root: Path, tmp_path: Path, kind: str
) -> None:
    same_under(tiny, root, hostile(tmp_path)[kind])


def test_the_environment_is_the_same_whatever_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = environment(tmp_path, tmp_path / "store", jobs=1)
    for kind, settings in hostile(tmp_path / "user").items():
        for name, value in settings.items():
            if name not in INHERITED:
                monkeypatch.setenv(name, value)
        environ = dict(os.environ)
        assert environment(tmp_path, tmp_path / "store", jobs=1) == before, kind
        assert dict(os.environ) == environ  # the caller's is left alone


def test_where_data_lie_and_which_devices_there_are_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"THESIS_REPRO_DATA": "/d", "CUDA_VISIBLE_DEVICES": "1", "PATH": "/bin"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TMPDIR", raising=False)
    env = environment(tmp_path, tmp_path, jobs=1)
    assert env.items() >= values.items()
    assert "TMPDIR" not in env


def test_chapters_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for jobs in (1, 2, 8):
        monkeypatch.setenv(workers.JOBS_VARIABLE, "4")
        shares.append(environment(tmp_path, tmp_path, jobs=jobs)[workers.JOBS_VARIABLE])
    assert shares == ["4", "2", "1"]


def test_settings_of_figures_in_the_projects_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").touch()
    with pytest.raises(ValueError, match="a matplotlibrc in the project's folder"):
        environment(tmp_path, tmp_path, jobs=1)


def test_pages_and_checks_run_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def note(command: list[str], **options: dict[str, str]) -> subprocess.CompletedProcess[str]:
        seen.append(options["env"])
        return subprocess.CompletedProcess(command, 1, stdout="ERROR: not rendered")

    monkeypatch.setenv("PYTHONSTARTUP", "x.py")
    monkeypatch.setattr(subprocess, "run", note)
    ended = lambda *words, **how: note(*words, **how).returncode  # noqa: E731
    monkeypatch.setitem(validate.__globals__, "ended", ended)
    assert validate(tmp_path, jobs=1) == 1
    with pytest.raises(RenderFailed):
        render(tmp_path, "key", say=lambda line: None)
    checked, rendered = seen
    assert rendered == environment(tmp_path, store_of(tmp_path), jobs=1)
    assert checked == rendered | {"THESIS_REPRO_STORE": checked["THESIS_REPRO_STORE"]}
    assert checked["THESIS_REPRO_STORE"] != rendered["THESIS_REPRO_STORE"]


def test_kernels_are_of_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in hostile(tmp_path)["Jupyter"].items():
        monkeypatch.setenv(name, value)
    manager = surroundings.kernels()(kernel_name="python3")
    assert manager.kernel_spec.argv[0] == sys.executable
    assert "false" in AsyncKernelManager(kernel_name="python3").kernel_spec.argv


def test_settings_of_the_machine_do_not_reach_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        "etc/ipython_config.py",
        "c.InteractiveShellApp.exec_lines = ['leaked = 1']\n"
        "c.InteractiveShellApp.exec_files = ['leak.py']\n"
        "c.InteractiveShellApp.extensions = ['leak']\n"
        "c.InlineBackend.rc = {'figure.figsize': (2, 1)}\n",
    )
    monkeypatch.setattr(application, "SYSTEM_CONFIG_DIRS", [str(tmp_path / "etc")])
    env = environment(tmp_path, tmp_path, jobs=1)

    def config(ipython: Path) -> dict[str, Any]:
        monkeypatch.setenv("IPYTHONDIR", str(ipython))
        kernel = IPKernelApp(auto_create=True)
        kernel.init_profile_dir()
        kernel.init_config_files()
        kernel.load_config_file()
        return dict(kernel.config)

    theirs = config(tmp_path / "theirs")
    assert theirs["InteractiveShellApp"]["exec_lines"] == ["leaked = 1"]
    ours = config(Path(env["IPYTHONDIR"]))
    assert ours["InlineBackend"]["rc"] == {}
    own = ours["InteractiveShellApp"]
    assert own.pop("extensions") == ["thesis_repro.figures.narrow"]
    assert not any(own.values())


# a figure that gave no picture


def notebook(source: str, kind: str | None, figure: bool) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(source, execution_count=3)
    if figure:
        cell.metadata["mystnb"] = {"figure": {"name": "fig-x"}}
    if kind:
        cell.outputs = [nbformat.v4.new_output("display_data", {kind: "x", "text/plain": "x"})]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("figures.x()"), cell])


@pytest.mark.parametrize("kind", ["image/png", "image/svg+xml"])
def test_a_figure_with_its_picture_passes(kind: str) -> None:
    _check_figures(notebook("figures.toy();", kind, True))


def test_a_cell_that_only_names_figures_needs_none() -> None:
    _check_figures(notebook("alt = figures.alt()\nshow(figures.alt())", None, False))


@pytest.mark.parametrize(
    ("source", "figure"), [("figures.toy();", False), ("draw()", True), ("x\nfigures.a(b,", False)]
)
@pytest.mark.parametrize("kind", [None, "text/html"])
def test_a_figure_without_a_picture_fails_its_chapter(
    source: str, figure: bool, kind: str | None
) -> None:
    with pytest.raises(ChapterFailed, match="cell 3 draws a figure and gave no picture"):
        _check_figures(notebook(source, kind, figure))


# file systems without locks


def no_locks(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSYS) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_pages_hold_no_word_about_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PYTHONWARNINGS" not in environment(tmp_path, tmp_path, jobs=1)
    no_locks(monkeypatch)
    env = environment(tmp_path, tmp_path, jobs=1)
    code = f"import warnings; warnings.warn({locks.NO_LOCKS!r}); warnings.warn('another')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert "locks" not in done.stderr
    assert "another" in done.stderr


def test_a_build_without_locks_says_so_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch)
    said: list[str] = []
    with publish._one_at_a_time(tmp_path, said.append):
        pass
    assert said == [locks.NO_LOCKS]


def test_a_second_build_waits_for_the_first(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        def say(line: str) -> None:
            said.append(line)
            waiting.set()

        with publish._one_at_a_time(tmp_path, say):
            order.append("second")

    thread = threading.Thread(target=second)
    with publish._one_at_a_time(tmp_path, said.append):
        thread.start()
        assert waiting.wait(10)
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["another build is running; waiting for it"]


# moving into place: killed before any step, the next run makes it whole


class Killed(BaseException):
    """What ends a process at once."""


@pytest.mark.parametrize("place", ["stage", "render"])
def test_a_kill_at_any_step_leaves_old_or_new_and_the_next_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def put(folder: Path, text: str) -> None:
        """Lay out a tree of two files."""
        if place == "stage":
            put_sources(folder / "tree", {"a": text.encode(), "b": text.encode()})
            return
        new = folder / "work"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for name in "ab":
            (new / name).write_text(text)
        put_pages(new, folder / "tree", text)

    def half_done(name: str, path: Path) -> None:
        """What a kill leaves of a file that was being written or a folder being removed."""
        if name == "write_bytes":
            path.write_text("half")
        elif name == "rmtree":
            (path / "a").unlink(missing_ok=True)

    def state(folder: Path) -> set[str]:
        return {(folder / "tree" / n).read_text() for n in "ab" if (folder / "tree").exists()}

    steps = 0
    for kill_at in range(40):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        put(folder, "old")
        steps = 0

        def counted(name: str, real: Callable[..., Any], at: int = kill_at) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == at + 1:
                    half_done(name, arguments[0])
                    raise Killed
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for owner, name in (
                (Path, "rename"),
                (Path, "write_bytes"),
                (Path, "mkdir"),
                (shutil, "rmtree"),
            ):
                patched.setattr(owner, name, counted(name, getattr(owner, name)))
            try:
                put(folder, "new")
            except Killed:
                pass
            else:
                break
        assert state(folder) in ({"old"}, {"new"}, set())
        put(folder, "new")
        assert state(folder) == {"new"}
        assert {path.name for path in folder.iterdir()} <= {"tree", "work"}
    assert steps >= 5  # some were killed, and at last one ran through


def test_a_disk_that_is_full_while_staging_keeps_the_old_tree_and_frees_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_sources(tmp_path / "source", {"a": b"old"})
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        put_sources(tmp_path / "source", {"a": b"new", "b": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert (tmp_path / "source" / "a").read_bytes() == b"old"


WORKER = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
STARTS = f"""
import subprocess, sys
from thesis_repro.publish.surroundings import ended
worker = [sys.executable, "-c", {WORKER!r}]
starts = f"import subprocess; subprocess.run({{worker!r}})"
ended([sys.executable, "-c", starts])
"""


def running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_workers_of_a_check_end_with_it_when_it_is_asked_to():
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE) as check:
        worker = int(check.stdout.readline())
        assert running(worker)
        check.terminate()
        assert check.wait(60) == 128 + signal.SIGTERM
        for _ in range(600):
            if not running(worker):
                break
            time.sleep(0.1)
        assert not running(worker)


def test_the_status_of_a_command_is_returned():
    before = signal.getsignal(signal.SIGTERM)
    assert surroundings.ended([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert signal.getsignal(signal.SIGTERM) == before
