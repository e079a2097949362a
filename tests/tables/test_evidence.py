"""The evidence plan: what it skips, refuses and fits in, and what it says."""

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from thesis_repro import cli, tables
from thesis_repro.experiments import evidence
from thesis_repro.experiments.evidence import ABSENT, OPEN, RECORDED, SHORT, Item
from thesis_repro.lab import estimates, places, provenance, timebox
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.lab.store import Store
from thesis_repro.tables import find, records
from thesis_repro.tables.spec import NOT_RUN, Column, Plan, Table, TableSpec
from thesis_repro.tables.verdict import judge_all

HEADER = "table,only,seeds,seconds,basis\n"


@dataclass(frozen=True)
class Recipe:
    epochs: int
    epochs_paper: int
    seed: int


@dataclass(frozen=True)
class Config:
    net: str
    recipe: Recipe
    device: str = "cpu"


def trained(config: Config) -> Result:
    """Cell: a training in name."""
    recipe = config.recipe
    if config.net == "broken":
        raise RuntimeError("no luck")
    about = {"epochs_run": recipe.epochs, "epochs_paper": recipe.epochs_paper}
    return Result({"x": float(recipe.seed), **about})


EPOCHS = {"full": 80, "quarter": 20, "short": 19, "broken": 80}


def cells(chosen: Profile) -> Plan:
    return [
        ((net, "way"), Cell(trained, Config(net, Recipe(epochs, 80, seed))))
        for net, epochs in EPOCHS.items()
        for seed in chosen.seeds
    ]


TABLE = Table(
    TableSpec(
        name="sample-trained",
        caption="Trained in name.",
        chapter="robustness/gloro",
        keys=(Column("net", "net", kind="key"), Column("way", "way", kind="key")),
        columns=(Column("x", "x"),),
        rows=tuple((net, "way") for net in (*EPOCHS, "absent")),
    ),
    cells,
)


