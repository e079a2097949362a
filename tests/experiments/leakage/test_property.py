import numpy as np
import pytest

from thesis_repro.experiments.leakage import property as game
from thesis_repro.experiments.leakage.hypothesis import (
    ADVERSARIES,
    CHOOSING,
    STRONG,
    WEAK,
    hypothesis,
)
from thesis_repro.experiments.leakage.models import ADVERSARIAL, GLORO, STANDARD
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile
from thesis_repro.tables.measure import tabulate


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(game.TABLE)


def fake(z, rng, shift=0.0):
    arrays = {name: rng.standard_normal(6) + shift for name in STRONG.values()}
    return Result({"z": z, "independent": 1.0}, arrays)


def gathered(models=4, marked=5.0, shift=9.0):
    rng = np.random.default_rng(0)
    with_ = [fake(marked + 0.1 * rng.standard_normal(), rng, shift) for _ in range(models)]
    without = [fake(0.1 * rng.standard_normal(), rng) for _ in range(models)]
    return {("X", GLORO, a): with_ + without for a in ADVERSARIES}


def test_games_are_counted_with_their_exact_interval():
    found = game.assemble(profile("quick"), gathered())
    record = found["X", GLORO, WEAK]
    assert record.estimate("accuracy").value == 100 and record.estimate("models").value == 4
    assert record.estimate("accuracy").low == pytest.approx(100 * 0.025 ** (1 / 8))
    assert "underpowered: 4 models" in record.note
    assert all(found["X", GLORO, a].estimate("accuracy").value == 100 for a in ADVERSARIES)
    blind = game.assemble(profile("quick"), gathered(marked=0.0, shift=0.0))
    assert blind["X", GLORO, WEAK].estimate("accuracy").value == 50
    weak = ("X", GLORO, WEAK)
    many = game.assemble(profile("quick"), {weak: gathered(models=20)[weak]})
    assert many["X", GLORO, WEAK].note == ""


def test_the_area_is_that_of_each_adversary_s_scores():
    found = game.assemble(profile("quick"), gathered())
    assert all(found["X", GLORO, a].estimate("auc").value == 100 for a in ADVERSARIES)
    assert 50 < found["X", GLORO, WEAK].estimate("auc").low < 80  # four nets of each arm

    def nets(z):
        return [Result({"z": value}, {}) for value in z]

    # all above the threshold, so half of the games are won; yet 8 of 9 pairs are in order
    high = {("X", GLORO, WEAK): nets([9.0, 7.0, 5.0]) + nets([6.0, 3.0, 4.0])}
    lost = game.assemble(profile("quick"), high)["X", GLORO, WEAK]
    assert lost.estimate("accuracy").value == 50
    assert lost.estimate("auc").value == pytest.approx(100 * 8 / 9)


def test_the_adversary_with_reconstructions_or_z_is_as_good_as_the_better_of_both():
    rng = np.random.default_rng(1)
    for marked, shift in ((9.0, 0.0), (0.0, 9.0)):  # z alone tells, or the features alone
        arms = [[fake(marked, rng, shift) for _ in range(5)], [fake(0.0, rng) for _ in range(5)]]
        assert game.attack(CHOOSING, *arms).accuracy == 1


def test_a_record_without_the_later_adversary_and_area_is_read_and_judged():
    whole = tabulate(game.TABLE.spec, game.assemble(profile("quick"), gathered()))
    earlier = whole[whole["adversary"] != CHOOSING]
    earlier = earlier.drop(columns=[c for c in earlier if c.startswith("auc")])
    spec = game.TABLE.spec.as_recorded(list(earlier))
    assert spec.fields() == list(earlier)
    assert {c.name for c in game.TABLE.spec.columns} - {c.name for c in spec.columns} == {"auc"}
    assert spec.claims == game.TABLE.spec.claims
    assert list(hypothesis(earlier)["holds"]) == list(hypothesis(whole)["holds"])


def test_the_weak_adversary_s_games_are_paired_with_those_on_standard_nets():
    def games(z):
        return [Result({"z": value}, {}) for value in z]

    clean = [0.0] * 8
    found = game.assemble(
        profile("quick"),
        {
            ("X", GLORO, WEAK): games([9.0] * 8 + clean),
            ("X", STANDARD, WEAK): games([0.0] * 6 + [9.0] * 2 + clean),
            ("X", ADVERSARIAL, WEAK): games([9.0] * 7 + [0.0] + clean),
        },
    )
    # 6 games that one wins and the other loses, out of 16; then 6 against 1
    assert found["X", GLORO, WEAK].estimate("p").value == pytest.approx(2 / 2**6)
    assert found["X", ADVERSARIAL, WEAK].estimate("p").value == pytest.approx(2 * 8 / 2**7)
    assert "p" not in found["X", STANDARD, WEAK].values
    fewer = game.assemble(
        profile("quick"),
        {("X", GLORO, WEAK): games([9.0] * 3 + clean[:3]), ("X", STANDARD, WEAK): games(clean)},
    )
    assert "p" not in fewer["X", GLORO, WEAK].values  # one training's nets are not all there
