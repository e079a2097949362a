"""Certificates as files: what is claimed of each point, and all that is needed to check it.

A file is JSON with a seal over its own content, the arithmetic of the function that it is about,
hashes of every weight as stored and of every image in the format of that arithmetic, and the
architecture: every layer in its place, with what decides its map beside the weights. The
weights go into a file of their own, which states the architecture as well (`write_net`).
`checker` reads both without the code that wrote them.

Examples
--------
>>> import tempfile
>>> from thesis_repro.robustness import certify
>>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2)).eval()
>>> x = torch.rand(5, 1, 2, 2)
>>> file = write(tempfile.mkdtemp() + "/own.json", net, certify(net, x), x)
>>> len(read(file)["images"])
5
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as pack
from torch import Tensor, nn

from thesis_repro.data.images import images
from thesis_repro.lab import sealed
from thesis_repro.lab.store import write_atomic
from thesis_repro.nets import LinearResidual, MinMax, Residual, Scale, Sum, UnitLinear
from thesis_repro.robustness import layers, rules, structure
from thesis_repro.robustness.arithmetic import FORMATS, UNITS
from thesis_repro.robustness.gloro import Certificate, GloroNet

FORMAT = "thesis-repro certificate 2"

WINDOWS = ("kernel_size", "stride", "padding")
GEOMETRY: dict[type[nn.Module], tuple[str, ...]] = {
    MinMax: (),
    nn.ReLU: (),
    nn.Identity: (),
    nn.Dropout: (),  # the identity in eval mode
    nn.Flatten: ("start_dim", "end_dim"),
    nn.PixelUnshuffle: ("downscale_factor",),
    nn.Linear: ("in_features", "out_features"),
    UnitLinear: ("in_features", "out_features"),
    nn.Conv2d: (*WINDOWS, "dilation", "in_channels", "out_channels", "groups"),
    LinearResidual: ("padding",),
    nn.MaxPool2d: (*WINDOWS, "dilation", "ceil_mode"),
    nn.AvgPool2d: (*WINDOWS, "ceil_mode", "count_include_pad", "divisor_override"),
    nn.BatchNorm1d: ("num_features", "eps"),
    nn.BatchNorm2d: ("num_features", "eps"),
    Scale: (),
    nn.Sequential: (),
    Residual: (),
    Sum: (),
}
"""What decides the map of a layer beside its weights, by its exact type."""

ROUNDED = 1e-6
"""How far rounding may put numbers apart that are the same, relatively."""

PAIRS = (*WINDOWS, "dilation")


def write(
    path: Path | str,
    net: GloroNet,
    certificate: Certificate,
    x: Tensor,
    *,
    epsilon: float | None = None,
    model: str = "",
    data: str = "",
) -> Path:
    """Write the certificate of the images x; it claims label and verdict of each at `epsilon`.

    Parameters
    ----------
    path : where to; replaced as a whole or not at all
    net : the net that was certified
    certificate : what `certify(net, x, epsilon)` returned, under the net's own bound
    x : (n, c, h, w), the images, tensor or array
    epsilon : the radius that was asked for; the net's own by default
    model, data : names for the reader

    Raises
    ------
    ValueError
        If the certificate is of another number of points, of an arithmetic that the net cannot
        have, under another bound than that of the net as it is now, or for another epsilon than
        this one; if its bound is not finite, or if a layer cannot be described in a file.
    """
    structure.check_given(net)
    if not isinstance(certificate, Certificate):
        raise ValueError(f"certify gives a Certificate; got {type(certificate).__name__}")
    radius = structure.check_epsilon(net.epsilon if epsilon is None else epsilon)
    x = images(x, net.input_shape, net.body)
    about, bounds = architecture(net), certificate.bound.layers
    function = _function(net, certificate, x, [entry["name"] for entry in about["layers"][:-1]])
    _check_claims(net, certificate, radius)
    for entry, part in zip(about["layers"], bounds, strict=False):
        entry |= {"bound": part.value, "method": part.method}
    content = {
        "format": FORMAT,
        "model": model,
        "data": data,
        "epsilon": radius,
        "arithmetic": certificate.arithmetic,
        "weights": {name: _hash(value) for name, value in net.body.state_dict().items()},
        "images": [_hash(image)[:16] for image in x.to(function)],
        **about,
        "k_sub": certificate.bound.k_sub,
        "k_ij": certificate.bound.k_ij.tolist(),
        "points": {
            "label": certificate.labels.tolist(),
            "certified": certificate.certified.tolist(),
            "margin": _finite(certificate.margin.tolist()),
        },
    }
    sealed.write(Path(path), content)
    return Path(path)


def _function(
    net: GloroNet, certificate: Certificate, x: Tensor, names: Sequence[str]
) -> torch.dtype:
    """The format of the function that is certified; refuses what does not belong together."""
    if len(x) != len(certificate.labels):
        raise ValueError(f"got {len(x)} images and a certificate of {len(certificate.labels)}")
    function, own = FORMATS.get(certificate.arithmetic), structure.precision(net.body)
    if function is None or UNITS[function] > UNITS[own]:
        raise ValueError(
            f"the certificate is about arithmetic in {certificate.arithmetic} format; the net's "
            f"weights are {str(own).removeprefix('torch.')}"
        )
    bounded = [part.name for part in certificate.bound.layers]
    if names != bounded:
        raise ValueError(
            f"the certificate bounds layers {', '.join(bounded)}; the net has {', '.join(names)} "
            f"before its last"
        )
    if not (math.isfinite(certificate.bound.k_sub) and certificate.bound.k_ij.isfinite().all()):
        raise ValueError("the bound of the net is not finite: there is no certificate to write")
    return function


def _check_claims(net: GloroNet, certificate: Certificate, epsilon: float) -> None:
    """Refuse what was certified of other weights, as far as their bound tells, or elsewhere."""
    given, own = certificate.bound, net.bound()
    if given.k_ij.shape != own.k_ij.shape or not torch.allclose(
        given.k_ij.cpu(), own.k_ij.cpu(), rtol=ROUNDED, atol=0.0
    ):
        raise ValueError(
            f"the certificate is under another bound (K_ij up to {given.k_ij.max():.6g}) than that "
            f"of the net as it is now ({own.k_ij.max():.6g}): certify it again, without `used`"
        )
    certified, radius = certificate.certified, certificate.radius
    less, more = epsilon * (1 - ROUNDED), epsilon * (1 + ROUNDED)
    off = torch.where(certified, radius < less, radius > more)
    if off.any():
        at = int(off.nonzero()[0, 0])
        said = "certified" if certified[at] else "not certified"
        raise ValueError(
            f"the certificate is for another epsilon than {epsilon:.6g}: image {at} has the radius "
            f"{radius[at].item():.6g} and is {said}"
        )


def architecture(net: GloroNet) -> dict[str, Any]:
    """The input shape and the layers of a net, each in its place, as JSON can hold them.

    Raises
    ------
    ValueError
        If a layer has another type than those of `GEOMETRY`; the message names it.
    """
    return {"input_shape": list(net.input_shape), "layers": _described(net.body, "")}


def _described(body: nn.Sequential | nn.ModuleList, prefix: str) -> list[dict[str, Any]]:
    """As `layers.named_layers`, a module that stands in the net twice comes twice."""
    found = []
    for name, layer in body._modules.items():
        if layer is None or type(layer) not in GEOMETRY:
            raise ValueError(
                f"layer {prefix + name!r} ({type(layer).__name__}) cannot be described in a file"
            )
        entry = {"name": prefix + name, "type": type(layer).__name__, **_geometry(layer)}
        if isinstance(layer, nn.Sequential):
            entry["layers"] = _described(layer, f"{prefix}{name}.")
        elif isinstance(layer, Residual):
            entry["layers"] = _described(layer.branch, f"{prefix}{name}.branch.")
        elif isinstance(layer, Sum):
            entry["layers"] = _described(layer.branches, f"{prefix}{name}.branches.")
        found.append(entry)
    return found


def _geometry(layer: nn.Module) -> dict[str, Any]:
    about = {key: getattr(layer, key) for key in GEOMETRY[type(layer)]}
    if isinstance(layer, nn.Conv2d):
        about["padding"] = layers.padding_of(layers.zero_padded(layer))
    return {k: list(rules.pair(v)) if k in PAIRS else v for k, v in about.items()}


def packed(net: GloroNet) -> bytes:
    """The net as a safetensors file that states its architecture; refuses as `write_net`."""
    structure.precision(net.body)
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in net.state_dict().items()}
    return pack(weights, {"architecture": _canonical(architecture(net))})


def write_net(path: Path | str, net: GloroNet) -> Path:
    """Write the weights as a safetensors file that states the architecture.

    Raises
    ------
    ValueError
        If a layer cannot be described in a file, the weights are not all in float32 or all in
        float64, or the path does not end in .safetensors.

    Examples
    --------
    >>> import tempfile
    >>> from thesis_repro.robustness import certify
    >>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2)).eval()
    >>> write_net(tempfile.mkdtemp() + "/own.safetensors", net).name
    'own.safetensors'
    """
    structure.check_given(net)
    where = weights_path(path)
    write_atomic(where, packed(net))
    return where


def weights_path(path: Path | str) -> Path:
    """Where weights go, with `~` expanded.

    Raises
    ------
    ValueError
        If the path does not end in .safetensors.

    Examples
    --------
    >>> weights_path("own.safetensors").name
    'own.safetensors'
    """
    where = Path(path).expanduser()
    if where.suffix != ".safetensors":
        raise ValueError(f"the weights need to go to a .safetensors file, got {path}")
    return where


def _canonical(about: dict[str, Any]) -> str:
    return json.dumps(about, sort_keys=True, separators=(",", ":"))


def read(path: Path | str) -> dict[str, Any]:
    """Read a certificate file.

    Raises
    ------
    Altered
        If the content does not match the seal.
    ValueError
        If the file is something else.

    Examples
    --------
    >>> import tempfile
    >>> from thesis_repro.robustness import certify
    >>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2)).eval()
    >>> x = torch.rand(5, 1, 2, 2)
    >>> read(write(tempfile.mkdtemp() + "/own.json", net, certify(net, x), x))["epsilon"]
    0.1
    """
    path = Path(path)
    content = sealed.read(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path.name} is no certificate: its format is {content.get('format')!r}")
    return content


def _hash(value: Tensor) -> str:
    """SHA-256 of the numbers as they lie in memory, in C order, little-endian."""
    flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
