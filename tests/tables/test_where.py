"""From a table, or one of its rows, to its code."""

import ast
import inspect
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.experiments.gloro import vra
from thesis_repro.figures import recorded
from thesis_repro.lab.code import MACHINERY
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.reach import Package
from thesis_repro.robustness import certifying
from thesis_repro.tables import find, records, where


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


def test_what_assembles_a_table_leads_to_its_formulas_too() -> None:
    places = where.places("leakage-property")
    (assembly,) = (place for place in places if place.what == "assembly")
    assert (assembly.name, assembly.module) == ("assemble", find.module_of("leakage-property"))
    found = {(place.what, place.name) for place in places}
    # no cell plays the games or tests a difference: the assembly does
    assert {("science", "play"), ("science", "by_threshold"), ("statistics", "mcnemar")} <= found
    assert "`assemble <thesis_repro.experiments.leakage.property:assemble>`" in where.links(
        tables.recorded("leakage-property")
    )
    assert "assembly" not in {place.what for place in where.places("gloro-vra")}


@pytest.mark.parametrize(
    ("name", "what", "formula"),
    [
        ("gloro-attainable", "cell", "measure"),  # the cell of a row asks another one
        ("gloro-frontier", "cell", "at_radii"),  # which lies in another table's file
        ("lipschitz-soundness", "science", "bound"),  # named in a dictionary of methods
        ("lipschitz-soundness", "science", "estimate"),
        ("certifiers-cost", "shared", "fastest"),  # in a file that two tables share
        ("certifiers-scaling", "shared", "measure"),
    ],
)
def test_what_a_cell_asks_for_is_found(name: str, what: str, formula: str) -> None:
    assert (what, formula) in {(place.what, place.name) for place in where.places(name)}
    if what == "cell":
        assert f":{formula}>`" in where.links(tables.recorded(name))


@pytest.fixture(scope="module")
def package() -> Package:
    """Every file is read once."""
    return Package(skip=MACHINERY)


@pytest.mark.parametrize("name", ["certifiers-cost", "certifiers-scaling", "gloro-overtrain"])
def test_the_files_that_cells_go_through_are_listed(name: str, package: Package) -> None:
    cells = [(f.__module__, f.__qualname__) for f in where.cells(tables.get(name))]
    reached = package.reach(cells).statements
    through = {
        module
        for module, statements in reached.items()
        if module.startswith(find.EXPERIMENTS)
        and any(isinstance(statement.node, ast.FunctionDef) for statement in statements)
    }
    assert through <= {place.module for place in where.places(name)}


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


def test_a_recorded_run_names_the_commits_that_made_it() -> None:
    spec = find.get("membership-dp").spec
    about = records.read(spec, "paper-cpu").provenance
    said = where.commits(records.read(spec, "paper-cpu"))
    assert said.startswith(f"`{about['commit'][:7]}`")
    assert all(kept["commit"][:7] in said for kept in about["kept"])
    lines = where.made_by("membership-dp")
    assert [line.split()[0] for line in lines] == records.runs(spec)
    assert about["commit"][:7] in lines[records.runs(spec).index("paper-cpu")]


def test_a_recorded_figure_leads_to_what_draws_it() -> None:
    for name in recorded.FIGURES:
        place = where.figure(recorded.script(name))
        source = (
            (Path(where.__file__).parents[2] / place.file).read_text().splitlines()[place.line - 1]
        )
        assert place.what == "figure" and source.startswith(f"def {name.partition('-')[2]}(")
