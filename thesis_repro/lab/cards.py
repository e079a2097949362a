"""Cards of models: whether a file is one, and whether the name of its model says the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_repro.lab.sealed import Altered

NAMED = re.compile(r"(.+)-(\d+c\d+f)-gloro")
"""Names that say data set and net; a card itself does not hold the name."""

FIELDS = {"sha256": str, "recipe": dict, "input_shape": list, "classes": int}
"""What a model is loaded by, in its card, and the type of each."""


def check_whole(file: Path, card: Mapping[str, Any]) -> None:
    """Refuse sealed JSON beside weights that is no card of a model.

    Raises
    ------
    ValueError
        Saying what the file is, where it says so itself, or else what it lacks.

    Examples
    --------
    >>> recipe = {"net": "2c2f"}
    >>> about = {"sha256": "0f" * 32, "recipe": recipe, "input_shape": [1, 8, 8], "classes": 2}
    >>> check_whole(Path("mine.json"), about)
    """
    if lacking := [key for key, kind in FIELDS.items() if not isinstance(card.get(key), kind)]:
        lacks = f"it lacks {', '.join(lacking)}"
        said = f"its format is {card['format']!r}" if "format" in card else lacks
        raise ValueError(f"{file.name} beside the weights is no card of a model: {said}")


def check_name(name: str, card: Mapping[str, Any]) -> None:
    """Refuse the card of another model under this name, as far as the name says what it is of.

    Raises
    ------
    Altered
        If the name says another net or data set than the card.

    Examples
    --------
    >>> check_name("mnist-2c2f-gloro", {"data": "mnist", "recipe": {"net": "2c2f"}})
    >>> check_name("mine", {})
    """
    said = NAMED.fullmatch(name)
    recipe = card.get("recipe")
    net = recipe.get("net") if isinstance(recipe, Mapping) else None
    if said is not None and (card.get("data", said[1]), net) != said.groups():
        raise Altered(
            f"models/{name}.json was altered: it is the card of a net {net} for {card.get('data')}"
        )
