"""The contest of membership: who sees what of whom, and that nothing leaks."""

import dataclasses

import numpy as np
import pytest

from thesis_repro.training import named
from thesis_repro.weaknesses.membership import contest, guesses, victims

SMALL = victims.Victim("mnist-5k", "mlp", 200, 2, 0.1, width=16)


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    """Small nets, kept in a store of this module."""
    patch = pytest.MonkeyPatch()
    patch.setenv("THESIS_REPRO_STORE", str(tmp_path_factory.mktemp("store")))
    yield contest.Observations(contest.Contest(SMALL, (0, 1, 2), 4), contest.shown)
    patch.undo()


def test_a_net_shows_its_logits_and_the_displacement_in_both_dense_layers(observations):
    everything = victims.points(SMALL.dataset)
    seen = observations.observed["target", 0]
    assert set(seen) == {"logits", *contest.SLICES["mlp"]}
    assert {part.shape for part in seen.values()} == {(len(observations.parts.indices), 10)}
    net = named.trained(victims.other(SMALL, "target", 0))
    x = everything.x[observations.parts.indices[:3]]
    np.testing.assert_allclose(seen["logits"][:3], net(x).detach(), atol=1e-5)


def test_no_point_that_is_judged_is_in_a_training_set_of_the_adversary(observations):
    everything = set(range(5000))
    part = observations.parts
    for who in (part.universe, part.pool, part.reserve):
        assert set(who) <= everything and len(set(who)) == len(who)
    assert not set(part.universe) & set(part.pool)
    assert not set(part.reserve) & (set(part.universe) | set(part.pool))
    view = observations.view("target", 0)
    assert len(view.references) == 4 and not view.contains.any()
    online = observations.view("target", 0, online=True)
    assert len(online.references) == 6
    np.testing.assert_array_equal(online.contains[4], observations.member["target", 1])
    shadow = observations.view("shadow", 2)
    others = [observations.member["shadow", i] for i in (0, 1, 3)]
    np.testing.assert_array_equal(shadow.contains, others)


def test_a_leak_between_the_splits_is_caught(observations):
    leaky = contest.Observations.__new__(contest.Observations)
    leaky.__dict__ |= observations.__dict__
    pool = observations.parts.pool.copy()
    used = np.flatnonzero(observations.member["shadow", 0])[0]
    pool[used] = observations.parts.universe[5]
    leaky.parts = contest.Parts(observations.parts.universe, pool, observations.parts.reserve)
    with pytest.raises(ValueError, match="splits overlap"):
        leaky.view("target", 0)


def test_thresholds_and_classifiers_do_not_depend_on_the_target_s_members(observations):
    learned = guesses.Guesses(observations)
    view = observations.view("target", 0)
    turned = dataclasses.replace(view, member=~view.member)
    for name in guesses.SCORED:
        if name != guesses.ONLINE:  # uses models that contain the points, by definition
            np.testing.assert_array_equal(learned.scores(name, view), learned.scores(name, turned))


def test_evidence_beyond_out_is_the_difference_to_the_mean_of_out_models(observations):
    view = observations.view("shadow", 0)
    found = contest.features(view, contest.SLICES["mlp"], 0.0)
    i = int(np.flatnonzero(~view.contains.all(0))[3])
    out = [
        contest.confidence(r, view.labels)[i]
        for r, inside in zip(view.references, view.contains[:, i], strict=True)
        if not inside
    ]
    expected = contest.confidence(view.seen, view.labels)[i] - np.mean(out)
    assert found["confidence beyond OUT"][i] == pytest.approx(expected)
    assert all(np.isfinite(v).all() for v in found.values())


def test_too_few_shadows_or_points_are_refused():
    def observe(victim):
        raise AssertionError("nothing is trained for a contest that cannot be held")

    with pytest.raises(ValueError, match="at least 4 shadows, got 3"):
        contest.Observations(contest.Contest(SMALL, (0,), 3), observe)
    with pytest.raises(ValueError, match="leaves nothing of 40 points"):
        contest.parts(40, 10)


def test_what_was_developed_on_is_no_final_target():
    with pytest.raises(ValueError, match=r"1 was developed on \(1 of 3 such\)"):
        contest.Contest(SMALL, (0, 1, 2), 4, development=(5, 1))
    assert contest.Contest(SMALL, (0, 1, 2), 4, development=(5, 7)).targets == (0, 1, 2)


def test_a_proxy_that_saw_a_point_that_is_judged_is_refused(observations):
    """As a shadow that is not trained in the pool, but on the universe."""
    leaky = contest.Observations.__new__(contest.Observations)
    leaky.__dict__ |= observations.__dict__
    leaky.parts = dataclasses.replace(observations.parts, pool=observations.parts.universe)
    with pytest.raises(ValueError, match="splits overlap: point .* and the pool"):
        leaky.view("target", 0)
