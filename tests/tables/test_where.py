"""From a table, or one of its rows, to its code."""

import inspect
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.experiments.gloro import vra
from thesis_repro.lab.profiles import profile
from thesis_repro.robustness import certifying
from thesis_repro.tables import find, where


@pytest.mark.parametrize("name", find.names())
def test_every_table_leads_to_its_spec_and_its_cells(name: str) -> None:
    places = where.places(name)
    kinds = [place.what for place in places]
    assert kinds[0] == "spec"
    assert kinds.count("cell") >= 1
    for place in places:
        lines = (Path(where.__file__).parents[2] / place.file).read_text("utf-8").splitlines()
        last = place.name.rpartition(".")[2]
        # a decorated class begins at its decorator
        assert any(last in line for line in lines[place.line - 1 : place.line + 3]), place


def test_a_cell_leads_to_the_science_that_it_calls() -> None:
    places = where.places("gloro-vra")
    (cell,) = (place for place in places if place.what == "cell")
    assert (cell.name, cell.line) == ("evaluate", inspect.getsourcelines(vra.evaluate)[1])
    science = {(place.name, place.module) for place in places if place.what == "science"}
    assert ("certify", certifying.__name__) in science


def test_a_row_leads_to_its_cells_alone() -> None:
    table = tables.get("gloro-training")
    made = {cell.function for _, cell in table.cells(profile("quick")) if cell is not None}
    assert set(where.cells(table)) >= made
    for row, cell in table.cells(profile("quick")):
        assert cell is not None
        assert where.cells(table, " / ".join(row)) == [cell.function]
    other = tables.get("membership-sets")
    rows = {where.cells(other, " / ".join(row))[0] for row, _ in other.cells(profile("quick"))}
    assert len(rows) == 2  # and each row has one of the two


def test_unknown_tables_and_rows_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="'gloro-vrs'; did you mean gloro-vra"):
        where.places("gloro-vrs")
    with pytest.raises(ValueError, match=r"no row is called 'MNIST / 0\.4.*; did you mean MNIST"):
        where.places("gloro-vra", "MNIST / 0.4 / GloRo 2C2F")
    with pytest.raises(ValueError, match="no table is called 'nets'"):
        tables.get("nets")
    with pytest.raises(ValueError, match="no table is called 'membership-arena'"):
        tables.get("membership-arena")
