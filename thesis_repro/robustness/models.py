"""Committed models: results/models/<name>.safetensors with a sealed card beside it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as unpack

from thesis_repro import data
from thesis_repro.lab import places, sealed
from thesis_repro.lab.cells import compute
from thesis_repro.lab.store import write_atomic
from thesis_repro.robustness import certificate, recipes
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe, Training
from thesis_repro.robustness.relaxed import Guarantee
from thesis_repro.training import named

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
    return _names()


def _names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in root().glob("*.json")))


def standing_for(config: Training) -> str:
    """The name of the committed model that this training gave; empty where none is.

    Recipe, data and augmentation have to agree, but for what a machine decides: bfloat16, fused
    and recorded steps. None outside a checkout.

    Raises
    ------
    ValueError
        On an altered card.
    """
    for name in _names():
        about = card(name)
        if (about.get("data"), about.get("augment")) != (config.dataset, config.augment):
            continue
        same = _anywhere(_recipe(about)) == _anywhere(config.recipe)
        if same and about["data_sha256"] == data.fingerprint(config.dataset):
            return name
    return ""


def trained(config: Training) -> GloroNet:
    """The net of a training: the committed one, else from the store, else trained now.

    It comes in eval mode, on the recipe's device. Where a cell calls this, its key needs
    :func:`fingerprints`.

    Raises
    ------
    ValueError
        On an altered model.
    """
    if name := standing_for(config):
        return load(name).to(config.device)
    weights = compute(named.cell(config)).arrays
    return named.loaded(recipes.proving(config), weights)


def fingerprints(config: Training) -> tuple[tuple[str, str], ...]:
    """What :func:`trained` reads: the data set, and the committed model where one stands for it."""
    found = named.fingerprints(config)
    if name := standing_for(config):
        found += ((name, card(name)["sha256"]),)
    return found


def _anywhere(recipe: Recipe) -> Recipe:
    """A recipe without what the machine decides."""
    return dataclasses.replace(recipe, autocast=False, fused=False, graph=False)


def save(name: str, net: GloroNet, recipe: Recipe, card: Mapping[str, Any]) -> Path:
    """Commit a model's weights and its card (recipe, data, scores, provenance).

    Raises
    ------
    ValueError
        If the file would exceed 10 MB.
    """
    path = root() / f"{name}.safetensors"
    content = certificate.packed(net)
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


def weights_file(name: str | Path) -> Path:
    """The weights of a committed model, or of a safetensors path that has its card beside it.

    Raises
    ------
    ValueError
        On an unknown name (the message lists the names) or a path without a card.
    """
    if str(name).endswith(".safetensors"):
        path = Path(name).expanduser()
        if not path.with_suffix(".json").is_file():
            raise ValueError(f"{name} needs its card {path.with_suffix('.json').name} beside")
        return path
    if name not in names():
        raise ValueError(f"no model is called {name!r}; there are {', '.join(names()) or 'none'}")
    return root() / f"{name}.safetensors"


def card(name: str | Path) -> dict[str, Any]:
    """The card of a model; names as in `weights_file`.

    Raises
    ------
    ValueError
        On an unknown name or an altered card.
    """
    return sealed.read(weights_file(name).with_suffix(".json"))


def load(name: str | Path) -> GloroNet:
    """Load a model in eval mode, on the CPU; its hash is checked. Names as in `weights_file`.

    Raises
    ------
    ValueError
        On an unknown name, altered bytes, or weights of another architecture.
    """
    about = card(name)
    content = sealed.check_bytes(weights_file(name), about["sha256"])
    net = _built(about)
    try:
        net.load_state_dict(unpack(content))
    except RuntimeError as error:
        raise ValueError(
            f"{name}.safetensors does not fit {about['recipe']['net']}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None
    return net.eval()


def architecture(name: str | Path) -> dict[str, Any]:
    """Input shape and layers of the net that a model's card names, as `certificate.architecture`.

    Raises
    ------
    ValueError
        On an unknown name, or weights that are not those of the card.
    """
    about = card(name)
    sealed.check_bytes(weights_file(name), about["sha256"])
    return certificate.architecture(_built(about))


def to_verify(name: str | Path) -> tuple[Path, dict[str, Any] | None]:
    """The weights to check a certificate with, and the architecture by the card.

    None where a safetensors path has no card: then the file itself has to state it.

    Raises
    ------
    ValueError
        As :func:`architecture`.
    """
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and not path.with_suffix(".json").is_file():
        return path, None
    return weights_file(name), architecture(name)


def _built(about: Mapping[str, Any]) -> GloroNet:
    """The net of a card before its weights are loaded."""
    recipe = dataclasses.replace(_recipe(about), device="cpu")
    channels, height, width = about["input_shape"]
    return recipes.build(recipe, (channels, height, width), about["classes"])


def _recipe(about: Mapping[str, Any]) -> Recipe:
    """The recipe of a card, which JSON has made of lists and mappings."""
    fields = _tuples(about["recipe"])
    if fields.get("guarantee"):
        fields["guarantee"] = Guarantee(**fields["guarantee"])
    return Recipe(**fields)


def _tuples(value: Any) -> Any:
    """JSON with tuples in place of its lists."""
    if isinstance(value, Mapping):
        return {name: _tuples(part) for name, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
