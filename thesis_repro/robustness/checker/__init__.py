"""An independent check of certificate files: numpy, and nothing of the certifier.

Re-derived here, by other means than the certifier's: the constant of each layer (Gram iteration
with its rounding carried along, where the certifier factorises), the logits (maps of its own, in
float64), and a rounding budget for the arithmetic that the file names.

What the file is about
    Every tensor of the weights file has to be listed in the certificate with its hash, be used by
    a layer, and have the format that is certified; or all of them are float32 and the certificate
    is about their values in float64 arithmetic, which is another function. Layers without weights
    leave no trace in tensors, so the architecture is bound as well: to the one that the weights
    file states in its metadata (`architecture`, written by `certificate.write_net`), or to the one
    that is handed to :func:`check`, e.g. that of a model's card. Without either the verdicts are
    about the net that the certificate lists; then `Report.bound` is False and a note says so.

What a verdict is about
    "confirmed": proved here, with this module's own bounds, that no point within epsilon of the
    image gets another label than the file's, neither in exact arithmetic nor as computed.
    The bounds of layers, K_ij and margins are what the certifier worked with. They are held
    against each other and against what is known from below, and are no part of what is confirmed.

Examples
--------
>>> import tempfile, torch
>>> from thesis_repro.robustness import GloroNet, certificate, certify
>>> body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
>>> net, x = GloroNet(body, 1e-4, (1, 2, 2)).eval(), torch.rand(5, 1, 2, 2)
>>> folder = Path(tempfile.mkdtemp())
>>> weights = certificate.write_net(folder / "own.safetensors", net)
>>> file = certificate.write(folder / "own.json", net, certify(net, x), x)
>>> report = check(file, weights, x.numpy())
>>> report.claims == report.count(CONFIRMED), report.bound
(True, True)
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_repro.robustness.checker import files, nets
from thesis_repro.robustness.checker.bounds import LARGEST, TINY, Array, U, gamma
from thesis_repro.robustness.checker.files import read
from thesis_repro.robustness.checker.layers import Layer, Linear, Weights
from thesis_repro.robustness.checker.passes import State, advance

__all__ = ["CONFIRMED", "CONTRADICTED", "NO_CLAIM", "UNCONFIRMED", "Report", "check", "read"]

UNITS = {"float32": 2.0**-24, "float64": U}
CONFIRMED, UNCONFIRMED, CONTRADICTED, NO_CLAIM = "confirmed", "not confirmed", "contradicted", ""
VALUES = 2**23
"""Values of a layer's outputs that are held at once."""


@dataclass(frozen=True)
class Report:
    """One verdict per point ("" where the file claims nothing), and what was found on the way.

    bound : whether the architecture is that of the weights file or the one that was handed in

    Examples
    --------
    >>> report = Report([CONFIRMED, NO_CLAIM, UNCONFIRMED], [])
    >>> report.claims, report.count(CONFIRMED)
    (2, 1)
    """

    verdicts: list[str]
    notes: list[str]
    bound: bool = False

    def count(self, verdict: str) -> int:
        """How many points got this verdict."""
        return self.verdicts.count(verdict)

    @property
    def claims(self) -> int:
        """How many points the file claims to be certified, or says something wrong of."""
        return len(self.verdicts) - self.count(NO_CLAIM)


