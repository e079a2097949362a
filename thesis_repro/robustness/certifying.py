"""Certificates: the proven bound of a net, and what one forward pass says of each point.

Defined in the chapter robustness/gloro. Radii are L2, in units of pixels in [0, 1].

Examples
--------
>>> from thesis_repro import data, robustness
>>> net, x = robustness.load("mnist-2c2f-gloro"), data.load("mnist-5k").test.x[:50]
>>> found = certify(net, x, epsilon=0.1)
>>> int(found.certified.sum()) > 40
True
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from thesis_repro.data.images import check_images as check_images
from thesis_repro.data.images import images
from thesis_repro.lab import threads
from thesis_repro.robustness import (
    batches,
    forward,
    lipschitz,
    proof,
    rounding,
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

    Examples
    --------
    >>> pairwise_norms(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
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

    Examples
    --------
    >>> from thesis_repro.robustness import load
    >>> net = load("mnist-2c2f-gloro")
    >>> [part.method for part in bound(net.body, net.input_shape).layers[-2:]]
    ['dense', '1-Lipschitz']
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
    """Certify each point, by one forward pass for most.

    In float32 a second pass looks closer at points that the bound certifies and the rounding
    budget does not (:func:`in_batches`). Radius and margin of the others are those of the first.
    Where float32 weights are to be evaluated in float64, a filter goes first (`margins.filtered`).

    Parameters
    ----------
    net : Certifiable, a GloroNet for one
    x : (n, *input_shape), tensor or array, pixels in [0, 1]; moved to the net's device
    epsilon : radius > 0, the net's own by default
    batch_size : points at a time, by default as `batches.size` says; radii may depend on it in
        their last digits
    used : another bound than the net's own, to see what it would say; it is not checked
    arithmetic : "float32" or "float64", in which the function is evaluated that is certified; by
        default that of its weights

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        On a wrong shape, pixels outside [0, 1], an epsilon that is not positive and finite, a
        batch_size below 1, weights that are not finite, weights or images in another format than
        float32 or float64, or an arithmetic in which the weights cannot be evaluated.

    References
    ----------
    Leino, Wang and Fredrikson 2021, section 3: min over i of (y_j - y_i) / K_ij exceeds epsilon.
    """
    structure.check_given(net)
    radius = structure.check_epsilon(net.epsilon if epsilon is None else epsilon)
    own = structure.precision(net.body)
    formats = [name for name, dtype in FORMATS.items() if UNITS[dtype] <= UNITS[own]]
    if arithmetic not in (None, *formats):
        wrong = f"weights in {_name(own)} can be evaluated in {' or '.join(formats)}"
        raise ValueError(f"{wrong}, got {arithmetic!r}")
    x, known = ready(net, x, radius), net.bound() if used is None else used
    if arithmetic is not None and FORMATS[arithmetic] != own:
        return _certify_widened(net, x, radius, batch_size, known)

    def judge(used: Bound) -> Callable[[Tensor, Tensor], Certificate]:
        return lambda logits, norms: from_logits(logits, used, radius, norms)

    found = concatenated(in_batches(net, x, batch_size, judge(known)))
    left = ~found.certified & (found.margin + found.budget > 0)
    if left.any() and (refined := closer(net, known)):
        again = in_batches(net, x[left], batch_size, judge(refined), closer=True)
        found = replaced(found, left, concatenated(again))
    return found


def closer(net: Certifiable, used: Bound) -> Bound | None:
    """The bound for a closer look; None where none is needed: in float64, or without rounding."""
    if used.rounding is None or structure.precision(net.body) != torch.float32:
        return None
    return replace(used, rounding=used.rounding.refining)


def _certify_widened(
    net: Certifiable, x: Tensor, epsilon: float, batch_size: int | None, used: Bound
) -> Certificate:
    """Certificates of a float32 net's weights in float64: the filter, then what it leaves open.

    The filter is a pass in float32 up to the first dense layer. What it proves of the float64 net
    needs no other pass; labels and verdicts are those of a float64 pass over all points. Radius and
    margin of a point that the filter decides are less by the rounding of the filter at x.
    """
    known = used.rounding
    with exact(net.body), torch.no_grad():
        wide = copy.deepcopy(net.body).double()
        many = batches.size(net.body, x, batch_size)
        few = many if x.is_cuda else min(many, IN_CACHE)
        if known is None:
            return from_logits(forward.passes([wide], x.double(), few)[0], used, epsilon)
        dense = rounding.dense_from(net.body)
        logits, norms = forward.passes([net.body[:dense], wide[dense:]], x, many)
        narrow, used = (replace(used, rounding=r) for r in (known.filtering, known.widened))
        found, left = filtered(logits, narrow, epsilon, norms)
        if left.any():
            logits, norms = forward.passes([wide], x[left].double(), few)
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
    closer: bool = False,
) -> list[Made]:
    """What `judge` makes of logits and norms as :func:`measure` gives them, some points at a time.

    x is what :func:`ready` returned. Passes take as many points as are fast, a judge as many as
    have room: its many small operations cost the same for one point as for hundreds.

    closer : measure partial sums too (norms as `Rounding.budget` takes them), and go on in float64
        from the first dense layer, so that less is lost at x; for the bound of :func:`closer`
    """
    parts = [net.body]
    if closer:
        dense = rounding.dense_from(net.body)
        parts = [net.body[:dense], copy.deepcopy(net.body[dense:]).double()]
    with exact(net.body), torch.no_grad():
        most = batches.judged(rounding.classes_of(net.body))
        size = batches.size(net.body, x, batch_size)
        size = min(size, most) if batch_size is None else size
        groups = x.split(max(size, most))
        return [judge(*forward.passes(parts, some, size, closer)) for some in groups]


def ready(net: Certifiable, x: Tensor, epsilon: float) -> Tensor:
    """The images in the net's format and on its device, after a look at all that is given.

    Raises
    ------
    ValueError
        As for :func:`certify`.
    """
    structure.check_given(net, epsilon)
    structure.check_net(net.body)
    own = structure.precision(net.body)
    # a tensor of a type of its own might compute something else than its pixels
    return _widened(images(x, net.input_shape, net.body).as_subclass(Tensor), own)


def _widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The images in the net's format, if none of their digits is lost."""
    if torch.promote_types(x.dtype, dtype) != dtype or not x.is_floating_point():
        raise ValueError(
            f"images need to be {_name(dtype)} as the net is, got {_name(x.dtype)}: "
            f"x.astype({_name(dtype)!r}) of an array, x.to(torch.{_name(dtype)}) of a tensor"
        )
    return x.to(dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
