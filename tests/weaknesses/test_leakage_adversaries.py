"""Adversaries of the property game: planted knowledge, the choice on shadows, another library."""

import numpy as np
import pytest

from thesis_repro.weaknesses import leakage
from thesis_repro.weaknesses.leakage import adversaries

PAIRS, FEATURES = 8, 12


def nets(z=0.0, features=0.0, middle=2.0, seed=0, pairs=PAIRS):
    """Both arms, z first: how far apart they are in z and in half of the features."""
    rng = np.random.default_rng(seed)
    marked, clean = rng.standard_normal((2, pairs, 1 + FEATURES))
    marked[:, 0] += middle + z / 2
    clean[:, 0] += middle - z / 2
    marked[:, 1 : 1 + FEATURES // 2] += features
    return marked, clean


def on_z(shadows, truth, targets):
    return leakage.by_threshold(shadows[:, :1], truth, targets[:, :1])


def on_features(shadows, truth, targets):
    return leakage.by_classifier(shadows[:, 1:], truth, targets[:, 1:])


def shadows_of(marked, clean):
    return np.concatenate([marked, clean]), np.repeat([True, False], len(marked))


def test_log_odds_are_those_of_a_scikit_learn_pipeline():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shadows, truth = shadows_of(*nets(features=1.0))
    targets = nets(features=1.0, seed=1)[0]
    meta = make_pipeline(StandardScaler(), LogisticRegression(C=1 / shadows.shape[1]))
    meta.fit(shadows, truth)
    found = leakage.by_classifier(shadows, truth, targets)
    np.testing.assert_allclose(found, meta.decision_function(targets))
    assert ((found > 0) == meta.predict(targets)).all()


def test_both_is_the_classifier_with_z_as_often_as_there_are_features():
    shadows, truth = shadows_of(*nets(z=1.0, features=0.5))
    targets = nets(seed=1)[0]
    repeated = [np.hstack([x[:, 1:], np.repeat(x[:, :1], FEATURES, 1)]) for x in (shadows, targets)]
    wanted = leakage.by_classifier(repeated[0], truth, repeated[1])
    found = adversaries.CANDIDATES[-1](shadows, truth, targets)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("middle", [2.0, 6.0])  # where the fixed threshold fits, and where not
def test_where_z_tells_and_the_features_are_noise_it_does_as_well_as_the_threshold(middle):
    arms = nets(z=4.0, middle=middle)
    chosen = leakage.play(*arms, leakage.by_cross_validation)
    alone = leakage.play(*arms, on_features)
    assert chosen.wins >= leakage.play(*arms, on_z).wins - 1
    assert chosen.wins >= alone.wins + 4


def test_where_features_tell_and_z_is_noise_it_does_as_well_as_the_classifier():
    arms = nets(features=2.0)
    chosen = leakage.play(*arms, leakage.by_cross_validation)
    assert chosen.wins >= leakage.play(*arms, on_features).wins - 1
    assert chosen.wins >= leakage.play(*arms, on_z).wins + 4


def test_where_nothing_tells_half_of_the_games_are_won():
    games = [leakage.play(*nets(seed=seed), leakage.by_cross_validation) for seed in range(4)]
    # 64 games: 0.06 of standard error, and somewhat more, since games share their shadows
    assert 0.25 < np.mean([one.accuracy for one in games]) < 0.75


def test_of_equally_good_candidates_the_simplest_answers():
    shadows, truth = shadows_of(*nets(z=20.0, features=20.0))
    targets = np.zeros((3, 1 + FEATURES))
    targets[:, 0] = [1.0, 2.5, 4.0]
    found = leakage.by_cross_validation(shadows, truth, targets)
    wanted = leakage.by_fixed_threshold(shadows, truth, targets)
    np.testing.assert_allclose(found / found[0], wanted / wanted[0])


def test_the_choice_is_made_without_a_look_at_the_target(monkeypatch):
    seen = []

    def spy(shadows, truth, targets):
        seen.append((shadows[:, 0].tolist(), truth.tolist(), targets[:, 0].tolist()))
        return targets[:, 0]

    monkeypatch.setattr(adversaries, "CANDIDATES", (spy,))
    marked, clean = np.ones((3, 2)), np.zeros((3, 2))
    marked[:, 0], clean[:, 0] = [1, 2, 3], [-1, -2, -3]
    target = np.array([[99.0, 0.0]])
    leakage.by_cross_validation(*shadows_of(marked, clean), target)
    *among, last = seen
    assert len(among) == 3 and last[2] == [99]
    for learned, truth, held_out in among:
        assert 99 not in learned + held_out and not set(learned) & set(held_out)
        assert truth == [True, True, False, False] and held_out[0] == -held_out[1]
    assert last[0] == [1, 2, 3, -1, -2, -3]


def test_one_target_s_answer_does_not_depend_on_the_others():
    shadows, truth = shadows_of(*nets(z=1.0, features=1.0))
    targets = nets(seed=5)[0]
    together = leakage.by_cross_validation(shadows, truth, targets)
    apart = [leakage.by_cross_validation(shadows, truth, one[None])[0] for one in targets[:3]]
    np.testing.assert_allclose(apart, together[:3])


def test_evidence_has_no_unit_so_that_games_with_other_candidates_compare():
    marked, clean = nets(z=6.0, middle=9.0)  # the fixed threshold is far off
    shadows, truth = shadows_of(marked, clean)
    targets = nets(z=6.0, middle=9.0, seed=1)[0]
    found = leakage.by_cross_validation(shadows, truth, targets)
    scaled = leakage.by_cross_validation(10 * shadows, truth, 10 * targets)
    np.testing.assert_allclose(scaled, found)
    assert 0.5 < np.abs(found).mean() < 3
    features = nets(features=3.0)
    by_features = leakage.by_cross_validation(*shadows_of(*features), features[0])
    assert 0.5 < np.abs(by_features).mean() < 3  # its log-odds are about a tenth of that


@pytest.mark.parametrize(
    ("marked", "clean", "width", "words"),
    [
        (3, 3, 1, "needs z and at least one feature, got 1 column"),
        (1, 1, 3, "at least 2 shadows in each arm.*got 1 and 1"),
        (3, 2, 3, "as many with the watermark as without, got 3 and 2"),
        (3, 0, 3, "both arms, got 3 with the watermark and 0 without"),
    ],
)
def test_a_choice_refuses_bad_input(marked, clean, width, words):
    truth = np.arange(marked + clean) < marked
    with pytest.raises(ValueError, match=words):
        leakage.by_cross_validation(np.zeros((len(truth), width)), truth, np.zeros((1, width)))
