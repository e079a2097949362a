"""Certificates: the proven bound of a net, and what one forward pass says of each point.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from thesis_repro.data.images import check_images as check_images
from thesis_repro.data.images import images
from thesis_repro.lab import threads
from thesis_repro.robustness import (
    batches,
    lipschitz,
    products,
    proof,
    rounding,
    selfcheck,
    structure,
)
from thesis_repro.robustness.arithmetic import FORMATS, UNITS, exact
from thesis_repro.robustness.margins import (
    Bound,
    Certificate,
    concatenated,
    filtered,
    from_logits,
    replaced,
)

Made = TypeVar("Made")
Absolute = Sequence[nn.Module | None]
"""Of each layer of a part of a net, as `rounding.absolute` gives it."""

IN_CACHE = 8
"""Images per float64 pass on a CPU, whose convolutions in this format want all in its cache."""


class Certifiable(Protocol):
    """What is certified: a body that ends in a linear layer, a radius, and a bound."""

    @property
    def body(self) -> nn.Sequential:
        """From inputs to the logits."""

    @property
    def epsilon(self) -> float:
        """Radius > 0."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (channels, height, width)."""

    def bound(self) -> Bound:
        """The proven bound of the weights as they are."""


def pairwise_norms(weight: Tensor) -> Tensor:
    """(classes, features) to (classes, classes): ||w_i - w_j||, row by row, zero diagonal.

    With gradients, for training; certificates take `rounding.differences`, which underflows
    nowhere.
    """
    return torch.stack([(weight - row).norm(dim=1) for row in weight])


@threads.limit(1)
def bound(
    body: nn.Sequential, input_shape: tuple[int, ...], method: str = "auto", seconds: float = 0.5
) -> Bound:
    """Bound the net layer by layer; the last layer enters by its differences of rows.

    `method` and `seconds` are those of `lipschitz.upper_bound`, per layer.

    Raises
    ------
    ValueError
        If a layer is unknown, a weight is not finite, or the weights are neither float32 nor
        float64.
    """
    structure.check_certifiable(body)
    parts = list(lipschitz.named_layers(body, input_shape))
    head = lipschitz.linear_head(*parts[-1][:2])
    bounds = tuple(lipschitz.layer_bound(*part, method, seconds) for part in parts[:-1])
    k_sub = 1.0
    for part in bounds:
        k_sub = proof.multiply_up(k_sub, part.value)
    weight, roundings = rounding.head_rows(head)
    apart = rounding.differences(weight) * (1 + proof.gamma(weight.shape[1] + 5))
    apart = apart + 3 * proof.gamma(roundings) * (1 - torch.eye(len(weight)))
    k_ij = k_sub * apart * (1 + 2 * proof.UNIT)
    if k_sub > 0:  # what would underflow
        k_ij = torch.where(apart > 0, k_ij.clamp_min(proof.TINY), k_ij)
    values = [part.value for part in bounds]
    return Bound(k_sub, k_ij, bounds, rounding.analyse(body, input_shape, values, head))


