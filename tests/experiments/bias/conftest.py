"""Rows of a table of remedies, as its conditions read them."""

import pandas as pd
import pytest


@pytest.fixture
def remedies_frame():
    """A frame in which experts leave so much bias, on some sets."""

    def frame(experts, accuracy=90.0, sets=("synthetic", "a", "b", "c")):
        rows = [
            (name, remedy, absolute, right)
            for name in sets
            for remedy, absolute, right in (
                ("none", 4.0, 90.0),
                ("parity", 1.0, 89.6),
                ("experts", experts, accuracy),
            )
        ]
        frame = pd.DataFrame(rows, columns=["dataset", "remedy", "absolute", "accuracy"])
        frame["removed"] = 100 * (1 - frame["absolute"] / 4)
        return frame

    return frame
