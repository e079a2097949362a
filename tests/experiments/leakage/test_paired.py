"""The paired test of the hypothesis: differences, adjustment, and planted effects."""

from collections.abc import Sequence

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from thesis_repro.experiments.leakage import paired
from thesis_repro.experiments.leakage.models import CIFAR, FACES, PER_SEED
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Result
from thesis_repro.tables.estimate import Estimate

PAPER = profiles.profile("paper", "cpu", 0)


def row(effect: float, rng: np.random.Generator) -> list[Result]:
    """Nets of a row whose robust marked ones have `effect` more; numbers share what is common."""
    common = rng.normal(0, 3, len(paired.FRESH))
    parts = [common + shift + rng.normal(0, 0.3, len(common)) for shift in (effect, 0, 0, 0)]
    return [Result({"z": float(z)}, {}) for part in parts for z in part]


def holm(rows: dict[tuple[str, str], Sequence[Result]]) -> dict[tuple[str, str], float]:
    found = paired.assemble(PAPER, rows)
    adjusted = {}
    for key, measured in found.items():
        value = measured.values["holm"]
        assert isinstance(value, Estimate)
        adjusted[key] = value.value
    return adjusted


def test_differences_pair_nets_of_one_number() -> None:
    z = [5.0, 7.0, 1.0, 2.0, 4.0, 4.0, 3.0, 1.0]  # robust marked, clean, standard marked, clean
    assert paired.differences([Result({"z": value}, {}) for value in z]) == [[4, 5], [1, 3]]


def test_a_planted_effect_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    rows = {("LFW", "GloRo"): row(1.0, rng), ("LFW", "adversarial"): row(0.0, rng)}
    adjusted = holm(rows)
    assert adjusted["LFW", "GloRo"] < paired.LEVEL < adjusted["LFW", "adversarial"]


def test_a_negative_effect_never_supports_the_hypothesis() -> None:
    assert holm({("LFW", "GloRo"): row(-5.0, np.random.default_rng(1))})["LFW", "GloRo"] == 1


def test_the_family_has_its_four_tests_even_where_one_alone_is_run() -> None:
    rows = {("LFW", "GloRo"): row(0.25, np.random.default_rng(2))}
    found = paired.assemble(PAPER, rows)["LFW", "GloRo"].values["p"]
    assert isinstance(found, Estimate)
    expected = multipletests([found.value, 1, 1, 1], method="holm")[1][0]
    assert holm(rows)["LFW", "GloRo"] == pytest.approx(expected)
    assert expected > found.value


def test_a_row_that_lacks_nets_is_not_judged() -> None:
    short = row(1.0, np.random.default_rng(3))[:-1]
    assert paired.assemble(PAPER, {("LFW", "GloRo"): short}) == {}


def test_no_net_of_the_paper_run_was_looked_at_before() -> None:
    seen = PER_SEED["paper"] * len(PAPER.seeds)
    assert min(paired.FRESH) >= seen
    assert len(paired.FRESH) >= 21
    assert {FACES.dataset, CIFAR.dataset} == {"lfw", "cifar10"}
