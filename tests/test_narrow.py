"""Figures for a phone: panels one under the other, and the figure itself as it was."""

import base64
import io
import itertools
import struct
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from thesis_repro.figures import narrow
from thesis_repro.publish import phone


def row_of(count: int) -> Figure:
    figure, axes = plt.subplots(1, count, figsize=(9, 3), sharey=True)
    for at, axis in enumerate(axes):
        axis.plot([0, at + 1])
        axis.set_title("small", fontsize=8)
    axes[0].set_ylabel("share")
    plt.close(figure)
    return figure


def picture(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out)
    return out.getvalue()


def test_panels_stand_one_under_the_other_each_with_its_scale() -> None:
    figure = row_of(3)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        boxes = [axis.get_position() for axis in figure.axes]
        assert figure.get_size_inches()[0] == narrow.PHONE / 72
        assert {axis.get_ylabel() for axis in figure.axes} == {"share"}
        assert all(axis.yaxis.get_tick_params()["labelleft"] for axis in figure.axes)
    assert all(high.y0 > low.y1 for high, low in itertools.pairwise(boxes))
    assert len({round(box.x0, 3) for box in boxes}) == 1


@pytest.mark.parametrize(("count", "columns"), [(4, 2), (5, 3), (6, 3)])
def test_many_panels_stand_in_columns(count: int, columns: int) -> None:
    figure = row_of(count)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        assert len({round(axis.get_position().x0, 1) for axis in figure.axes}) == columns


def test_the_legend_of_the_figure_is_as_wide_as_a_phone() -> None:
    figure = row_of(2)
    lines = figure.axes[0].plot([[0, 1, 2, 3]] * 2)
    figure.legend(lines, ["a name of some length"] * 4, loc="outside upper center", ncols=4)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        _, legend = figure.legends
        assert legend.get_window_extent().width < figure.bbox.width
    assert [legend.get_visible() for legend in figure.legends] == [True]


def test_a_figure_is_left_as_it_was() -> None:
    figure = row_of(3)
    figure.legend(
        list(figure.axes[0].lines) * 3, ["a", "b", "c"], loc="outside upper center", ncols=3
    )
    before = picture(figure)
    narrow.bundle(figure)
    assert picture(figure) == before


def test_a_bundle_says_how_high_letters_are_and_has_what_can_be_stacked() -> None:
    said = narrow.bundle(row_of(2))[narrow.KEY]
    assert said["letters"] == pytest.approx(8 / 72 * 100, abs=0.1)
    assert base64.b64decode(said["png"])[1:4] == b"PNG"
    figure = plt.figure()
    rows = figure.add_gridspec(2, 2)
    for place in (rows[0, 0], rows[0, 1], rows[1, :]):
        figure.add_subplot(place)
    plt.close(figure)
    assert "png" not in narrow.bundle(figure)[narrow.KEY]


def grid_of(rows: int, columns: int, title: str) -> Figure:
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.9 * rows))
    for row, line in enumerate(axes):
        for axis in line:
            axis.set(xticks=[], yticks=[], title=title)
        line[0].set_ylabel(f"row {row}")
    plt.close(figure)
    return figure


@pytest.mark.parametrize(
    ("shape", "title", "columns"),
    [((3, 6), "5.0", 3), ((3, 4), "why this and not that", 2), ((2, 2), "5.0", 2)],
)
def test_a_grid_is_cut_into_blocks_of_whole_columns(
    shape: tuple[int, int], title: str, columns: int
) -> None:
    rows, across = shape
    figure = grid_of(rows, across, title)
    before = picture(figure)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        boxes = [axis.get_position() for axis in figure.axes]
        names = [axis.get_ylabel() for axis in figure.axes]
        titles = [axis.title.get_window_extent() for axis in figure.axes[:columns]]
    assert len({round(box.x0, 2) for box in boxes}) == columns
    assert names == [
        f"row {at // across}" if at % across % columns == 0 else "" for at in range(rows * across)
    ]
    for at in range(across):  # what stood below each other still does
        assert boxes[at].x0 == pytest.approx(boxes[at + across].x0, abs=0.01)
        assert boxes[at].y0 > boxes[at + across].y1
    assert boxes[across - 1].y1 < boxes[-across].y0 or columns == across
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(titles))
    assert picture(figure) == before


def test_a_colour_bar_stands_beside_stacked_panels() -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    shown = [axis.imshow([[0, 1], [2, 3]]) for axis in axes]
    figure.colorbar(shown[0], ax=list(axes))
    plt.close(figure)
    assert narrow.panels(figure) == list(axes)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        first, second, bar = (axis.get_position() for axis in figure.axes)
    assert first.y0 > second.y1 and bar.x0 > max(first.x1, second.x1)


@pytest.mark.parametrize("count", [1, 2])
def test_letters_of_8_points_are_8_pixels_high_on_a_phone(count: int) -> None:
    figure, axes = plt.subplots(1, count, figsize=(8, 2.8), squeeze=False)
    for axis in axes[0]:
        axis.barh(range(3), [1, 2, 3])
        axis.set_yticks(range(3), ["a name of some length"] * 3, fontsize=8)
    plt.close(figure)
    said = narrow.bundle(figure)[narrow.KEY]
    width, height = struct.unpack(">II", base64.b64decode(said["png"])[16:24])
    assert said["stacked"] * narrow.PHONE / width >= phone.LEAST
    if count == 1:
        assert height == pytest.approx(2.8 * narrow.DPI, rel=0.1), "it keeps its height"


