"""Where chapters, pages and their checks run: an environment that is ours, not the user's.

What a variable, a start-up file, a profile or a settings file of the user could change in an
output is not inherited. So an executed chapter depends on what its key covers and on nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_repro.lab import locks, store, workers

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TMP", "TEMP"),
    *("XDG_CACHE_HOME", "XDG_DATA_HOME"),  # where data sets may lie; each is known by its hash
    "THESIS_REPRO_DATA",
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
)
"""Where things lie, and which devices there are. All else is set below or absent."""

# the last word: IPython reads a machine's settings too, and those of our profile go over them
PROFILE = """\
c.IPKernelApp.log_level = "CRITICAL"  # no word about transports
c.InteractiveShellApp.exec_PYTHONSTARTUP = False
c.InteractiveShellApp.exec_lines = []
c.InteractiveShellApp.exec_files = []
c.InteractiveShellApp.extensions = ["thesis_repro.figures.narrow"]
c.InlineBackend.figure_formats = {"png"}
c.InlineBackend.rc = {}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight"}
"""


def environment(root: Path, cells: Path, *, jobs: int) -> dict[str, str]:
    """Return the whole environment of what a build starts: threads, paths, language, backend.

    Parameters
    ----------
    root : Path
        The project's folder; settings of our own are written below its ``_build``.
    cells : Path
        The store of cells.
    jobs : int
        Chapters that run at a time: each gets its share of the cores.

    Raises
    ------
    ValueError
        A variable that we read holds no valid value, or a ``matplotlibrc`` in the project's
        folder would change the figures.
    OSError
        The build folder cannot be written.
    """
    if (root / "matplotlibrc").exists():
        raise ValueError("a matplotlibrc in the project's folder changes figures: move it away")
    settings = root / "_build" / "settings"
    profile = settings / "ipython" / "profile_default" / "ipython_kernel_config.py"
    store.write_atomic(profile, PROFILE.encode())
    values = {name: os.environ[name] for name in INHERITED if name in os.environ}
    values |= {
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": str(root),  # the package whose code the keys cover
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(settings / "matplotlib"),
        "IPYTHONDIR": str(settings / "ipython"),
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_CONFIG_DIR": str(settings / "jupyter"),
        "JUPYTER_DATA_DIR": str(settings / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(settings / "jupyter" / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "THESIS_REPRO_STORE": str(cells),
        "THESIS_REPRO_RESULTS": str(root / "results"),
        workers.JOBS_VARIABLE: str(max(1, workers.jobs() // jobs)),
    }
    if not locks.lockable(settings):  # the build has said so; a page is not the place for it
        values["PYTHONWARNINGS"] = f"ignore:{locks.NO_LOCKS.partition(':')[0]}"
    return values


def list_fonts(env: Mapping[str, str]) -> None:
    """Let matplotlib list the fonts once, so that no chapter has its word about it as an output."""
    if not list(Path(env["MPLCONFIGDIR"]).glob("fontlist*")):
        command = [sys.executable, "-c", "import matplotlib.font_manager"]
        subprocess.run(command, env=env, stderr=subprocess.DEVNULL, check=False)


def ended(command: Sequence[str], **how: Any) -> int:
    """Run a command and return its exit status; what it started ends with it, or with us.

    Parameters
    ----------
    how : as of `subprocess.Popen`

    Raises
    ------
    SystemExit
        Asked to end by SIGTERM; the command and its workers are ended before.
    """
    process = subprocess.Popen(command, start_new_session=True, **how)
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _leave) if ours else None
    try:
        return process.wait()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if ours:
            signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def pool(env: Mapping[str, str], size: int) -> ProcessPoolExecutor:
    """Return a pool of new processes, one for each task, in this environment."""
    return ProcessPoolExecutor(
        size,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_settle,
        initargs=(dict(env),),
        max_tasks_per_child=1,
    )


def _settle(env: dict[str, str]) -> None:
    """In the new process: drop what it inherited, before anything that reads it is imported."""
    os.environ.clear()
    os.environ.update(env)


def kernels() -> type[AsyncKernelManager]:
    """Return a manager that starts kernels with this interpreter, whatever ``python3`` means."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(resource_dir=str(RESOURCES), **get_kernel_dict())

    class OurKernel(AsyncKernelManager):
        """A kernel of this interpreter."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return OurKernel
