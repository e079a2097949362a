"""Recorded figures are as their cards say."""

from pathlib import Path

import pytest
from PIL import Image

from thesis_repro.figures import recorded
from thesis_repro.lab import places, sealed


def test_recorded_figures_are_as_their_cards_say(root: Path) -> None:
    folder = root / "results" / "figures"
    for name, sources in recorded.FIGURES.items():
        card = sealed.read(folder / f"{name}.json")
        # the card keeps the place that the script had when the figure was recorded
        assert card["script"] == recorded.script(name) and card["clean"]
        assert set(card["data"]) == set(card["terms"]) == set(sources)
        assert all(card["data"].values()) and all(card["terms"].values())
        sealed.check_bytes(folder / f"{name}.png", card["sha256"])
    with pytest.raises(ValueError, match="no recorded figure"):
        recorded.record("unheard-of")


def test_a_figure_is_recorded_where_results_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    monkeypatch.setitem(recorded.FIGURES, "blank", ())
    monkeypatch.setattr(recorded, "script", lambda name: "matplotlib.figure:Figure")
    path = recorded.record("blank")
    assert path == tmp_path / "figures" / "blank.png"
    sealed.check_bytes(path, sealed.read(path.with_suffix(".json"))["sha256"])
    with Image.open(path) as picture:
        assert picture.mode == "P", "few bytes for a page"