def test_a_legend_too_wide_for_two_columns_has_one() -> None:
    figure = row_of(2)
    lines = figure.axes[0].plot([[0, 1, 2]] * 2)
    names = ["a name of more than half of a phone"] * 3
    figure.legend(lines, names, loc="outside upper center", ncols=3)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        assert figure.legends[1].get_window_extent().width < figure.bbox.width


def keyed(high: float, key: str = "upper left", count: int = 1) -> Figure:
    """One curve that ends at a height, and the key of its panel."""
    figure, axes = plt.subplots(1, count, figsize=(7, 3), squeeze=False)
    for axis in axes[0]:
        axis.plot([0, 1], [0.1, high], "o-", label="a curve")
        axis.set(xlim=(0, 1), ylim=(0, 1), title="panel")
    axes[0, 0].legend(loc=key, title="drawn")
    plt.close(figure)
    return figure


def test_a_key_that_lies_on_something_goes_above_the_panels_with_its_title() -> None:
    figure = keyed(0.2, "lower right")
    before = picture(figure)
    with narrow.stacked(figure):
        figure.draw_without_rendering()
        (key,) = figure.legends
        assert key.get_title().get_text() == "drawn"
        assert [text.get_text() for text in key.get_texts()] == ["a curve"]
        assert key.get_window_extent().y0 > figure.axes[0].title.get_window_extent().y1
        assert not figure.axes[0].get_legend().get_visible()
        more = figure.get_figheight() - 3
        assert more == pytest.approx(key.get_window_extent().height / figure.dpi, abs=0.01)
    assert picture(figure) == before and not figure.legends


@pytest.mark.parametrize("count", [1, 2])
def test_a_key_on_an_empty_place_stays(count: int) -> None:
    figure = keyed(0.2, "upper right", count)
    with narrow.stacked(figure):
        assert not figure.legends and figure.axes[0].get_legend().get_visible()


def test_what_a_key_lies_on_is_a_mark_a_bar_or_a_text_but_no_plain_band() -> None:
    for draw, hidden in (
        (lambda axis: axis.axvspan(0, 1, color="0.9"), False),
        (lambda axis: axis.scatter([0.85], [0.9]), True),
        (lambda axis: axis.bar([0.85], [0.9], 0.1), True),
        (lambda axis: axis.text(0.8, 0.85, "word"), True),
        (lambda axis: axis.plot([0.85], [0.9], "d"), True),
    ):
        figure = keyed(0.2, "upper right")
        draw(figure.axes[0])
        with narrow.stacked(figure):
            assert bool(figure.legends) is hidden


def test_a_key_of_a_later_panel_or_beside_one_of_the_figure_stays() -> None:
    figure = keyed(0.2, "lower right", 2)
    figure.axes[0].get_legend().remove()
    figure.axes[1].legend(loc="lower right")
    with narrow.stacked(figure):
        assert not figure.legends and figure.axes[1].get_legend().get_visible()
    figure = keyed(0.2, "lower right")
    figure.legend(loc="outside upper center")
    with narrow.stacked(figure):
        assert len(figure.legends) == 1 and figure.axes[0].get_legend().get_visible()


def test_marks_with_error_bars_keep_both_in_a_folded_key() -> None:
    figure, axis = plt.subplots(figsize=(9, 3))
    for name in "abc":
        axis.errorbar([0, 1], [0, 1], 0.1, fmt="o", label=name)
    figure.legend(loc="outside upper center", ncols=3)
    plt.close(figure)
    with narrow.stacked(figure):
        drawn = figure.legends[1].findobj(lambda artist: getattr(artist, "get_marker", None))
        assert [mark.get_marker() for mark in drawn].count("o") == 3


@pytest.mark.parametrize("what", ["ticks", "cells"])
def test_a_picture_whose_names_would_lie_on_each_other_is_not_given(what: str) -> None:
    figure, axis = plt.subplots(figsize=(9, 3))
    axis.set(xlim=(-0.5, 9.5), ylim=(0, 1), xticks=range(10))
    axis.set_xticklabels([str(at) for at in range(10)])
    assert "png" in narrow.bundle(figure)[narrow.KEY]
    if what == "ticks":
        axis.set_xticklabels(["nearest to\na member"] * 10, fontsize=8)
        axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    else:
        for at in range(10):
            axis.text(at, 0.5, "+10.8 ±1.7", ha="center", fontsize=8)
    before = picture(figure)
    assert set(narrow.bundle(figure)[narrow.KEY]) == {"letters"}
    assert picture(figure) == before
    plt.close(figure)


def test_names_that_fit_beside_each_other_are_given() -> None:
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.set(xlim=(0, 9), xticks=range(10), xticklabels=["1.00"] * 10)  # near, not on each other
    plt.close(figure)
    assert "png" in narrow.bundle(figure)[narrow.KEY]


def test_ticks_beyond_the_ends_of_a_scale_and_arrows_do_not_count() -> None:
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.set_xticks([0, 1, 2, 2.01], ["0", "1", "far out", "farther"])
    axis.set_xlim(0, 1)
    axis.annotate("here", (1, 1), (0.1, 0.1), arrowprops={"arrowstyle": "->"})
    axis.annotate("there", (0, 0), (0.8, 0.8), arrowprops={"arrowstyle": "->"})
    plt.close(figure)
    assert "png" in narrow.bundle(figure)[narrow.KEY]


def test_a_kernel_gives_each_figure_its_second_picture() -> None:
    from IPython.core.formatters import DisplayFormatter

    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    narrow.load_ipython_extension(shell)
    data, about = shell.display_formatter.format(row_of(2))
    assert (set(data), set(about)) == ({"text/plain"}, {narrow.KEY})
