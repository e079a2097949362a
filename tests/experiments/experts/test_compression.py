"""The table of compression: rows, must-show, trend, and that no claim is typed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thesis_repro import data
from thesis_repro.experiments.experts import compression as experts
from thesis_repro.experiments.experts.compression import TABLE, WHOLE
from thesis_repro.explanations.experts import Choice
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Result
from thesis_repro.tables.measure import tabulate
from thesis_repro.tables.spec import Frame

SPEC = TABLE.spec


def frame(recall: dict[str, int], balanced: dict[str, float], near: int = 9) -> Frame:
    gathered = {
        experts.compression_row("mnist-5k", -1, ranking): [
            Result(
                {
                    "kept": 12,
                    "recall": {"k": 100 * recall[ranking], "n": 10_000},
                    "precision": {"k": 50, "n": 100},
                    "balanced": balanced[ranking],
                    "near": near,
                }
            )
        ]
        for ranking in recall
    }
    records = experts.assemble(profiles.profile("quick"), gathered)
    return Frame(SPEC, "quick", tabulate(SPEC, records))


GOOD = {WHOLE: 96, "influence": 94, "activation": 70, "gradient at the input": 80, "random": 50}


def test_must_show_is_computed() -> None:
    shown = experts.must_show(frame(GOOD, {k: float(v) for k, v in GOOD.items()}))
    assert shown["holds"].tolist() == ["holds"] * 7
    good, bad = "holds", "does not hold"
    loud = {**GOOD, "activation": 97}
    shown = experts.must_show(frame(loud, {k: float(v) for k, v in loud.items()}, near=7))
    assert shown["holds"].tolist() == [good, bad, good, good, bad, bad, good]
    values = [text.partition(" [")[0] for text in shown["measured"]]
    assert values[1:] == ["7.0", "44.0", "44.0", "−3.0", "−3.0", "14.0"]


def test_the_conditions_can_fail() -> None:
    balanced = {k: float(v) for k, v in GOOD.items()}

    def found(recall: dict[str, int], balanced: dict[str, float]) -> list[str]:
        data = frame(recall, balanced).data
        return [c.says for c in experts.conditions(data) if not c.holds]

    assert found(GOOD, balanced) == []
    (lost,) = found({**GOOD, "influence": 90}, balanced)
    assert lost.startswith("influence keeps the whole net's recall")
    assert found(GOOD, {**balanced, "random": 95.0}) == ["balanced accuracy: points above random"]
    assert found(GOOD, {**balanced, "gradient at the input": 95.0}) == [
        "balanced accuracy: points above gradient at the input"
    ]


def test_an_interval_across_what_is_needed_decides_nothing() -> None:
    rows = frame(GOOD, {k: float(v) for k, v in GOOD.items()}).data
    mean = rows["ranking"] == "influence"
    rows.loc[mean, ["balanced_low", "balanced_high"]] = [79.0, 109.0]
    open_ = [c for c in experts.conditions(rows) if c.verdict == "not judged"]
    assert [c.says.rpartition("above ")[2] for c in open_] == [
        "activation",
        "gradient at the input",
    ]
    assert open_[1].measured == "14.0 [−1.0, 29.0]"


def test_intervals_are_named_once() -> None:
    (said,) = set(frame(GOOD, {k: float(v) for k, v in GOOD.items()}).data["interval"])
    assert said == "Clopper-Pearson over the images that a rate counts"


def test_rows_of_other_sets_decide_nothing() -> None:
    """The statements are about digits; rows on CIFAR-10 and rows not run stand beside them."""
    good = frame(GOOD, {k: float(v) for k, v in GOOD.items()})
    other = good.data.assign(dataset="CIFAR-10, 6C2F, standard", recall=1.0, balanced=50.0)
    absent = good.data.assign(dataset="MNIST", recall=np.nan, status="not run")
    mixed = Frame(SPEC, "paper-cpu", pd.concat([absent, other, good.data], ignore_index=True))
    assert experts.must_show(mixed).equals(experts.must_show(good))
    assert len(experts.must_show(mixed)) == 7


def test_the_plans() -> None:
    rows = [row for row, _ in experts.compression_cells(profiles.profile("quick"))]
    assert len(rows) == 5 + 20
    assert len(set(rows)) == len(rows)
    paper = profiles.profile("paper")
    assert {row for row, _ in TABLE.cells(paper)} <= set(TABLE.spec.rows)


def test_without_data_the_paper_rows_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "roots", lambda: [tmp_path])
    monkeypatch.setattr(data, "available", lambda name: name == "mnist-5k")
    assert TABLE.cells(profiles.profile("paper")) == []


def test_columns_hold_what_cells_give(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cheap cell, of a net of one epoch."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    small = replace(experts.DIGITS, width=20, epochs=1)
    cell = experts.compress(experts.CompressionConfig(small, "influence"))
    assert cell.values["kept"] == 1
    assert cell.values["recall"]["n"] == 500
    rows = {experts.compression_row("mnist-5k", c, "influence"): [cell] for c in (-1, 3)}
    mean, three = experts.assemble(profiles.profile("quick"), rows).values()
    per_class = [found["balanced"] for found in cell.values["classes"]]
    assert mean.estimate("balanced").value == pytest.approx(np.mean(per_class))
    assert three.estimate("balanced").value == per_class[3]
    assert 0 <= three.estimate("alpha").value <= float(three.values["kept"]) == 1
    for counts, ends in (((9, 10, 10), (8.23, 10.0)), ((0, 0, 6), (0.0, 10.0))):
        several = [replace(cell, values={**cell.values, "near": count}) for count in counts]
        row = {experts.compression_row("mnist-5k", -1, "influence"): several}
        (found,) = experts.assemble(profiles.profile("quick"), row).values()
        near = found.estimate("near")
        assert (near.low, near.high) == pytest.approx(ends, abs=0.01)


@pytest.mark.slow
def test_the_cifar_rows_run_on_made_up_pictures(made_up_cifar: None) -> None:
    """The cells of CIFAR-10 from end to end, with one epoch on noise."""
    plan = TABLE.cells(profiles.profile("paper", seeds=0))
    assert len(plan) == 10
    assert {row for row, _ in plan} <= set(TABLE.spec.rows)
    for _, cell in plan[::9]:
        assert cell is not None
        values = cell.function(cell.config).values
        assert {"epochs_run", "epochs_paper"} <= set(values)


def test_near_is_at_most_so_many_points_below_the_whole_net(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten classes; 90 of 100 found by the whole net, and 85 + c by the units that are kept."""

    class Judging:
        units = 20

        def detect(self, c: int) -> experts.Detector:
            return experts.Detector(90, 100, 5, 900)

    class Sides:
        judging = Judging()

        def compressed(self, c: int, *_: object) -> tuple[Choice, experts.Detector]:
            return Choice(1, 0), experts.Detector(85 + c, 100, 5, 900)

    limit = round(100 * experts.NEAR)
    monkeypatch.setattr(experts, "halves", lambda *_: Sides())
    monkeypatch.setattr(experts.named, "trained", lambda config: config.build().eval())
    values = experts.compress(experts.CompressionConfig(experts.DIGITS, "influence")).values
    assert values["near"] == sum(85 + c >= 90 - limit for c in range(10)) == 10 - (5 - limit)
    assert values["recall"] == {"k": sum(85 + c for c in range(10)), "n": 1000}
