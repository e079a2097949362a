from dataclasses import replace

import pandas as pd
import pytest
import torch

from thesis_repro.experiments.membership import audit_cells, dp
from thesis_repro.lab.profiles import profile
from thesis_repro.weaknesses.membership import victims
from thesis_repro.weaknesses.membership.audited import Private


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(dp.TABLE)


def test_without_opacus_the_private_rows_are_not_run(monkeypatch):
    monkeypatch.setattr(dp.private, "available", lambda: False)
    plan = dict(dp.plan(profile("quick")))
    assert [row[0] for row, cell in plan.items() if cell is None] == ["DP-SGD, ε = 16"]


def test_what_noise_leaves_of_the_attack_is_judged_at_both_ends():
    def found(least, most, half=0.6):
        lines = [("none", 52.0), ("DP-SGD, ε = 1", least), ("DP-SGD, ε = 16", most)]
        rows = pd.DataFrame(lines, columns=["defence", "accuracy"])
        rows = rows.assign(
            accuracy_low=rows["accuracy"] - half, accuracy_high=rows["accuracy"] + half
        )
        return [c.holds for c in dp.conditions(rows)]

    assert found(50.3, 52.6) == [True, True, True]
    assert found(50.7, 50.4) == [True, False, False]  # ahead of guessing, with the whole interval
    assert found(50.5, 51.5) == [
        True,
        None,
        None,
    ]  # perhaps ahead, by more than half of the advantage
    assert found(50.3, 52.6, half=3.0) == [
        None,
        None,
        None,
    ]  # by too wide an interval nothing is shown
    assert found(52.4, 52.6, half=0.2)[0] is False
    assert dp.conditions(pd.DataFrame({"defence": ["none"]})) == []


@pytest.mark.skipif(not dp.private.available(), reason="Opacus is not installed")
def test_private_training_is_tuned_on_the_papers_profile_alone():
    for epsilon in dp.EPSILONS:
        name = f"DP-SGD, ε = {epsilon:g}"
        tuned, quick = (dp.defence(name, profile(size)) for size in ("paper", "quick"))
        assert type(tuned) is Private and type(quick) is victims.Victim
        assert tuned.epsilon == quick.epsilon == epsilon
        assert tuned.n == dp.defence("none", profile("paper")).n
        assert tuned.lr == dp.RATES[epsilon]
        assert all(getattr(tuned, field) == value for field, value in dp.TUNED.items())


@pytest.mark.slow
@pytest.mark.skipif(not dp.private.available(), reason="Opacus is not installed")
def test_rates_are_in_inverse_proportion_to_the_noise():
    from opacus.accountants.utils import get_noise_multiplier

    steps = []
    for epsilon, rate in dp.RATES.items():
        about = {"target_epsilon": epsilon, "target_delta": dp.private.DELTA, "epochs": 40}
        steps.append(rate * get_noise_multiplier(sample_rate=2000 / 12_000, **about))
    assert max(steps) < 1.1 * min(steps)


def test_what_private_training_is_tuned_on_meets_nothing_that_is_judged(monkeypatch):
    """The net of the shadow, and the points of which its accuracy is taken."""
    assert dp.TUNED_ON >= audit_cells.MANY  # no table trains a shadow of this index
    config = victims.Victim("mnist-5k", "mlp", 200, 2, 0.1)
    game = victims.game(5000, config.n)
    trained, seen = [], []

    class Labels:
        """A data set whose points are their own indices, and whose labels are all right."""

        x = torch.arange(5000)
        y = torch.zeros(5000)

        def __len__(self):
            return 5000

    def net(x):
        seen.append(x)
        return torch.eye(2)[torch.zeros(len(x), dtype=int)]

    monkeypatch.setattr(dp.victims, "points", lambda name: Labels())
    monkeypatch.setattr(dp.named, "trained", lambda one: trained.append(one) or net)
    assert dp.developed(config) == 100
    (one,) = trained
    assert one == replace(config, role="shadow", index=dp.TUNED_ON)
    judged_by = torch.cat(seen).numpy()
    learned_from = game.pool[victims.members(one, game)]
    assert not set(judged_by) & set(learned_from)
    assert set(judged_by) | set(learned_from) == set(game.pool)
    assert not set(game.pool) & set(game.universe)
