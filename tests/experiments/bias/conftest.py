"""Rows of a table of remedies, as its conditions read them."""

import pandas as pd
import pytest


@pytest.fixture
def remedies_frame():
    """A frame in which experts leave so much bias, on some sets; every other remedy halves it."""

    def frame(experts, accuracy=90.0, sets=("synthetic", "a", "b", "c"), learners=("SGD",)):
        rows = [
            (name, learner, remedy, bias, abs(bias), bias - 0.3, bias + 0.3, right)
            for name in sets
            for learner in learners
            for remedy, bias, right in (
                ("none", 4.0, 90.0),
                ("parity", -1.0, 89.6),
                ("experts", experts, accuracy),
                ("L1", 1.0, 90.0),
                ("threshold", 0.0, 89.0),
            )
        ]
        columns = ["dataset", "learner", "remedy", "bias", "absolute", "bias_low", "bias_high"]
        frame = pd.DataFrame(rows, columns=[*columns, "accuracy"])
        frame["chance"] = frame["remedy"].map({"none": 1.0})
        frame["removed"] = 100 * (1 - frame["absolute"] / 4)
        return frame

    return frame