def certify(
    net: Certifiable,
    x: Tensor,
    epsilon: float | None = None,
    batch_size: int | None = None,
    used: Bound | None = None,
    arithmetic: str | None = None,
) -> Certificate:
    """Certify each point by one forward pass.

    In float32 a second pass looks closer at points that the bound certifies and the rounding
    budget does not (:func:`refined`). Radius and margin of the others are those of the first.

    Where weights in float32 are to be evaluated in float64, a pass that is in float32 up to the
    first dense layer serves as a filter: what it proves of the float64 net needs no other pass, and
    labels and verdicts are those of a float64 pass over all points. Radius and margin of a point
    that the filter decides are less than there by the rounding of the filter at x.

    Parameters
    ----------
    net : Certifiable, a GloroNet for one
    x : (n, *input_shape), tensor or array, pixels in [0, 1]; moved to the net's device
    epsilon : radius > 0, the net's own by default
    batch_size : points at a time; by default as `batches.size` says. No certificate depends on
        it; radii may in their last digits, by the order in which convolutions add up
    used : another bound than the net's own, to see what it would say; it is not checked
    arithmetic : "float32" or "float64", the format of the function that is certified; that of the
        net's weights by default

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        On a wrong shape, pixels outside [0, 1], epsilon <= 0, weights that are not finite,
        weights or images in another format than float32 or float64, or an arithmetic in which
        the weights cannot be evaluated.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3: the point is certified when the bottom logit is
    below the top logit, which is to say min over i of (y_j - y_i) / K_ij > epsilon.
    """
    radius = net.epsilon if epsilon is None else epsilon
    own = structure.precision(net.body)
    formats = [name for name, dtype in FORMATS.items() if UNITS[dtype] <= UNITS[own]]
    if arithmetic is not None and arithmetic not in formats:
        raise ValueError(
            f"weights in {_name(own)} can be evaluated in {' or '.join(formats)}, got "
            f"{arithmetic!r}"
        )
    x = ready(net, x, radius)
    known = net.bound() if used is None else used
    if arithmetic is not None and FORMATS[arithmetic] != own:
        return _certify_widened(net, x, radius, batch_size, known)

    def judge(logits: Tensor, norms: Tensor) -> Certificate:
        return from_logits(logits, known, radius, norms)

    found = concatenated(in_batches(net, x, batch_size, judge))
    left = ~found.certified & (found.margin + found.budget > 0)
    if left.any() and refinable(net, known):
        logits, norms, closer = refined(net, x[left], batch_size, known)
        found = replaced(found, left, from_logits(logits, closer, radius, norms))
    return found


def refinable(net: Certifiable, used: Bound) -> bool:
    """Whether a closer look takes off less: rounding counts, and it is that of float32."""
    return used.rounding is not None and structure.precision(net.body) == torch.float32


def refined(
    net: Certifiable, x: Tensor, batch_size: int | None, used: Bound
) -> tuple[Tensor, Tensor, Bound]:
    """Look closer at points whose verdict depends on the rounding that is taken off.

    A second pass measures the partial sums of each layer at x, and is in float64 from the first
    dense layer on, so that less is lost at x. The function that is certified stays the same.

    Returns
    -------
    logits, norms, bound
        The norms as `Rounding.budget` takes them; the bound to judge by.
    """
    assert used.rounding is not None
    dense = rounding.dense_from(net.body)
    with exact(net.body), torch.no_grad():
        parts = [net.body[:dense], copy.deepcopy(net.body[dense:]).double()]
        many = batches.size(net.body, x, True) if batch_size is None else batch_size
        logits, norms = _passes(parts, x, many, sums=True)
    return logits, norms, replace(used, rounding=used.rounding.refining)


def _certify_widened(
    net: Certifiable, x: Tensor, epsilon: float, batch_size: int | None, used: Bound
) -> Certificate:
    """Certificates of a float32 net's weights in float64: the filter, then what it leaves open."""
    known = used.rounding
    with exact(net.body), torch.no_grad():
        wide = copy.deepcopy(net.body).double()
        many = batches.size(net.body, x, True) if batch_size is None else batch_size
        few = many if x.is_cuda else min(many, IN_CACHE)
        if known is None:
            return from_logits(_passes([wide], x.double(), few)[0], used, epsilon)
        dense = rounding.dense_from(net.body)
        logits, norms = _passes([net.body[:dense], wide[dense:]], x, many)
        narrow, used = (replace(used, rounding=r) for r in (known.filtering, known.widened))
        found, left = filtered(logits, narrow, epsilon, norms)
        if left.any():
            logits, norms = _passes([wide], x[left].double(), few)
            found = replaced(found, left, from_logits(logits, used, epsilon, norms))
    return replace(found, bound=used)


