"""Committed models: results/models/<name>.safetensors with a sealed card beside it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as unpack

from thesis_repro import data
from thesis_repro.lab import cards, places, sealed
from thesis_repro.lab.cells import compute
from thesis_repro.robustness import certificate, recipes, stated, structure
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.recipes import Recipe, Training
from thesis_repro.robustness.relaxed import Guarantee
from thesis_repro.training import named

LARGEST = 10_000_000
STATED = "as the file states"
"""The net of a recipe that went on from a net of somebody's own."""


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
    kept = root().is_dir() or places.named(places.RESULTS) or places.checkout()
    if not kept and places.shipped() is None:
        raise ValueError(
            f"no committed models in {root()}: they are in a checkout of the project, not in the "
            f"installed package; name its folder results/ in {places.RESULTS}"
        )
    return _names()


def _names() -> tuple[str, ...]:
    folders = {root()}
    if (brought := places.shipped()) is not None and places.named(places.RESULTS) is None:
        folders.add(brought / "models")
    return tuple(sorted({path.stem for folder in folders for path in folder.glob("*.json")}))


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
        if same and about.get("data_sha256") == data.fingerprint(config.dataset):
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
        If the file would exceed 10 MB, or the name says another net or data set than the card.
    """
    cards.check_name(name, {**card, "recipe": {"net": recipe.net}})
    size = len(certificate.packed(net))
    if size > LARGEST:
        raise ValueError(f"{name} has {size:,} bytes; a committed model has at most 10 MB")
    return write(root() / f"{name}.safetensors", net, recipe, card)


def write(path: Path | str, net: GloroNet, recipe: Recipe, card: Mapping[str, Any]) -> Path:
    """Write a model's weights anywhere, with its card beside; :func:`load` takes the path.

    Raises
    ------
    ValueError
        As :func:`certificate.write_net`.
    """
    path = certificate.weights_path(path)
    about = {
        **card,
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "input_shape": list(net.input_shape),
        "classes": net.classes,
    }
    sealed.write_pair(path, certificate.packed(net), about)
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
        if not path.is_file():
            raise ValueError(f"{name}: there is no such file")
        if card_of(path) is None:
            raise ValueError(f"{name} needs its card {path.with_suffix('.json').name} beside")
        return path
    if name not in names() and Path(name).suffix:
        raise ValueError(
            f"{name}: weights need to come as a .safetensors file, as `thesis-repro adopt` or "
            f"certificate.write_net writes it"
        )
    if name not in names():
        raise ValueError(f"no model is called {name!r}; there are {', '.join(names()) or 'none'}")
    return places.recorded(Path("models") / f"{name}.safetensors")


def card(name: str | Path) -> dict[str, Any]:
    """The card of a model; names as in `weights_file`.

    Raises
    ------
    ValueError
        On an unknown name, a card that is altered or of another model, or a file that is no card.
    """
    path = weights_file(name).with_suffix(".json")
    about = sealed.read(path)
    cards.check_whole(path, about)
    if not str(name).endswith(".safetensors"):
        cards.check_name(str(name), about)
    return about


def load(name: str | Path, epsilon: float | None = None) -> GloroNet:
    """Load a model in eval mode, on the CPU; its hash is checked against its card.

    A safetensors file needs no card where it states its layers, as `certificate.write_net` and
    `thesis-repro adopt` write it; then a radius has to be given.

    Parameters
    ----------
    name : of a committed model, or the path of a safetensors file
    epsilon : radius > 0 of the net; that of its card by default

    Raises
    ------
    ValueError
        On an unknown name, altered bytes, weights of another architecture or of more than one
        format; without a card, also if there is no radius.

    Examples
    --------
    >>> net = load("mnist-2c2f-gloro")
    >>> net.epsilon, net.input_shape
    (0.3, (1, 28, 28))
    """
    if _alone(name):
        if epsilon is None:
            raise ValueError(f"{name} has no card beside, which would say its radius: give epsilon")
        return stated.load(name, epsilon)
    about = card(name)
    weights = unpack(sealed.check_bytes(weights_file(name), about["sha256"]))
    net = _built(about, weights_file(name))
    net.body.to(stated.precision(weights_file(name), weights))
    if epsilon is not None:
        net.epsilon = structure.check_epsilon(epsilon)
    try:
        net.load_state_dict(weights)
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
    return certificate.architecture(_built(about, weights_file(name)))


def to_verify(name: str | Path) -> tuple[Path, dict[str, Any] | None]:
    """The weights to check a certificate with, and the architecture by the card.

    None where a safetensors path has no card: then the file itself has to state it.

    Raises
    ------
    ValueError
        As :func:`architecture`.
    """
    if _alone(name):
        return Path(name).expanduser(), None
    return weights_file(name), architecture(name)


def _alone(name: str | Path) -> bool:
    """Whether this is the path of weights without a card."""
    path = Path(name).expanduser()
    return path.suffix == ".safetensors" and path.is_file() and card_of(path) is None


def card_of(weights: Path | str) -> Path | None:
    """The card beside weights; None where there is none, or a certificate of the same name."""
    path = Path(weights).expanduser().with_suffix(".json")
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return path  # a damaged card is named where it is read
    return None if isinstance(said, dict) and said.get("format") == certificate.FORMAT else path


def _built(about: Mapping[str, Any], weights: Path) -> GloroNet:
    """The net of a card before its weights are loaded."""
    recipe = dataclasses.replace(_recipe(about), device="cpu")
    if recipe.net == STATED:
        return stated.load(weights, recipe.epsilon)
    channels, height, width = about["input_shape"]
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and then replaced
        return recipes.build(recipe, (channels, height, width), about["classes"])


def _recipe(about: Mapping[str, Any]) -> Recipe:
    """The recipe of a card, which JSON has made of lists and mappings."""
    fields = _tuples(about["recipe"])
    try:
        if fields.get("guarantee"):
            fields["guarantee"] = Guarantee(**fields["guarantee"])
        return Recipe(**fields)
    except TypeError as error:
        raise ValueError(f"the model's card holds no recipe of this version: {error}") from None


def _tuples(value: Any) -> Any:
    """JSON with tuples in place of its lists."""
    if isinstance(value, Mapping):
        return {name: _tuples(part) for name, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