@np.errstate(all="ignore")  # what overflows is infinite, and then proves nothing
def check(
    file: Path | str,
    weights: Path | str,
    images: NDArray[Any],
    batch: int = 250,
    architecture: Mapping[str, Any] | None = None,
) -> Report:
    """Judge every point of a certificate file.

    The architecture is that which the weights file states, as one of `certificate.write_net` does;
    otherwise it has to be handed in, as `certificate.architecture` gives it.

    Parameters
    ----------
    file : certificate, as JSON
    weights : safetensors file of the model, tensors named body.*
    images : (n, c, h, w), floats or whole numbers, as they were certified
    batch : images at a time, at least 1; fewer where the net is large
    architecture : `input_shape` and `layers` of the net; those of the weights file by default

    Raises
    ------
    ValueError
        If a file, the images, the batch or the architecture is malformed, or if the file, a weight,
        an image or the architecture is not the one that was certified. One line that names it.
    OSError
        If a file cannot be read.
    """
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise ValueError(f"batch needs to be a whole number of at least 1, got {batch!r:.40}")
    about = read(file)
    tensors, stated = files.weights(weights, about)
    images = _images(images, about)
    bound = _bind(about, stated, architecture)
    notes = []
    if not bound:
        notes.append(
            f"{Path(weights).name} does not state its architecture: the verdicts are about the "
            f"layers that the certificate lists"
        )
    if unknown := nets.unknown(about["layers"]):
        notes.append(f"layers not known here: {', '.join(f'{kind:.40}' for kind in unknown)}")
        return Report([UNCONFIRMED] * len(images), notes, bound)
    layers, head = _net(about, tensors)
    wrong = _refuted(about, layers, head)
    claims = about["points"]
    widest = max(layer.widest for layer in [*layers, head])
    batch = max(1, min(batch, VALUES // widest))
    verdicts = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        some = {name: values[part] for name, values in claims.items()}
        verdicts += _judge(layers, head, images[part].astype(np.float64), about, some)
    if wrong:
        verdicts = [CONTRADICTED] * len(images)
    return Report(verdicts, notes + wrong, bound)


def _images(images: NDArray[Any], about: Mapping[str, Any]) -> NDArray[Any]:
    try:
        found = np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's are of all three kinds
        said = " ".join(str(error).split())
        raise ValueError(f"images need to be an array of numbers: {said:.200}") from None
    if found.dtype.kind not in "fiu":
        raise ValueError(
            f"images need to be an array of real numbers (n, channels, h, w), got "
            f"{type(images).__name__} of {found.dtype}"
        )
    images = np.ascontiguousarray(found, about["arithmetic"])
    if len(images) != len(about["images"]):
        raise ValueError(f"the certificate is of {len(about['images'])} images, got {len(images)}")
    if images.shape[1:] != tuple(about["input_shape"]):
        raise ValueError(
            f"the certificate is of images of shape {tuple(about['input_shape'])}, got "
            f"{images.shape[1:]}"
        )
    for index, (image, known) in enumerate(zip(images, about["images"], strict=True)):
        if hashlib.sha256(image.tobytes()).hexdigest()[:16] != known:
            raise ValueError(f"image {index} is not the one that was certified")
    if not np.isfinite(images).all():
        raise ValueError("images need to be finite")
    return images


def _bind(about: Mapping[str, Any], stated: Any, given: Mapping[str, Any] | None) -> bool:
    """Whether the architecture is known from elsewhere; refuses another one."""
    own = files.architecture(about)
    if stated is not None and stated != own:
        raise ValueError("the certificate is about another architecture than the weights file")
    try:
        other = own if given is None else files.architecture(given)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise ValueError(
            f"architecture needs `input_shape` and `layers`, as certificate.architecture gives "
            f"them, got {given!r:.40}"
        ) from None
    if other != own:
        raise ValueError("the certificate is about another architecture than the model's")
    return stated is not None or given is not None


def _net(about: Mapping[str, Any], tensors: dict[str, Array]) -> tuple[list[Layer], Linear]:
    """The layers, bounded for the shapes of this net; every weight has to be used."""
    weights = Weights(tensors)
    layers = nets.made(about["layers"], weights)
    if unused := sorted(set(tensors) - weights.used):
        raise ValueError(f"no layer uses weight {unused[0]!r}")
    head = layers.pop()
    if not isinstance(head, Linear):
        raise ValueError(f"the last layer needs to be Linear or UnitLinear, got {head.kind!r}")
    shape = tuple(about["input_shape"])
    for layer in [*layers, head]:
        shape = layer.measure(shape)
    if shape != (len(about["k_ij"]),):
        raise ValueError(f"k_ij is of {len(about['k_ij'])} classes, the net has {shape[0]}")
    return layers, head


def _apart(head: Linear) -> tuple[Array, float]:
    """||w_i - w_j|| (classes, classes), and how far each may be off.

    Scaled by a power of two, so that no square overflows; what underflows is within 1e-150.
    """
    exponent = int(np.frexp(np.abs(head.weight).max())[1])
    rows = np.ldexp(head.weight, -exponent)
    apart = np.stack([np.linalg.norm(rows - row, axis=1) for row in rows])
    slack = 2 * gamma(head.lost + 1) * float(np.linalg.norm(rows, axis=1).max())
    slack = 1e-150 + (slack if head.lost else 0.0)
    return np.ldexp(apart, exponent), float(np.ldexp(slack, exponent))


def _refuted(about: Mapping[str, Any], layers: Sequence[Layer], head: Linear) -> list[str]:
    """What the file says of the net that cannot be."""
    notes, k_sub = [], 1.0
    for layer, entry in zip(layers, about["layers"], strict=False):
        if entry["bound"] < layer.lower:
            notes.append(f"layer {layer.name}: claimed {entry['bound']}, at least {layer.lower}")
        k_sub *= entry["bound"]
    if about["k_sub"] < k_sub * (1 - 1e-9):
        notes.append(f"k_sub is {about['k_sub']}, below the product of the bounds, {k_sub}")
    apart, slack = _apart(head)
    least = about["k_sub"] * (apart * (1 - 1e-9) - slack)
    if (np.asarray(about["k_ij"], np.float64) < least).any():
        notes.append("K_ij is below k_sub times the distances of the last layer's rows")
    return notes


def _judge(
    layers: Sequence[Layer],
    head: Linear,
    x: Array,
    about: Mapping[str, Any],
    claims: Mapping[str, Sequence[Any]],
) -> list[str]:
    epsilon, unit = float(about["epsilon"]), UNITS[about["arithmetic"]]
    none = np.zeros(len(x))
    state = State(x, none, none, none, 1.0, none > 0)
    for layer in layers:
        state = advance(state, layer, epsilon, unit)
    size, wide = state.sizes(epsilon)
    logits = head(state.x)
    each, top = np.arange(len(x)), logits.argmax(1)
    far, uncertain = _apart(head)
    apart = far[top] * (1 + 1e-12) + uncertain
    rows, bias = np.linalg.norm(head.weight, axis=1) * (1 + 1e-12) + 1e-150, np.abs(head.bias)
    pair, biases = rows[top][:, None] + rows, bias[top][:, None] + bias
    last, exact = gamma(head.roundings, unit), gamma(head.roundings)
    slack = apart * state.own[:, None] + exact * (pair * size[:, None] + biases)
    # in the named arithmetic: what a difference of logits may be off at the image, in the ball
    tiny = (TINY[unit] * 8 * (head.roundings + 1) * (1 + head.largest + wide))[:, None]
    here = apart * state.here[:, None] + last * (pair * wide[:, None] + biases) + tiny
    ball = apart * state.ball[:, None] + last * (pair * wide[:, None] + biases) + tiny
    highest = head.largest * 2.0**26 + (1 + rows.max()) * wide + bias.max()
    over = state.over | ~(highest < LARGEST[unit])
    here[over] = ball[over] = np.inf
    # the gaps here are those of exact arithmetic up to `slack`, so that only the ball counts
    gaps = logits[each, top][:, None] - logits
    sound = gaps - (epsilon * state.k * apart + ball + slack) * (1 + 1e-12)
    # what is claimed may be off by the rounding at the image
    k_ij = np.asarray(about["k_ij"], np.float64)[top]
    most = gaps + (here + slack) * (1 + 1e-12) - epsilon * k_ij * (1 - 1e-9)
    clear = gaps > (here + slack) * (1 + 1e-12)
    sound[each, top] = most[each, top] = np.inf
    clear[each, top] = True
    return [
        _verdict(
            {name: values[i] for name, values in claims.items()},
            int(top[i]),
            float(sound[i].min()),
            float(most[i].min()),
            bool(clear[i].all()),
        )
        for i in range(len(x))
    ]


def _verdict(claim: Mapping[str, Any], top: int, sound: float, most: float, clear: bool) -> str:
    """The verdict on one point.

    top : the class that is ahead here; clear : it is ahead as computed, too
    sound, most : at least how far it stays ahead within epsilon; at most what the margin can be
    """
    label, certified, margin = claim["label"], claim["certified"], claim["margin"]
    wrong = label != top and clear
    wrong |= margin is not None and label == top and margin > most
    wrong |= certified != (margin is not None and margin > 0)
    if wrong:
        return CONTRADICTED
    if not certified:
        return NO_CLAIM
    return CONFIRMED if label == top and sound > 0 else UNCONFIRMED