def measure(
    net: Certifiable, x: Tensor, epsilon: float, batch_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """What certificates are made of, by one forward pass in the arithmetic that they are about.

    Parameters
    ----------
    net, x, epsilon, batch_size : as for :func:`certify`

    Returns
    -------
    logits : (n, classes) float64
    norms : (n, layers) float64
        At least the norm of the input of each layer that rounds; zero for the others.

    Raises
    ------
    ValueError
        As for :func:`certify`.
    """
    x = ready(net, x, epsilon)
    passes = in_batches(net, x, batch_size, lambda logits, norms: (logits, norms))
    logits, norms = (torch.cat(parts) for parts in zip(*passes, strict=True))
    return logits, norms


def in_batches(
    net: Certifiable,
    x: Tensor,
    batch_size: int | None,
    judge: Callable[[Tensor, Tensor], Made],
) -> list[Made]:
    """What `judge` makes of logits and norms as :func:`measure` gives them, batch by batch.

    x is what :func:`ready` returned. Memory grows with a batch times classes, and what is made.
    """
    with exact(net.body), torch.no_grad():
        together = batches.size(net.body, x, True) if batch_size is None else batch_size
        return [judge(*_pass([net.body], part)) for part in x.split(together)]


def ready(net: Certifiable, x: Tensor, epsilon: float) -> Tensor:
    """The images in the net's format and on its device, after a look at all that is given.

    Raises
    ------
    ValueError
        As for :func:`certify`.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon needs to be positive, got {epsilon}")
    structure.check_net(net.body)
    own = structure.precision(net.body)
    return _widened(images(x, net.input_shape, net.body), own)


def _passes(
    parts: Sequence[nn.Sequential], x: Tensor, batch_size: int, sums: bool = False
) -> tuple[Tensor, Tensor]:
    """As :func:`measure`, through parts of a net, of which the later may be in a wider format.

    sums : measure partial sums as well, behind the norms
    """
    absolute = [[rounding.absolute(layer) for layer in part] for part in parts] if sums else None
    found = [_pass(parts, some, absolute) for some in x.split(batch_size)]
    logits, norms = (torch.cat(each) for each in zip(*found, strict=True))
    return logits, norms


def _pass(
    parts: Sequence[nn.Sequential], x: Tensor, absolute: Sequence[Absolute] | None = None
) -> tuple[Tensor, Tensor]:
    norms, sums = [], []
    for index, part in enumerate(parts):
        x, known, partial = _forward(part, x, None if absolute is None else absolute[index])
        norms.append(known)
        sums.append(partial)
        x = x.to(torch.float64)
    if x.ndim != 2:
        raise ValueError(
            f"a net needs to give (n, classes), got shape {tuple(x.shape)}: put nn.Flatten() "
            f"before the last layer"
        )
    return x, torch.cat([*norms, torch.cat(sums, 1)[:, :-1]], 1)


def _forward(
    body: nn.Sequential, x: Tensor, absolute: Absolute | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (n, ...), and norms (n, layers) of the inputs of the layers that round.

    With the layers' |W| and |b| also norms (n, layers) of their partial sums; else (n, 0).
    """
    zero = x.new_zeros(len(x), dtype=torch.float64)
    norms: list[Tensor] = []
    sums: list[Tensor] = []
    for index, layer in enumerate(body):
        norms.append(rounding.norms(x) if rounding.rounds(layer) else zero)
        y = products.through(layer, x, selfcheck.convolve)
        if absolute is not None:
            sizes = absolute[index]
            sums.append(zero if sizes is None else _partial_sums(sizes, x, y))
        x = y
    return x, _columns(norms, x), _columns(sums, x)


def _columns(values: list[Tensor], x: Tensor) -> Tensor:
    return torch.stack(values, 1) if values else x.new_zeros(len(x), 0, dtype=torch.float64)


def _partial_sums(sizes: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    terms = products.through(sizes, x.abs(), selfcheck.convolve)
    weight = next(sizes.parameters())
    return rounding.partial_sums(terms, y, weight[0].numel())


def _widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The images in the net's format, if none of their digits is lost."""
    if torch.promote_types(x.dtype, dtype) != dtype or not x.is_floating_point():
        raise ValueError(f"images need to be {_name(dtype)} as the net is, got {_name(x.dtype)}")
    return x.to(dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
