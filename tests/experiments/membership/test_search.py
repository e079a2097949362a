import dataclasses

import numpy as np
import pandas as pd
import pytest

from thesis_repro import tables
from thesis_repro.experiments.membership import search
from thesis_repro.experiments.membership.contests import contest
from thesis_repro.weaknesses.membership.contest import SLICES, features
from thesis_repro.weaknesses.membership.guesses import GENERAL


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(search.TABLE)


def test_the_full_corner_of_the_search_is_the_learned_attack_of_the_other_tables(observations):
    found = search.trial(search.Trial(observations.config, "both", 4))
    known = contest(observations.config)
    for ours, theirs in zip(found.values["targets"], known.values["targets"], strict=True):
        general = theirs["attacks"][GENERAL]
        assert ours["learned"] == general["accuracy"]
        assert ours["precision"] == general["precision"]
        assert ours["auc"] == general["auc"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_search_sees_no_more_proxies_than_it_says(observations, count):
    view = observations.view("shadow", 1)
    seen = search.with_proxies(view, count)
    assert len(seen.references) == len(seen.contains) == max(count, 1)
    if not count:
        assert seen.references[0] is view.seen and not seen.contains.any()
    poisoned = [
        r if i < count else {k: v * np.nan for k, v in r.items()}
        for i, r in enumerate(view.references)
    ]
    hidden = search.with_proxies(dataclasses.replace(view, references=poisoned), count)
    for a, b in zip(
        features(seen, SLICES["mlp"], 0.0).values(),
        features(hidden, SLICES["mlp"], 0.0).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_simple_scores_use_the_difference_to_proxies_where_there_are_any():
    found = {
        "0 margin": np.array([1.0, 3.0]),
        "0 margin beyond OUT": np.array([0.0, 4.0]),
        "2 margin": np.array([2.0, 2.5]),
        "2 margin beyond OUT": np.array([0.0, 10.0]),
    }
    both = ["0", "2"]
    np.testing.assert_allclose(search.simple(found, both, "margin", 1), [0.0, 4.0])
    np.testing.assert_allclose(search.simple(found, both, "margin", 0), [9.0, 13.0])


def test_points_without_a_usual_value_do_not_set_the_scale_of_a_score(observations, monkeypatch):
    """With one proxy half of a shadow's points were trained on by it: whatever stands there."""
    config = search.Trial(observations.config, "both", 1)
    expected = search.trial(config).values
    whole = search.features

    def poisoned(view, names, smoothing):
        return {
            name: np.where(view.contains.all(0), 1e6, values)
            for name, values in whole(view, names, smoothing).items()
        }

    monkeypatch.setattr(search, "features", poisoned)
    assert search.trial(config).values == expected


def test_the_verdict_of_the_search_follows_its_numbers():
    table = search.TABLE.spec
    rows = [
        {"epochs": "20", "layers": "both", "proxies": "4", "status": "run", "margin": 51.0,
         "residual": 52.0, "learned": 57.4, "sure": 10.0},
        {"epochs": "40", "layers": "first", "proxies": "0", "status": "run", "margin": 50.0,
         "residual": 50.0, "learned": 51.0, "sure": 9.0},
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=table.fields())
    found = search.verdicts(frame)
    assert found["measure"][0] == "accuracy (learned)"
    assert found["best"].tolist() == ["57.4%", "10.0%"]
    assert found["where"][0] == "20 epochs, layers both, proxies 4"
    assert found["verdict"].tolist() == ["does not hold", "holds"]
    frame.loc[1, "margin"] = 57.5
    found = search.verdicts(frame)
    assert (found["measure"][0], found["verdict"][0]) == ("accuracy (margin)", "holds")
    with pytest.raises(ValueError, match="no row that was run"):
        search.verdicts(frame.assign(status="not run"))


def test_both_searches_make_one_list_in_which_a_common_victim_stands_once():
    attacks, over = (tables.recorded(f"membership-{n}", "quick") for n in ("search", "victims"))
    found = search.whole(attacks, over)
    searched = over.data[over.data["targets"] == "development"]
    assert len(found) == len(attacks.data) + len(searched) - 1
    assert not found.isna().any(axis=None) and (found[["layers", "proxies"]] != "").all(axis=None)
    first = attacks.data.iloc[0]
    assert found.iloc[0].tolist()[1:] == [
        first[name] for name in ("layers", "proxies", "gap", "learned", "auc")
    ]
    by = found.set_index("victim")
    for line in searched.itertuples():
        mine = by.loc[[line.trained]].query("layers == 'both' and proxies == '4'").iloc[0]
        assert mine["auc"] == pytest.approx(line.auc)  # what both have, both measured alike


def test_searches_of_two_profiles_make_no_list():
    attacks, over = (tables.recorded(f"membership-{n}", "quick") for n in ("search", "victims"))
    with pytest.raises(ValueError, match="got paper-cpu and quick"):
        search.whole(dataclasses.replace(attacks, run="paper-cpu"), over)
