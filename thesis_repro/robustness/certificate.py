"""Certificates as files: what is claimed of each point, and all that is needed to check it.

A file is JSON with a seal over its own content, hashes of every weight and of every image. The
module `checker` reads it without any code of this package.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.lab import sealed
from thesis_repro.robustness.gloro import Certificate, GloroNet

FORMAT = "thesis-repro certificate 1"

GEOMETRY = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
)


def write(
    path: Path,
    net: GloroNet,
    certificate: Certificate,
    x: Tensor,
    *,
    epsilon: float | None = None,
    model: str = "",
    data: str = "",
) -> Path:
    """Write the certificate of the images x.

    Parameters
    ----------
    path : where to; replaced as a whole or not at all
    net : the net that was certified
    certificate : what `certify(net, x, epsilon)` returned
    x : (n, c, h, w), the images
    epsilon : the radius that was asked for; the net's own by default
    model, data : names for the reader

    Raises
    ------
    ValueError
        If the certificate is not about as many points as there are images.
    """
    if len(x) != len(certificate.labels):
        raise ValueError(f"got {len(x)} images and a certificate of {len(certificate.labels)}")
    layers = dict(net.body.named_children())
    bounds = {part.name: part for part in certificate.bound.layers}
    content = {
        "format": FORMAT,
        "model": model,
        "data": data,
        "epsilon": net.epsilon if epsilon is None else epsilon,
        "arithmetic": str(x.dtype).removeprefix("torch."),
        "input_shape": list(net.input_shape),
        "weights": {name: _hash(value) for name, value in net.body.state_dict().items()},
        "images": [_hash(image)[:16] for image in x],
        "layers": [
            {
                "name": name,
                "type": type(layer).__name__,
                **_geometry(layer),
                **(
                    {"bound": bounds[name].value, "method": bounds[name].method}
                    if name in bounds
                    else {}
                ),
            }
            for name, layer in layers.items()
        ],
        "k_sub": certificate.bound.k_sub,
        "k_ij": certificate.bound.k_ij.tolist(),
        "points": {
            "label": certificate.labels.tolist(),
            "certified": certificate.certified.tolist(),
            "margin": _finite(certificate.margin.tolist()),
            "budget": _finite(certificate.budget.tolist()),
            "radius": _finite(certificate.radius.tolist()),
        },
    }
    sealed.write(path, content)
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a certificate file.

    Raises
    ------
    Altered
        If the content does not match the seal.
    ValueError
        If the file is something else.
    """
    content = sealed.read(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path.name} is no certificate: its format is {content.get('format')!r}")
    return content


def _geometry(layer: nn.Module) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}


def _hash(value: Tensor) -> str:
    """SHA-256 of the numbers as they lie in memory, in C order, little-endian."""
    flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
