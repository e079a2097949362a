"""Committed models: results/models/<name>.safetensors with a sealed card beside it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as unpack
from safetensors.torch import save as pack

from thesis_repro.lab import places, sealed
from thesis_repro.lab.store import write_atomic
from thesis_repro.robustness import recipes
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe

LARGEST = 10_000_000


def root() -> Path:
    """The folder of committed models."""
    return places.results_root() / "models"


def names() -> tuple[str, ...]:
    """Names of the committed models.

    Raises
    ------
    ValueError
        Outside a checkout, where none are, unless some were saved here or THESIS_REPRO_RESULTS
        names another folder.
    """
    if not (root().is_dir() or places.named(places.RESULTS) or places.checkout()):
        raise ValueError(
            f"no committed models in {root()}: they are in a checkout of the project, not in the "
            f"installed package; name its folder results/ in {places.RESULTS}"
        )
    return tuple(sorted(path.stem for path in root().glob("*.json")))


def committed(name: str) -> bool:
    """Say whether there is a committed model of this name; False outside a checkout."""
    return (root() / f"{name}.json").is_file()


def save(name: str, net: GloroNet, recipe: Recipe, card: Mapping[str, Any]) -> Path:
    """Commit a model's weights and its card (recipe, data, scores, provenance).

    Raises
    ------
    ValueError
        If the file would exceed 10 MB.
    """
    path = root() / f"{name}.safetensors"
    weights = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    content = pack(weights)
    if len(content) > LARGEST:
        raise ValueError(f"{name} has {len(content):,} bytes; a committed model has at most 10 MB")
    write_atomic(path, content)
    about = {
        **card,
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "input_shape": list(net.input_shape),
        "classes": net.classes,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    sealed.write(path.with_suffix(".json"), about)
    return path


def weights_file(name: str) -> Path:
    """The weights of a committed model, or of a safetensors path that has its card beside it.

    Raises
    ------
    ValueError
        On an unknown name (the message lists the names) or a path without a card.
    """
    if name.endswith(".safetensors"):
        if not Path(name).with_suffix(".json").is_file():
            raise ValueError(f"{name} needs its card {Path(name).with_suffix('.json').name} beside")
        return Path(name)
    if name not in names():
        raise ValueError(f"no model is called {name!r}; there are {', '.join(names()) or 'none'}")
    return root() / f"{name}.safetensors"


def card(name: str) -> dict[str, Any]:
    """The card of a model; names as in `weights_file`.

    Raises
    ------
    ValueError
        On an unknown name or an altered card.
    """
    return sealed.read(weights_file(name).with_suffix(".json"))


def load(name: str) -> GloroNet:
    """Load a model in eval mode, on the CPU; its hash is checked. Names as in `weights_file`.

    Raises
    ------
    ValueError
        On an unknown name, altered bytes, or weights of another architecture.
    """
    about = card(name)
    content = sealed.check_bytes(weights_file(name), about["sha256"])
    fields = about["recipe"] | {"device": "cpu", "trades": tuple(about["recipe"]["trades"])}
    channels, height, width = about["input_shape"]
    net = recipes.build(Recipe(**fields), (channels, height, width), about["classes"])
    try:
        net.load_state_dict(unpack(content))
    except RuntimeError as error:
        raise ValueError(
            f"{name}.safetensors does not fit {about['recipe']['net']}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None
    return net.eval()
