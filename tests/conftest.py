"""What several test files share: the project's folder, a small book, the rendered site."""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy one is not a fault of the code
settings.load_profile("any machine")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: numbers keep one order
os.environ.setdefault("THESIS_REPRO_JOBS", "1")  # the tests use the cores themselves


def pytest_configure(config: pytest.Config) -> None:
    """Hide a GPU from every test but those that are marked for one."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], threading.Thread]:
    """Starts work in a thread, and comes back when it is done or waits for a lock."""
    real = fcntl.flock

    def start(work: Callable[[], object]) -> threading.Thread:
        reached = threading.Event()

        def run() -> None:
            try:
                work()
            finally:
                reached.set()

        def flock(file: object, flags: int) -> None:
            if flags == fcntl.LOCK_EX and threading.current_thread() is thread:
                reached.set()
            real(file, flags)  # type: ignore[arg-type]

        monkeypatch.setattr(fcntl, "flock", flock)
        thread = threading.Thread(target=run)
        thread.start()
        assert reached.wait(60)
        return thread

    return start


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def site(root: Path) -> Path:
    """The rendered book; executes and renders what is not up to date."""
    from thesis_repro import publish

    return publish.build(root=root).parent


CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  name: python3
---

({name})=
# Chapter {name}

```{{code-cell}} ipython3
:tags: [parameters]
profile = "quick"
seed = 0
device = "cpu"
```

```{{code-cell}} ipython3
:tags: [nbval-check-output]
{code}
```
"""


@pytest.fixture
def small_book(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of one page and one chapter, with the project's own configuration and package."""
    book = tmp_path / "small"
    (book / "book").mkdir(parents=True)
    shutil.copy(root / "_config.yml", book)
    shutil.copytree(root / "book" / "_static", book / "book" / "_static")
    shutil.copytree(
        root / "thesis_repro", book / "thesis_repro", ignore=shutil.ignore_patterns("__pycache__")
    )
    (book / "tests").mkdir()
    shutil.copy(root / "tests" / "nbval_sanitize.cfg", book / "tests")
    (book / "book" / "references.bib").write_text("")
    (book / "book" / "index.md").write_text("# Front\n\nSee {doc}`one`.\n")
    (book / "book" / "one.md").write_text(CHAPTER.format(name="one", code="print(6 * 7 + seed)"))
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/one\n"
    )
    monkeypatch.chdir(book)
    monkeypatch.delenv("THESIS_REPRO_STORE", raising=False)
    return book
