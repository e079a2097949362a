"""An independent check of certificate files: numpy and scipy, and nothing of this package.

Re-derived here, by other means than the certifier's: the norm of each layer (Gram iteration with
its rounding carried along, where the certifier factorises), K_ij, the logits (a convolution of its
own, in float64), and a rounding budget for the arithmetic that the file names.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.float64]
U = 2.0**-53
FORMATS = {"float32": (np.float32, 2.0**-24), "float64": (np.float64, 2.0**-53)}
CONFIRMED, UNCONFIRMED, CONTRADICTED, NO_CLAIM = "confirmed", "not confirmed", "contradicted", ""


@dataclass(frozen=True)
class Report:
    """One verdict per point ("" where the file claims nothing), and what was found on the way."""

    verdicts: list[str]
    notes: list[str]

    def count(self, verdict: str) -> int:
        """How many points got this verdict."""
        return self.verdicts.count(verdict)


def check(file: Path, weights: Path, images: NDArray[Any], batch: int = 250) -> Report:
    """Judge every point of a certificate file.

    Parameters
    ----------
    file : certificate, as JSON
    weights : safetensors file of the model, tensors named body.*
    images : (n, c, h, w), as they were certified

    Raises
    ------
    ValueError
        If the file, a weight or an image is not the one that was certified; the message names it.
    """
    about = read(file)
    dtype, unit = FORMATS[about["arithmetic"]]
    tensors = _weights(weights, about["weights"])
    images = np.ascontiguousarray(images, dtype)
    if len(images) != len(about["images"]):
        raise ValueError(f"the certificate is of {len(about['images'])} images, got {len(images)}")
    for index, (image, known) in enumerate(zip(images, about["images"], strict=True)):
        if hashlib.sha256(image.tobytes()).hexdigest()[:16] != known:
            raise ValueError(f"image {index} is not the one that was certified")
    layers = [Layer(entry, tensors) for entry in about["layers"]]
    unknown = [layer.kind for layer in layers if layer.kind not in KNOWN]
    if unknown or not layers or layers[-1].kind != "Linear":
        return Report([UNCONFIRMED] * len(images), [f"layers not known here: {unknown}"])
    notes, low = [], 1.0
    shape = tuple(about["input_shape"])
    for layer, entry in zip(layers[:-1], about["layers"], strict=False):
        shape = layer.measure(shape, unit)
        low *= min(layer.lower, entry["bound"])
        if entry["bound"] < layer.lower:
            notes.append(f"layer {layer.name}: claimed {entry['bound']}, at least {layer.lower}")
    head = layers[-1].weight
    least = low * np.linalg.norm(head[:, None] - head[None], axis=2) * (1 - 1e-9)
    if (np.asarray(about["k_ij"]) < least).any():
        notes.append("K_ij is below the product of what the layers reach")
    refuted = bool(notes)
    claims = {name: about["points"][name] for name in ("label", "certified", "margin", "radius")}
    verdicts = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        found = _judge(
            layers,
            images[part].astype(np.float64),
            about["epsilon"],
            unit,
            low,
            {name: values[part] for name, values in claims.items()},
        )
        verdicts += [CONTRADICTED] * len(found) if refuted else found
    return Report(verdicts, notes)


def read(file: Path) -> dict[str, Any]:
    """The certificate; refuses a file whose content does not match its seal."""
    try:
        about = json.loads(file.read_text("utf-8"))
        seal = about.pop("seal")
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"{file.name} is not a sealed certificate") from None
    text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if hashlib.sha256(text.encode()).hexdigest() != seal:
        raise ValueError(f"{file.name} was altered: its content does not match its seal")
    return dict(about)


def _weights(file: Path, hashes: dict[str, str]) -> dict[str, Array]:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    found = {}
    for name, known in hashes.items():
        entry = header.get(f"body.{name}")
        if entry is None:
            raise ValueError(f"{file.name} has no weight {name!r}")
        raw = body[slice(*entry["data_offsets"])]
        if hashlib.sha256(raw).hexdigest() != known:
            raise ValueError(f"weight {name!r} is not the one that was certified")
        kind = {"F32": "<f4", "F64": "<f8"}.get(entry["dtype"])
        if kind is not None:
            values = np.frombuffer(raw, kind).astype(np.float64)
            found[name] = values.reshape(entry["shape"])
    return found


def gamma(n: float, unit: float = U) -> float:
    """Relative error of n roundings."""
    return 1.01 * n * unit if n * unit < 0.009 else np.inf


def norm_above(stack: Array, squarings: int = 10) -> float:
    """At least the largest spectral norm of stack (..., rows, columns), by Gram iteration.

    ||G||**2 = ||G G|| for symmetric G. The last Frobenius norm bounds the last product; going
    back, each step adds what forming that product may have lost, gamma(n) ||G||_F**2.
    """
    if stack.shape[-2] > stack.shape[-1]:
        stack = np.swapaxes(stack, -1, -2)
    size = float(np.abs(stack).max())
    if size == 0:
        return 0.0
    stack = stack / size
    gram = stack @ np.conj(np.swapaxes(stack, -1, -2))
    n, width = stack.shape[-2:]
    forming = gamma(8 * (width + 2)) * _frobenius(stack) ** 2
    sizes = []
    for _ in range(squarings):
        sizes.append(_frobenius(gram))
        safe = np.where(sizes[-1] > 0, sizes[-1], 1.0)
        gram = gram / safe[..., None, None]
        gram = gram @ gram
    bound: Array = _frobenius(gram)
    for before in reversed(sizes):
        bound = before * np.sqrt(bound + gamma(8 * (n + 2))) * (1 + 1e-15)
    return float(np.sqrt(bound + forming).max() * size * (1 + 1e-12))


def _frobenius(stack: Array) -> Array:
    norm = np.linalg.norm(stack, axis=(-2, -1)) * (1 + gamma(stack.shape[-1] * stack.shape[-2]))
    return np.asarray(norm)


def norm_below(matrix: Array, steps: int = 100) -> float:
    """At most the spectral norm: the gain of one vector, less its rounding."""
    vector: Array = np.asarray(np.random.default_rng(7).standard_normal(matrix.shape[1]))
    for _ in range(steps):
        vector = matrix.T @ (matrix @ (vector / np.linalg.norm(vector)))
        if not vector.any():
            return 0.0
    return float(np.linalg.norm(matrix @ vector) / np.linalg.norm(vector) * (1 - 1e-9))


class Layer:
    """One layer of the file: its map in float64, and bounds of its norms."""

    def __init__(self, entry: dict[str, Any], tensors: dict[str, Array]) -> None:
        self.name, self.kind, self.entry = entry["name"], entry["type"], entry
        self.weight = tensors.get(f"{self.name}.weight", np.zeros(0))
        outputs = len(self.weight)
        self.bias = tensors.get(f"{self.name}.bias", np.zeros(outputs))
        self.upper = self.lower = 1.0
        self.absolute = self.shift = self.error = 0.0

    def __call__(self, x: Array, weight: Array | None = None, bias: Array | None = None) -> Array:
        """x (n, ...) to (n, ...); other weights for the proofs."""
        weight = self.weight if weight is None else weight
        bias = self.bias if bias is None else bias
        if self.kind == "Linear":
            return np.asarray(x @ weight.T + bias)
        if self.kind == "Conv2d":
            return self._convolve(x, weight) + bias[:, None, None]
        if self.kind == "MinMax":
            first, second = np.split(x, 2, axis=1)
            return np.concatenate([np.maximum(first, second), np.minimum(first, second)], 1)
        return np.maximum(x, 0) if self.kind == "ReLU" else x.reshape(len(x), -1)

    def _convolve(self, x: Array, weight: Array) -> Array:
        (ph, pw), (sh, sw) = self.entry["padding"], self.entry["stride"]
        dh, dw = self.entry["dilation"]
        out, _, kh, kw = weight.shape
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        span = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
        seen = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
        seen = seen[:, :, ::sh, ::sw, ::dh, ::dw].transpose(0, 2, 3, 1, 4, 5)
        n, height, width = seen.shape[:3]
        flat = seen.reshape(n * height * width, -1) @ weight.reshape(out, -1).T
        return flat.reshape(n, height, width, out).transpose(0, 3, 1, 2)

    def measure(self, shape: tuple[int, ...], unit: float) -> tuple[int, ...]:
        """Bound the norms of W and |W| from above, of W from below; returns the output's shape."""
        if self.kind not in ("Linear", "Conv2d"):
            return self(np.zeros((1, *shape))).shape[1:]
        none = np.zeros(len(self.bias))
        after = self(np.zeros((1, *shape)))
        inputs, outputs = int(np.prod(shape)), after.size
        if inputs * outputs <= 2**23:
            unit_images = np.eye(inputs).reshape(inputs, *shape)
            matrix = self(unit_images, bias=none).reshape(inputs, -1)
            self.upper, self.lower = norm_above(matrix), norm_below(matrix)
            self.absolute = norm_above(np.abs(matrix), 4)
        else:
            self.upper, self.lower, self.absolute = self._on_a_torus(shape)
        self.shift = float(np.linalg.norm(self.bias) * np.sqrt(outputs / len(self.bias)))
        terms = self.weight[0].size + 1
        self.error = gamma(terms, unit)
        return after.shape[1:]

    def _on_a_torus(self, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """As a corner of the convolution on a torus with room for image, kernel and padding."""
        (sh, sw), (dh, dw), pad = (self.entry[k] for k in ("stride", "dilation", "padding"))
        out, channels, kh, kw = self.weight.shape
        grid = [
            -(-(size + (k - 1) * d + 2 * p) // s)
            for size, k, d, p, s in zip(shape[1:], (kh, kw), (dh, dw), pad, (sh, sw), strict=True)
        ]
        full = np.zeros((out, channels, grid[0] * sh, grid[1] * sw))
        full[:, :, : (kh - 1) * dh + 1 : dh, : (kw - 1) * dw + 1 : dw] = self.weight
        split = full.reshape(out, channels, grid[0], sh, grid[1], sw)
        phases = split.transpose(2, 4, 0, 1, 3, 5).reshape(*grid, out, -1)
        blocks = fft.fft2(phases, axes=(0, 1)).reshape(-1, out, phases.shape[-1])
        rounding = 1e-13 * float(np.linalg.norm(np.abs(phases).sum((0, 1))))
        upper = norm_above(blocks[: len(blocks) // 2 + grid[1]], 8) + rounding
        absolute = norm_above(np.abs(phases).sum((0, 1)), 4)
        return upper, 0.0, absolute


KNOWN = ("Linear", "Conv2d", "MinMax", "ReLU", "Flatten")


def _judge(
    layers: list[Layer],
    x: Array,
    epsilon: float,
    unit: float,
    low: float,
    claims: dict[str, list[Any]],
) -> list[str]:
    here = ball = np.zeros(len(x))  # rounding of the named arithmetic, at x and in the ball
    own, k = np.zeros(len(x)), 1.0  # rounding of this forward pass
    for layer in layers[:-1]:
        size = np.linalg.norm(x.reshape(len(x), -1), axis=1) + own
        wide = size + here + ball + k * epsilon
        a, b = layer.absolute, layer.shift
        here = layer.upper * here + layer.error * (a * (size + here) + b) + 1e-30
        ball = layer.upper * ball + layer.error * (a * wide + b) + 1e-30
        own = layer.upper * own + layer.error * U / unit * (a * size + b)
        k *= layer.upper
        x = layer(x)
    head = layers[-1]
    size = np.linalg.norm(x, axis=1) + own
    wide = size + here + ball + k * epsilon
    logits = head(x)
    top = logits.argmax(1)
    apart = np.linalg.norm(head.weight[top][:, None] - head.weight[None], axis=2) * (1 + 1e-12)
    rows, bias = np.linalg.norm(head.weight, axis=1), np.abs(head.bias)
    pair, biases = rows[top][:, None] + rows, bias[top][:, None] + bias
    last = gamma(head.weight.shape[1] + 1, unit)
    slack = apart * own[:, None] + gamma(head.weight.shape[1] + 1) * (pair * size[:, None] + biases)
    budget = apart * (here + ball)[:, None] + last * (pair * (size + wide)[:, None] + 2 * biases)
    gaps = logits[np.arange(len(x)), top][:, None] - logits
    sound = gaps - (epsilon * k * apart + budget + slack) * (1 + 1e-12)
    high, moves = gaps + budget + slack, low * apart * (1 - 1e-9)
    most = high - epsilon * moves
    clear = (gaps > budget + slack) | (np.arange(logits.shape[1]) == top[:, None])
    sound[np.arange(len(x)), top] = most[np.arange(len(x)), top] = np.inf
    verdicts = []
    for index in range(len(x)):
        label, certified = claims["label"][index], bool(claims["certified"][index])
        margin, radius = claims["margin"][index], claims["radius"][index]
        wrong = label != top[index] and bool(clear[index].all())
        wrong |= margin is not None and margin > most[index].min() and label == top[index]
        wrong |= radius is not None and bool((radius * moves[index] > high[index]).any())
        wrong |= certified != (margin is not None and margin > 0)
        if wrong:
            verdicts.append(CONTRADICTED)
        elif not certified:
            verdicts.append(NO_CLAIM)
        else:
            proved = label == top[index] and sound[index].min() > 0
            verdicts.append(CONFIRMED if proved else UNCONFIRMED)
    return verdicts
