"""The command ``thesis-repro``.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once. An error
is one line on standard error and a non-zero exit; ``--debug``, anywhere on the line, shows where
it came from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from thesis_repro import __version__
from thesis_repro.cli_nets import nets_app
from thesis_repro.cli_store import data_app, store_app
from thesis_repro.lab import timebox

app = typer.Typer(
    help="Run, check and cite the experiments of the executable thesis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
book_app = typer.Typer(
    help="Build the book, or check the one that was built.", no_args_is_help=True
)
app.add_typer(nets_app)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.add_typer(book_app, name="book")

Profile = Annotated[str, typer.Option(help="quick (what ships, minutes) or paper.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Tables = Annotated[list[str], typer.Argument(help="Names as `thesis-repro tables` lists them.")]
Minutes = Annotated[float | None, typer.Option(help="End before; give it again to go on.")]


def main() -> None:
    """Run the command; turn an error into one line."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="thesis-repro")
    except timebox.Unfinished as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        sys.exit(timebox.EXIT)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        if debug:
            raise
        print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Run, check and cite the experiments of the executable thesis."""


@app.command()
def doctor() -> None:
    """Say what is installed, which devices there are, and which data sets were found."""
    import platform
    from importlib.metadata import PackageNotFoundError, version
    from os import cpu_count

    print(f"thesis-repro {__version__}, Python {platform.python_version()}, {platform.system()}")
    for extra, names in {
        "needed": ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "mlxtend"),
        "book": ("jupyter-book", "papermill", "jupytext"),
        "test": ("pytest", "nbval", "playwright"),
        "cluster": ("dask", "distributed"),
        "captum": ("captum",),
        "dp": ("opacus",),
        "onnx": ("onnx", "onnxscript"),
    }.items():
        found = []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                found.append(f"{name} absent")
        print(f"{extra}: {', '.join(found)}")
    try:
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        print(f"devices: cpu ({cpu_count()} cores){''.join(f', cuda ({name})' for name in gpus)}")
    except ImportError as error:
        print(f"devices: torch does not import: {error}")
    from thesis_repro import data
    from thesis_repro.lab.store import default_root

    print(f"data: {', '.join(n for n in data.NAMES if data.available(n)) or 'none found'}")
    print(f"store: {default_root()}")


@app.command("tables")
def tables_list() -> None:
    """List the tables, with their recorded runs."""
    from thesis_repro import tables
    from thesis_repro.tables import records

    for name in tables.names():
        spec = tables.get(name).spec
        runs = ", ".join(records.runs(spec)) or "not recorded"
        print(f"{name:24} {runs:24} {spec.caption}")


@app.command()
def run(
    names: Tables,
    profile: Profile = "quick",
    device: Device = "cpu",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many; default: the profile's.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler: tcp://HOST:PORT.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Cells computed at a time; a timed table takes one.")
    ] = 1,
    minutes: Minutes = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what was computed before.")
    ] = False,
    finished: Annotated[
        bool, typer.Option("--finished", help="Compute nothing: record the rows that are done.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="Compute the rows that hold this text; keep the others.")
    ] = None,
) -> None:
    """Compute tables and record them under results/; goes on where it was stopped."""
    from thesis_repro import tables
    from thesis_repro.lab.profiles import profile as make_profile
    from thesis_repro.tables.running import record_all

    chosen = make_profile(profile, device, None if seeds is None else tuple(range(seeds)))
    for name in names:
        tables.get(name)
    if fresh and finished:
        raise ValueError("--fresh forgets what --finished would record: give one of the two")
    options = {"scheduler": scheduler, "jobs": jobs, "fresh": fresh, "finished": finished}
    for frame in record_all(names, chosen, minutes, only=only, **options):
        print(tables.text(frame, "md"))


@app.command()
def evidence(
    device: Device = "cuda",
    minutes: Minutes = None,
    plan: Annotated[Path | None, typer.Option(help="A CSV file; default: our own plan.")] = None,
) -> None:
    """Work down the plan of rows at full scale, the most worth first; skips what is recorded."""
    from thesis_repro.experiments import evidence as lines

    ends = lines.work_down(lines.read(plan), device, minutes, _say)
    raise typer.Exit(any(end.startswith(lines.FAILED) for end in ends.values()))


@app.command()
def table(
    name: Annotated[
        str | None, typer.Argument(help="A name as `thesis-repro tables` lists it.")
    ] = None,
    format: Annotated[str, typer.Option(help="md, csv, latex, json or bibtex.")] = "md",
    check: Annotated[bool, typer.Option("--check", help="Recompute the recorded hashes.")] = False,
    key: Annotated[
        str | None, typer.Option(help="A citation key, of this release or an earlier one.")
    ] = None,
) -> None:
    """Print a recorded table, by name or by key, or check that nobody altered it."""
    from thesis_repro import tables
    from thesis_repro.tables import superseded

    if (name is None) == (key is None):
        raise ValueError("give either the name of a table or --key KEY")
    if key is not None:
        found = superseded.resolve(key)
        if isinstance(found, superseded.Superseded):
            print(found)
            return
        print("\n".join(tables.check(found.spec.name)) if check else tables.text(found, format))
        return
    assert name is not None
    if check:
        print("\n".join(tables.check(name)))
    else:
        print(tables.text(tables.recorded(name), format).rstrip())


@app.command()
def where(
    name: Annotated[str, typer.Argument(help="A name as `thesis-repro tables` lists it.")],
    row: Annotated[str | None, typer.Argument(help='Its keys: "key / key". Default: all.')] = None,
) -> None:
    """Print where a table is specified, what makes its rows, and the formulas that this calls.

    The lines are those of the code as it stands; runs are named with the commits that made them.
    The name of a recorded figure gives the function that draws it.
    """
    from thesis_repro import tables
    from thesis_repro.figures import recorded
    from thesis_repro.tables import where as lines

    drawn = name in recorded.FIGURES and row is None
    if drawn:
        print(lines.figure(recorded.script(name)))
    if not drawn or name in tables.names():
        print("\n".join([*map(str, lines.places(name, row)), *lines.made_by(name)]))


@book_app.command("build")
def book_build(
    profile: Profile = "quick",
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Where randomness starts.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters executed at a time.")] = 2,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Execute everything again, in an empty store.")
    ] = False,
) -> None:
    """Execute the chapters that changed and render the pages; prints the page to open."""
    from thesis_repro import publish
    from thesis_repro.lab.profiles import profile as make_profile

    make_profile(profile, device, seed)  # refuses an unknown name before anything is executed
    print(publish.build(publish.Run(profile, seed, device), fresh=fresh, jobs=jobs, say=_say))


@book_app.command("check")
def book_check(
    jobs: Annotated[int, typer.Option(min=1, help="Chapters executed at a time.")] = 2,
) -> None:
    """Read the pages for faults, and execute every chapter again, comparing its outputs."""
    from thesis_repro import publish

    raise typer.Exit(publish.check(jobs=jobs, say=_say))


@book_app.command("pdf")
def book_pdf() -> None:
    """Print the rendered book as one PDF; needs Chromium. Prints the file's path."""
    from thesis_repro import publish
    from thesis_repro.publish import paper

    print(paper.pdf(publish.find_root(), say=_say))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
