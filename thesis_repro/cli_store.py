"""The commands ``thesis-repro data`` and ``thesis-repro store``: what lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="List, fetch and check data sets.", no_args_is_help=True)
store_app = typer.Typer(
    help="Take finished cells and checkpoints to another machine.", no_args_is_help=True
)

DataSet = Annotated[str, typer.Argument(help="A name as `thesis-repro data list` shows it.")]


@data_app.command("list")
def data_list() -> None:
    """List the data sets, and how to get those that are not here."""
    from thesis_repro import data

    for name in (*data.NAMES, *data.EXTRAS):
        where = "here" if data.available(name) else f"absent; {data.how_to_get(name)}"
        print(f"{name:14} {where}")


@data_app.command("fetch")
def data_fetch(name: DataSet) -> None:
    """Download a data set from its original source; a good copy is never overwritten."""
    from thesis_repro import data

    print(data.fetch(name))


@data_app.command("check")
def data_check(
    names: Annotated[list[str] | None, typer.Argument(help="Default: every set found.")] = None,
) -> None:
    """Compare the files of data sets with their hashes."""
    from thesis_repro import data

    for name in names or [name for name in data.NAMES if data.available(name)]:
        print(data.check(name))


@store_app.command("export")
def store_export(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    split: Annotated[
        str | None, typer.Option(help="Write FILE.001, … of this size: 700M, 2G.")
    ] = None,
) -> None:
    """Write all finished cells, and the checkpoints of unfinished ones, to one sealed file."""
    from thesis_repro.lab import transfer
    from thesis_repro.lab.store import Store

    files, moved = transfer.export(Store(), file, None if split is None else transfer.size(split))
    for part in files:
        print(f"{part} ({part.stat().st_size:,} bytes)")
    print(f"{moved.cells} finished cells, {moved.unfinished} with checkpoints")


@store_app.command("import")
def store_import(
    file: Annotated[Path, typer.Argument(help="The file, or its name without .001.")],
) -> None:
    """Take over what an export holds; what the store has already stays as it is."""
    from thesis_repro.lab import transfer
    from thesis_repro.lab.store import Store

    moved = transfer.take(Store(), file)
    there = f", {moved.there} were here already" if moved.there else ""
    print(f"{moved.cells} finished cells, {moved.unfinished} with checkpoints{there}")