@pytest.fixture(autouse=True)
def _trained(sample: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(TABLE=TABLE)
    monkeypatch.setitem(sys.modules, "sample_experiments.sample.trained", here)
    monkeypatch.setattr(provenance, "_git", lambda *_: None)


def item(only: str, seeds: int = 1, seconds: float = 600.0) -> Item:
    return Item("sample-trained", only, seeds, seconds)


def state(only: str, seeds: int = 1) -> str:
    return evidence.standing(item(only, seeds), evidence.size(item(only, seeds), "cpu"))


def work(*items: Item, minutes: float | None = None) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    return evidence.work_down(items, "cpu", minutes, said.append), said


def test_a_row_runs_at_a_quarter_of_the_published_training_or_not_at_all() -> None:
    assert [state(net) for net in EPOCHS] == [OPEN, OPEN, SHORT, OPEN]
    assert state("") == SHORT  # the whole table holds a short row
    assert state("absent") == ABSENT
    ends, said = work(item("short"), item("absent"))
    assert ends == {
        "sample-trained short, 1 seed": (
            "not run: trained for less than 25% of the published epochs"
        ),
        "sample-trained absent, 1 seed": (
            "not run: its data is not here (thesis-repro data list), or not for this device"
        ),
    }
    assert (
        said[-1] == "summary: 0 done now, 0 recorded before, 0 left, 0 failed, 2 not to be run here"
    )
    assert not Store().root.exists()


def test_what_is_recorded_is_skipped_and_more_seeds_are_not() -> None:
    work(item("full"))
    assert state("full") == RECORDED
    assert state("full", 3) == state("quarter") == OPEN
    ends, said = work(item("full"), item("full", 3), item("quarter"))
    assert [end.split(",")[0] for end in ends.values()] == [
        "recorded already at full scale",
        "recorded now",
        "recorded now",
    ]
    assert "plan: sample-trained full, 1 seed: recorded already at full scale" in said
    assert "plan: sample-trained full, 3 seeds: about 0 min" in said  # as the first item showed
    assert state("full", 3) == state("quarter") == RECORDED
    frame = tables.recorded("sample-trained")
    assert [frame.value((net, "way"), "x") for net in ("full", "quarter")] == [1.0, 0.0]


def test_a_recorded_row_that_was_trained_too_briefly_counts_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(EPOCHS, "full", 10)
    tables.record("sample-trained", profile("paper", "cpu", (0,)), only="full", progress=False)
    assert state("full") == SHORT
    monkeypatch.setitem(EPOCHS, "full", 80)
    assert state("full") == OPEN


def long_cells(monkeypatch: pytest.MonkeyPatch, *items: Item) -> list[object]:
    """Let the cells of items be known to take ten minutes: the list of their work."""
    slow = [
        cell.work
        for one in items
        for found in evidence.rows(one, evidence.size(one, "cpu")).values()
        for cell in found
    ]
    monkeypatch.setattr(estimates, "estimate", lambda store, work: 600.0 if work in slow else None)
    return slow


def test_what_does_not_fit_is_passed_over_and_an_error_ends_its_item_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    long_cells(monkeypatch, item("full"))
    items = [item("full", seconds=600), item("broken", seconds=6), item("quarter", seconds=6)]
    with pytest.raises(timebox.Unfinished) as caught:
        evidence.work_down(items, "cpu", 1.0, said.append)
    assert str(caught.value).startswith("1 of 3 items are left, the first is sample-trained full,")
    assert "sample-trained full, 1 seed: left: takes about 10.0 min, there are 0.9" in said
    assert any(line.startswith("sample-trained broken, 1 seed: failed: ") for line in said)
    assert any(line.startswith("sample-trained quarter, 1 seed: recorded now") for line in said)
    assert (
        said[-1] == "summary: 1 done now, 0 recorded before, 1 left, 1 failed, 0 not to be run here"
    )
    assert [state(net) for net in ("full", "quarter")] == [OPEN, RECORDED]


def test_what_fits_no_run_is_done_in_several_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    record = tables.record

    def noted(name: str, chosen: Profile, only: str | None) -> None:
        order.append(str(only))
        record(name, chosen, only=only, progress=False)

    monkeypatch.setattr(tables, "record", noted)
    items = [item("full", 3, seconds=9000), item("quarter", seconds=6)]
    slow = long_cells(monkeypatch, items[0])
    slow.pop()  # of the third nothing is known yet
    (three,) = evidence.rows(items[0], evidence.size(items[0], "cpu")).values()
    with pytest.raises(timebox.Unfinished, match="1 of 2 items are left, the first is"):
        work(*items, minutes=1.0)
    assert order == ["quarter", "full"]  # what fits whole goes first
    assert [Store().path(cell.key).exists() for cell in three] == [False, False, True]
    slow.clear()  # the next run has the time
    ends, _ = work(*items, minutes=1.0)
    assert ends["sample-trained full, 3 seeds"].startswith("recorded now")
    assert state("full", 3) == RECORDED


def test_rows_that_cannot_be_computed_here_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(chosen: Profile) -> Plan:
        found = [(row, cell) for row, cell in cells(chosen) if row[0] in ("full", "quarter")]
        return [*found, (("absent", "way"), None)]

    here = SimpleNamespace(TABLE=replace(TABLE, cells=lacking))
    monkeypatch.setitem(sys.modules, "sample_experiments.sample.trained", here)
    about = "; 1 row is not run here: the data or a package (Opacus, say) is absent"
    _, said = work(item(""), item("full"))
    assert said[0] == f"plan: sample-trained, 1 seed: about 10 min{about}"
    assert said[1] == "plan: sample-trained full, 1 seed: about 10 min"
    assert evidence.standing(item(""), evidence.size(item(""), "cpu")) == RECORDED
    _, said = work(item(""), item("absent"))
    assert said[0] == f"plan: sample-trained, 1 seed: recorded already at full scale{about}"
    assert said[1].startswith("plan: sample-trained absent, 1 seed: not run: its data is not here")
    assert "package" not in said[1]


def test_earlier_runs_correct_the_plan() -> None:
    chosen = evidence.size(item("quarter"), "cpu")
    assert evidence.seconds(item("quarter"), chosen, Store()) == 600.0
    three = evidence.size(item("full", 3), "cpu")
    Store().put(evidence.rows(item("full", 3), three)["full", "way"][0].key, Result({}))
    assert evidence.seconds(item("full", 3), three, Store()) == pytest.approx(400.0)  # 2 of 3 left
    shutil.rmtree(Store().root)
    estimates.record(Store(), evidence._work(item("full", seconds=100.0), chosen), "e", 50.0)
    assert evidence.seconds(item("quarter"), chosen, Store()) == pytest.approx(300.0)
    work(item("full"))
    (*_, line) = [line for line in estimates.lines(Store()) if line.function.startswith("evidence")]
    assert line.work == 600.0 and line.seconds < 60


def test_a_request_to_stop_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timebox, "wanted", lambda: True)
    with pytest.raises(timebox.Unfinished, match="2 of 2 items are left"):
        work(item("full"), item("quarter"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("table,only\nsample-trained,\n", "a plan has the columns table, only, seeds, seconds"),
        (HEADER + "sample-trained,,0,5,\n", "plan.csv, line 2: seeds is a whole number from 1"),
        (HEADER + "sample-rates,,1,9,\nsample-rates,,1,no,\n", "plan.csv, line 3: seeds"),
        (HEADER + "sample-rates,,1,inf,\n", "line 2: .* seconds a positive one"),
        (HEADER + "sample-rates\n", "line 2: seeds"),
        (HEADER + "sample-none,,1,9,\n", "no table is called 'sample-none'"),
    ],
)
def test_a_plan_that_is_none_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        evidence.read(path)


