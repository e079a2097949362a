import pandas as pd
import pytest

from thesis_repro.experiments.leakage import hypothesis
from thesis_repro.experiments.leakage.hypothesis import CHOOSING, STRONG, WEAK
from thesis_repro.experiments.leakage.models import ADVERSARIAL, GLORO, STANDARD, TRAININGS
from thesis_repro.experiments.leakage.property import TABLE
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import tabulate


def frame(weak, strong, models=20):
    """weak and strong: games won in percent, by training."""
    records = {
        ("X", method, adversary): Measurement(
            {"accuracy": Estimate(share), "models": Estimate(models)}
        )
        for method in weak
        for adversary, share in (
            (WEAK, weak[method]),
            *((a, strong[method]) for a in STRONG),
        )
    }
    return tabulate(TABLE.spec, records)


GOOD = {GLORO: 95.0, ADVERSARIAL: 95.0, STANDARD: 55.0}
HIGH = dict.fromkeys(TRAININGS, 90.0)


def verdict(data_):
    found = hypothesis.hypothesis(data_)
    return found.loc[found["statement"] == "verdict", "holds"].item()


@pytest.mark.parametrize(
    ("weak", "strong", "models", "says"),
    [
        (GOOD, HIGH, 20, "supported"),
        (GOOD, HIGH, 19, "supported, underpowered"),
        (GOOD | {ADVERSARIAL: 60.0}, HIGH, 20, "partly supported"),
        (GOOD, HIGH | {GLORO: 70.0}, 20, "partly supported"),
        (GOOD, HIGH | {STANDARD: 70.0}, 20, "not supported"),
        (GOOD | {STANDARD: 95.0}, HIGH, 20, "not supported"),
        (GOOD | {STANDARD: 85.0}, HIGH, 20, "not supported"),  # at least 4 apart: p >= 0.125
        (GOOD | {STANDARD: 75.0}, HIGH, 20, "not judged"),  # 8 apart: p from 0.008 to 0.11
        (GOOD | {STANDARD: 75.0}, HIGH, 3, "not supported, underpowered"),
        ({GLORO: 95.0, STANDARD: 55.0}, HIGH, 20, "partly supported"),
        ({GLORO: 95.0}, HIGH, 20, "not tested"),
    ],
)
def test_the_verdict_is_computed_and_can_fail(weak, strong, models, says):
    assert verdict(frame(weak, strong, models)) == says
    conditions = hypothesis.conditions(frame(weak, strong, models))
    found = {c.says.partition(": ")[2]: c for c in conditions}
    if says == "not tested":
        assert found == {}
        return
    whole = found["the information organization hypothesis"]
    expected = None if says == "not judged" else says == "supported"
    assert (whole.measured, whole.holds) == (says, expected)
    won = found["the game is won on robust and non-robust nets"]
    assert won.holds == all(share >= 80 for share in strong.values())


def test_rows_that_were_not_run_decide_nothing():
    empty = tabulate(TABLE.spec, {}, TABLE.spec.rows)
    assert hypothesis.hypothesis(empty).empty and not hypothesis.conditions(empty)


def test_wins_are_compared_exactly():
    from scipy.stats import hypergeom

    expected = hypergeom(16, 10, 8).sf(7)  # all 8 of the first group among 10 wins of 16
    assert hypothesis.compare_wins((8, 8), (2, 8)) == pytest.approx(expected)
    assert isinstance(pd.Series([hypothesis.compare_wins((4, 8), (4, 8))])[0], float)


def test_recorded_pairs_decide_what_sums_cannot():
    weak = GOOD | {STANDARD: 75.0}
    for p, says in ((0.008, "supported"), (0.11, "not supported")):
        rows = frame(weak, HIGH)
        rows.loc[rows["adversary"].eq(WEAK) & rows["training"].ne(STANDARD), "p"] = p
        assert verdict(rows) == says
    needed = hypothesis.hypothesis(rows)["needed"]
    assert needed.str.contains("Holm over 2").any()


def test_the_best_strong_adversary_is_taken_of_those_that_were_run():
    rows = frame(GOOD, HIGH)
    assert verdict(rows[rows["adversary"] != CHOOSING]) == "supported"  # an earlier record
    rows.loc[rows["adversary"].isin(set(STRONG) - {CHOOSING}), "accuracy"] = 60.0
    assert verdict(rows) == "supported"
    assert verdict(rows[rows["adversary"] != CHOOSING]) != "supported"
