import numpy as np
import pytest

from thesis_repro.experiments.membership import calibrated, contests, point, rates
from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.lab.cells import Result
from thesis_repro.weaknesses.membership.guesses import GENERAL, ONLINE, SCORED


def made(shift=1.0, targets=3, points=4000):
    """Gaussian scores, members `shift` above; on shadows and on targets alike."""
    rng = np.random.default_rng(0)
    member = np.arange(points) < points // 2
    arrays = {
        f"known.{GENERAL}": rng.standard_normal(points) + shift * member,
        "known.member": member,
    }
    for index in range(targets):
        arrays[f"member.{index}"] = member
        arrays[f"{GENERAL}.{index}"] = rng.standard_normal(points) + shift * member
    return arrays


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(point.TABLE)


def test_the_roc_of_two_gaussians_is_read_where_it_is_known():
    from scipy.stats import norm

    (found,) = point.assemble(None, {(PLAIN, GENERAL): [Result({}, made())]}).values()
    tpr, fpr = found.estimate("tpr"), found.estimate("fpr")
    expected = 100 * norm.sf(norm.isf(calibrated.FPR / 100) - 1)
    assert tpr.low < expected < tpr.high and tpr.high - tpr.low < 6
    assert fpr.low < calibrated.FPR < fpr.high
    assert found.estimate("precision").value == pytest.approx(
        100 * tpr.value / (tpr.value + fpr.value)
    )
    exactly = found.estimate("exactly")
    assert exactly.low < expected < exactly.high and abs(exactly.value - expected) < 2
    assert found.seeds == 3 and tpr.how == "bootstrap over 3 targets and their 4,000 points"


def test_the_threshold_comes_from_shadows_alone():
    arrays = made()
    claimed, member = rates.called_at(arrays, GENERAL, 0.193)
    turned = arrays | {f"member.{i}": ~member[i] for i in range(3)}
    np.testing.assert_array_equal(rates.called_at(turned, GENERAL, 0.193)[0], claimed)
    moved = arrays | {f"known.{GENERAL}": arrays[f"known.{GENERAL}"] + 10}
    assert not rates.called_at(moved, GENERAL, 0.193)[0].any()


def test_the_rate_that_no_adversary_knows_is_kept_on_each_target():
    arrays = made()
    travelled = arrays | {f"{GENERAL}.{i}": arrays[f"{GENERAL}.{i}"] + i for i in range(3)}
    exactly = rates.called_exactly(travelled, GENERAL, 0.193)
    np.testing.assert_array_equal(exactly, rates.called_exactly(arrays, GENERAL, 0.193))
    assert exactly[:, 2000:].mean(1).tolist() == [0.193] * 3
    with pytest.raises(ValueError, match="gave no scores"):
        rates.called_exactly(arrays, ONLINE, 0.193)


def test_a_contest_keeps_what_any_threshold_needs(observations):
    arrays = contests.contest(observations.config).arrays
    for attack in SCORED:
        claimed, member = rates.called_at(arrays, attack, 0.193)
        assert claimed.shape == member.shape == (3, 400)
        assert arrays[f"known.{attack}"].shape == arrays["known.member"].shape
    assert rates.called_at({"member.0": member[0]}, ONLINE, 0.193) is None


def test_an_attack_without_scores_has_no_row():
    assert point.assemble(None, {(PLAIN, ONLINE): [Result({}, made())]}) == {}
