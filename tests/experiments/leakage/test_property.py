import numpy as np
import pytest

from thesis_repro.experiments.leakage import property as game
from thesis_repro.experiments.leakage.hypothesis import ADVERSARIES, STRONG, WEAK
from thesis_repro.experiments.leakage.models import ADVERSARIAL, GLORO, STANDARD
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import profile


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
    many = game.assemble(profile("quick"), gathered(models=20))
    assert many["X", GLORO, WEAK].note == ""


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
