"""The table arc-rejection: paired replicates, an oracle that is found ahead, directions."""

import numpy as np
import pandas as pd

from thesis_repro import tables
from thesis_repro.experiments.arc import judged, rejection
from thesis_repro.lab.profiles import profile


def test_the_quick_plan_needs_no_data_and_shares_the_cells_of_calibration():
    assert tables.get("arc-rejection") is rejection.TABLE
    plan = rejection.cells(profile("quick"))
    assert len({row for row, _ in plan}) == len(plan) == 12
    other = tables.get("arc-calibration").cells(profile("quick"))
    assert {cell.key for _, cell in plan} == {cell.key for _, cell in other}


def test_an_oracle_is_ahead_of_softmax_and_a_copy_is_not():
    rng = np.random.default_rng(0)
    wrong = (rng.random(400) < 0.3).astype(float)
    guess = rng.random(400)
    scores = dict(zip(judged.SCORES, (guess, guess, -wrong, guess), strict=True))
    found = judged._ranked(scores, wrong, 50, rng)
    assert found[judged.RADIUS]["risk"][0] < found[judged.SOFTMAX]["risk"][0]
    assert found[judged.RADIUS]["ranking"] == [100, 100, 100]
    assert found[judged.RADIUS]["ahead"][1] > 20
    assert found[judged.BOTTOM]["ahead"] == [0, 0, 0]  # paired: the same points, no difference


def frame() -> pd.DataFrame:
    rows = [(images, score) for images in judged.IMAGES for score in judged.SCORES]
    found = pd.DataFrame(rows, columns=["images", "score"]).assign(net="A")
    ends = {"ahead": (-0.5, 0.4), "risk_rejected": (20.0, 30.0), "risk_kept": (1.0, 3.0)}
    for column, (low, high) in ends.items():
        found[[column, f"{column}_low", f"{column}_high"]] = (low + high) / 2, low, high
    return found


def test_the_directions_can_fail():
    def found(**change):
        return [c.holds for c in rejection.conditions(frame().assign(**change))]

    assert found() == [True, True]
    assert found(ahead_low=-1.1) == [None, True]
    assert found(ahead_high=1.1) == [None, True]
    assert found(ahead_low=1.1, ahead_high=1.3) == [False, True]
    assert found(risk_kept_high=20.5) == [True, None]
    assert found(risk_kept_low=30.5, risk_kept_high=31.0) == [True, False]