def test_the_command_works_down_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(HEADER + "sample-trained,full,1,900,\nsample-trained,quarter,2,30,made up\n")
    long_cells(monkeypatch, item("full"))
    arguments = ["evidence", "--device", "cpu", "--minutes", "2", "--plan", str(path)]
    monkeypatch.setattr(sys, "argv", ["thesis-repro", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert stop.value.code == timebox.EXIT == 75
    assert "sample-trained quarter, 2 seeds: recorded now" in out
    assert err.startswith("stopped: 1 of 2 items are left, the first is sample-trained full")
    assert err.count("\n") == 1


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own tables, on a machine that has all data and a GPU."""
    from thesis_repro import data

    monkeypatch.setattr(find, "EXPERIMENTS", "thesis_repro.experiments")
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: "0" * 64)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def test_the_plan_that_comes_along_names_tables_and_rows_that_there_are(everything: None) -> None:
    items = evidence.read()
    first = ["certifiers-scaling", "certifiers-cost", "gloro-vra", "gloro-vra"]
    assert [line.table for line in items[:4]] == first
    for line in items:
        chosen = evidence.size(line, "cuda")
        found = evidence.rows(line, chosen)
        assert found, line
        assert not any(evidence._short(cell) for row in found.values() for cell in row), line
        assert not (tables.get(line.table).timed and line.only), "times are measured whole"
        assert {evidence._seeds(row) for row in found.values()} <= {1, line.seeds}
        shorter = replace(line, seeds=1)
        assert len(evidence.rows(shorter, evidence.size(shorter, "cuda"))) == len(found)


BEYOND = "Tiny-ImageNet"
"""In no line of the plan: what its nets take has not been reckoned."""


def test_a_claim_that_was_not_run_and_can_be_has_its_rows_in_the_plan(
    everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(places.RESULTS)
    items, lacking = evidence.read(), []
    for name in tables.names():
        spec = tables.get(name).spec
        frame = records.paper(spec)
        if all(judged.verdict != NOT_RUN for judged in judge_all(frame, spec.claims)):
            continue
        for row in evidence.rows(Item(name, "", 1, 1.0), profile("paper", "cuda", (0,))):
            named = any(line.table == name and line.only in " / ".join(row) for line in items)
            there = frame is not None and evidence._recorded(frame, row, 1)
            if not (named or there or row[0] == BEYOND):
                lacking.append((name, *row))
    assert lacking == []
