import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from thesis_repro.experiments.relaxed import figures


@pytest.mark.parametrize(
    ("labels", "grid", "places"),
    [
        (3, (1, 4), [(0, 0), (0, 1), (0, 2)]),  # two sizes: one row
        (4, (2, 3), [(0, 0), (1, 0), (0, 1)]),  # three: a column each
    ],
)
def test_each_size_shows_its_most_frequent_sets_by_their_first_points(labels, grid, places):
    order = np.array(
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1], [2, 1, 3, 0], [0, 2, 1, 3]],
        np.int16,
    )[:, :labels]
    strictest = np.array([2, 2, 2, 0, 3, 1], np.int16)
    x = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2) / 10
    figure = figures.by_size(x, torch.tensor([3, 1, 1, 0, 2, 0]), order, strictest, list("abcd"))
    shown = {
        (row, column): (axis.get_title(), axis.get_xlabel(), axis.images[0].get_array().mean())
        for row, axes in enumerate(np.array(figure.axes).reshape(grid))
        for column, axis in enumerate(axes)
        if axis.axison
    }
    # {a, b} has two points, {c, d} one; of three labels there is one set
    assert {place: found[:2] for place, found in shown.items()} == dict(
        zip(
            places,
            [("a,\nb", "is “d”"), ("c,\nd", "is “b”"), ("b,\nc,\nd", "is “c”")],
            strict=True,
        )
    )
    assert [round(10 * shown[at][2]) for at in places] == [0, 1, 4]
    plt.close(figure)
