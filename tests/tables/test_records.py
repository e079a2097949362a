"""Recorded runs: what was written is what is read, and one changed byte is named."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sample_table
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_repro import cli, tables
from thesis_repro.lab import engine, places, provenance, sealed
from thesis_repro.lab.profiles import Profile, profile
from thesis_repro.lab.sealed import Altered
from thesis_repro.lab.store import Store
from thesis_repro.tables import records
from thesis_repro.tables.records import NotRecorded
from thesis_repro.tables.spec import Frame, TableSpec

QUICK = profile("quick")
PAPER = profile("paper")
NAME = "sample-rates"
pytestmark = pytest.mark.usefixtures("sample")


@pytest.fixture
def recorded(results: Path) -> Path:
    """Two recorded runs of the sample table."""
    tables.record(NAME, QUICK, progress=False)
    tables.record(NAME, PAPER, progress=False)
    return results


def test_a_record_comes_back_as_it_was(results: Path) -> None:
    frame = tables.record(NAME, PAPER, progress=False)
    back = tables.recorded(NAME)
    pd.testing.assert_frame_equal(back.data, frame.data)
    assert back.run == "paper-cpu"
    assert records.to_csv(back) == (results / NAME / "paper-cpu.csv").read_bytes()
    about = dict(back.provenance)
    assert about.pop("sha256") == records.digest(frame)
    assert about == frame.provenance


def test_the_provenance_says_where_the_numbers_came_from(results: Path) -> None:
    about = tables.record(NAME, PAPER, progress=False).provenance
    assert {"spec_version", "cells", "seeds", "data", "commit", "clean", "packages"} <= set(about)
    assert {"device", "threads", "wall_seconds", "date", "python", "profile"} <= set(about)
    assert about["seeds"] == [0, 1, 2]
    assert about["data"] == {"digits": "0f" * 32}
    assert about["cells"][0]["config"] == {
        "method": "ours",
        "seed": 0,
        "paper": True,
        "device": "cpu",
    }
    assert about["wall_seconds"] > 0
    short = {"row": ["digits", "ours"], "epochs_run": 8, "epochs_paper": 500}
    assert about["shortened"] == [short]
    assert str(Path.home()) not in (results / NAME / "paper-cpu.json").read_text()


def test_a_record_names_the_devices_that_computed_not_the_one_that_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [cell for _, cell in sample_table.cells(PAPER) if cell]
    for card, some in (("card A", cells[:2]), ("card B", cells[2:])):
        monkeypatch.setattr(provenance, "device_name", lambda _, card=card: card)
        engine.run(some, progress=False)
    monkeypatch.setattr(provenance, "device_name", lambda _: "the writer")
    assert tables.record(NAME, PAPER, progress=False).provenance["device"] == "card A; card B"
    store = Store()
    found = store.get(cells[0].key)
    assert found is not None and found.device == "card A"
    store.put(cells[0].key, dataclasses.replace(found, device=""))  # as an older version did
    about = tables.record(NAME, PAPER, progress=False).provenance
    assert about["device"] == "card A; card B; the writer"


def test_the_fullest_run_is_read_by_default(recorded: Path) -> None:
    assert tables.recorded(NAME).run == "paper-cpu"
    assert tables.recorded(NAME, "quick").run == "quick"
    assert records.runs(sample_table.RATES.spec) == ["paper-cpu", "quick"]


def test_a_quick_run_on_a_gpu_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="a quick run is recorded on the CPU"):
        tables.record(NAME, Profile("quick", "cuda", (0,)))


def test_every_changed_byte_is_caught_and_its_file_named(recorded: Path) -> None:
    files = sorted(p for p in recorded.rglob("*") if p.is_file())
    assert [p.name for p in files] == ["paper-cpu.csv", "paper-cpu.json", "quick.csv", "quick.json"]
    for path in files:
        content = path.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 20)):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            for check in (lambda: tables.check(NAME), tables.check):
                with pytest.raises(Altered, match=f"{NAME}/{path.name} was altered"):
                    check()
        path.write_bytes(content)
    lines = tables.check(NAME)
    assert lines == tables.check()
    assert all(line.endswith("hash confirmed") for line in lines)
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("about", "said"),
    [({"run": "quick"}, "sample-rates/quick"), ({"table": "other"}, "other/paper-cpu")],
)
def test_a_record_under_the_name_of_another_is_named(
    recorded: Path, about: dict[str, str], said: str
) -> None:
    frame = tables.recorded(NAME, "paper-cpu")
    records.write(dataclasses.replace(frame, provenance={**frame.provenance, **about}))
    for ask in (lambda: tables.recorded(NAME), lambda: tables.check(NAME), tables.check):
        with pytest.raises(Altered, match=rf"{NAME}/paper-cpu\.json was .* the record of {said}$"):
            ask()


def test_a_run_copied_over_another_is_named(recorded: Path) -> None:
    for suffix in (".csv", ".json"):
        copied = (recorded / NAME / f"quick{suffix}").read_bytes()
        (recorded / NAME / f"paper-cpu{suffix}").write_bytes(copied)
    with pytest.raises(Altered, match="it is the record of sample-rates/quick$"):
        tables.check(NAME)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_missing_half_is_named(recorded: Path, suffix: str) -> None:
    (recorded / NAME / f"quick{suffix}").unlink()
    with pytest.raises(Altered, match=r"quick\.csv (is missing|belongs to no record)"):
        tables.check(NAME)


@pytest.mark.parametrize(
    "stray",
    ["sample-rates/quick.txt", "notes.md", "other-table/x.csv"],
)
def test_a_file_that_no_record_covers_is_named(recorded: Path, stray: str) -> None:
    path = recorded / stray
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    named = path if path.parent.name == NAME or path.parent == recorded else path.parent
    with pytest.raises(Altered, match=f"{named.name} belongs to no record"):
        tables.check()


@pytest.mark.parametrize(("kind", "suffix"), [("models", ".safetensors"), ("figures", ".png")])
def test_models_and_figures_are_covered_by_their_cards(
    recorded: Path, kind: str, suffix: str
) -> None:
    import hashlib

    content, folder = b"weights or pixels", recorded / kind
    folder.mkdir()
    (folder / f"some{suffix}").write_bytes(content)
    with pytest.raises(Altered, match=f"{kind}/some{suffix} belongs to no record"):
        tables.check()
    sealed.write(folder / "some.json", {"sha256": hashlib.sha256(content).hexdigest()})
    assert f"{kind}/some: hash confirmed" in tables.check()
    (folder / f"some{suffix}").write_bytes(b"Weights or pixels")
    with pytest.raises(Altered, match=rf"{kind}/some{suffix} was altered: its SHA-256 is"):
        tables.check()
    (folder / f"some{suffix}").write_bytes(content)
    card = (folder / "some.json").read_bytes()
    (folder / "some.json").write_bytes(card.replace(b"seal", b"sea1"))
    with pytest.raises(Altered, match=f"{kind}/some.json was altered"):
        tables.check()


def test_a_table_without_a_run_says_how_to_get_one() -> None:
    for ask in (lambda: tables.recorded(NAME), lambda: tables.check(NAME)):
        with pytest.raises(NotRecorded, match="no run is recorded; run: thesis-repro run sample"):
            ask()
    with pytest.raises(NotRecorded, match=r"'paper-cuda' is recorded; .* paper --device cuda$"):
        tables.recorded(NAME, "paper-cuda")
    assert tables.check() == []
    tables.record(NAME, QUICK, progress=False)
    with pytest.raises(NotRecorded, match=r"'paper' is recorded \(quick\); run: thesis-repro run"):
        tables.recorded(NAME, "paper")


def test_a_record_of_an_older_table_is_not_read(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sample_table.RATES.spec
    newer = TableSpec(**{**vars(spec), "version": 2})
    wider = TableSpec(**{**vars(spec), "keys": spec.keys[:1], "claims": (), "quoted": ()})
    for other in (newer, wider):
        with pytest.raises(
            NotRecorded, match="other columns or another version; run: thesis-repro"
        ):
            records.read(other, "quick")


def test_recording_again_sweeps_what_a_killed_one_left(recorded: Path) -> None:
    left = recorded / NAME / ".quick.csv.x1.part"
    left.write_text("half")
    tables.record(NAME, QUICK, progress=False)
    assert not left.exists()
    tables.check()


def test_two_runs_that_record_one_table_take_turns(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, beside: Any
) -> None:
    frame, others = tables.recorded(NAME, "quick"), []
    second = dataclasses.replace(frame, data=frame.data.assign(note="second"))
    real = Path.replace

    def replace(part: Path, target: Path) -> Path:
        if not others:
            others.append(None)
            others[0] = beside(lambda: records.write(second))
        return real(part, target)

    monkeypatch.setattr(Path, "replace", replace)
    records.write(dataclasses.replace(frame, data=frame.data.assign(note="first")))
    others[0].join(60)
    assert set(tables.recorded(NAME, "quick").data["note"]) == {"second"}
    tables.check(NAME)


@settings(max_examples=50)
@given(
    x=st.floats(allow_nan=True, allow_infinity=True),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8),
)
def test_csv_keeps_every_digit_and_text(
    tmp_path_factory: pytest.TempPathFactory, x: float, text: str
) -> None:
    spec = sample_table.RATES.spec
    values = {"data": text or "-", "method": "0.30", "accuracy": x, "remark": text, "seconds": 0.1}
    line = {name: values.get(name, math.nan) for name in spec.fields()}
    line |= {"status": "run", "seeds": 3, "interval": "", "note": text}
    about = {"spec_version": 1, "table": spec.name, "run": "quick"}
    frame = Frame(spec, "quick", pd.DataFrame([line]), about)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(places.RESULTS, str(tmp_path_factory.mktemp("results")))
        records.write(frame)
        back = records.read(spec, "quick")
    assert records.to_csv(back) == records.to_csv(frame)
    assert back.data["method"][0] == "0.30"
    assert back.data["accuracy"][0] == x or math.isnan(x)
    assert back.data["remark"][0] == text


def test_the_command_checks_and_fails_in_one_line(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["thesis-repro", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    assert call("table", NAME, "--check")[0] == 0
    path = recorded / NAME / "quick.csv"
    path.write_bytes(path.read_bytes().replace(b"9", b"8", 1))
    for arguments in ((NAME, "--check"), ("sample-empty", "--check"), ("sample-empty",)):
        status, out, err = call("table", *arguments)
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert err.startswith("error: ")
    assert call("table", NAME, "--format", "word")[0] != 0


def test_finished_rows_can_be_recorded_before_the_others_are() -> None:
    plan = sample_table.cells(PAPER)
    engine.run([cell for row, cell in plan if row == ("digits", "ours")], progress=False)
    engine.run([cell for row, cell in plan if row == ("digits", "plain")][:2], progress=False)
    frame = tables.record(NAME, PAPER, finished=True, progress=False)
    assert list(frame.data["status"]) == ["run", "not run", "not run"]
    assert frame.data["seeds"][0] == 3
    store = Store()
    assert [store.get(cell.key) is None for _, cell in plan if cell] == [False] * 5 + [True]
    assert {tuple(cell["row"]) for cell in frame.provenance["cells"]} == {("digits", "ours")}
