"""The matched filter on both sides of a weight matrix: was it pushed along (gradient) x (input)?

Training on a point pushes a dense layer's weights along d a^T: d minus the gradient of its loss at
its outputs, a its inputs. What all other points did is noise. Its covariance is taken to be
Kronecker, as K-FAC takes it: A = E[a a^T] on the side of the inputs, G = E[d d^T] on that of the
outputs. For Gaussian noise W0 of that covariance, the best test of W0 + d a^T against W0 is the log
of the likelihood ratio,

    <W, G^-1 (d a^T) A^-1> - 1/2 <d a^T, G^-1 (d a^T) A^-1>,

a linear reading less half the squared length of the push in units of the noise.

Examples
--------
>>> rng = torch.Generator().manual_seed(0)
>>> inputs, gradients = (torch.rand(50, k, generator=rng) for k in (4, 3))
>>> null = TwoSided.fit(inputs, gradients)
>>> null.reading(torch.zeros(3, 4), inputs, gradients).abs().max().item()
0.0
>>> bool((null.length(inputs, gradients) > 0).all())
True
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Self, cast

import torch
from torch import Tensor, nn

from thesis_repro.data.images import tensor
from thesis_repro.explanations.modules import places
from thesis_repro.explanations.slicing import Cut, Part
from thesis_repro.lab import checks

DAMPING = 1.0
"""Times the mean eigenvalue of each side, added to its diagonal; chosen on development targets."""


@dataclass(frozen=True)
class TwoSided:
    """The noise of one dense layer's weights (out, in), as the inverses of both its sides.

    inputs : (in, in), A^-1; outputs : (out, out), G^-1; both damped

    Examples
    --------
    >>> null = TwoSided(inputs=torch.eye(2).double(), outputs=0.5 * torch.eye(1).double())
    >>> null.length(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]))  # 25 * 4 / 2
    tensor([50.], dtype=torch.float64)
    """

    inputs: Tensor
    outputs: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, gradients: Tensor, damping: float = DAMPING) -> Self:
        """Estimate both sides on points that no net trained on.

        Parameters
        ----------
        inputs, gradients : (n, in) and (n, out), at the inputs and at the outputs of the layer
        damping : >= 0; each side gets it times its mean eigenvalue on its diagonal. This is the
            factored damping of K-FAC, A + pi g I and G + g/pi I with pi^2 the ratio of the two
            mean eigenvalues, for g = damping times their geometric mean.

        Raises
        ------
        ValueError
            On shapes that do not fit, a value that is not finite, or a side that is singular.

        References
        ----------
        Martens and Grosse 2015, sections 3 and 6.3.
        """
        _check_pushes(inputs, gradients)
        if not 0 <= damping < inf:
            raise ValueError(f"damping needs to be finite and >= 0, got {damping}")
        return cls(
            *(_inverse(*side, damping) for side in (("inputs", inputs), ("gradients", gradients)))
        )

    def reading(self, moved: Tensor, inputs: Tensor, gradients: Tensor) -> Tensor:
        """<moved, G^-1 (d a^T) A^-1> of each push d a^T: how far the weights lean its way, (n,).

        Parameters
        ----------
        moved : (out, in), weights less those that are usual
        inputs, gradients : (n, in) and (n, out)

        Raises
        ------
        ValueError
            On shapes that do not fit, or a value that is not finite.
        """
        self._check(inputs, gradients, moved)
        along = inputs.double() @ self.inputs @ moved.double().T
        return ((gradients.double() @ self.outputs) * along).sum(1)

    def length(self, inputs: Tensor, gradients: Tensor) -> Tensor:
        """<d a^T, G^-1 (d a^T) A^-1>: the squared length of each push in units of the noise, (n,).

        Raises
        ------
        ValueError
            On shapes that do not fit, or a value that is not finite.
        """
        self._check(inputs, gradients)
        sides = (inputs.double(), self.inputs), (gradients.double(), self.outputs)
        a, d = (((side @ inverse) * side).sum(1) for side, inverse in sides)
        return a * d

    def _check(self, inputs: Tensor, gradients: Tensor, moved: Tensor | None = None) -> None:
        _check_pushes(inputs, gradients)
        shape = len(self.outputs), len(self.inputs)
        given = gradients.shape[1], inputs.shape[1]
        if given != shape or (moved is not None and moved.shape != shape):
            raise ValueError(
                f"the filter is for weights {shape}, got pushes {given}"
                + ("" if moved is None else f" and weights {tuple(moved.shape)}")
            )
        if moved is not None:
            checks.finite("moved", moved)


def _check_pushes(inputs: Tensor, gradients: Tensor) -> None:
    if inputs.ndim != 2 or gradients.ndim != 2 or len(inputs) != len(gradients) or not len(inputs):
        raise ValueError(
            f"the filter needs inputs (n, in) and gradients (n, out) with n >= 1, got "
            f"{tuple(inputs.shape)} and {tuple(gradients.shape)}"
        )
    checks.finite("inputs", inputs)
    checks.finite("gradients", gradients)


def _inverse(name: str, side: Tensor, damping: float) -> Tensor:
    values = side.detach().double()
    moment = values.T @ values / len(values)
    moment.diagonal().add_(damping * moment.diagonal().mean())
    try:
        return torch.cholesky_inverse(torch.linalg.cholesky(moment))
    except RuntimeError as error:
        raise ValueError(
            f"the second moment of {name} {tuple(side.shape)} is singular; the filter needs "
            f"damping > 0, or more points, whose {name} are not all 0"
        ) from error


class Dense:
    """One dense layer of a net, as points meet it.

    Parameters
    ----------
    net : nn.Sequential, in eval mode
    name : of its nn.Linear, reached through sequences alone

    Attributes
    ----------
    weights : (out, in + 1), the bias in the last column

    Raises
    ------
    ValueError
        If there is no such layer, it is not dense or not reached so, or the net is training.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> units = nn.init.ones_(net[1].weight), nn.init.zeros_(net[1].bias)  # all are on
    >>> layer, x = Dense(net, "1"), torch.rand(5, 1, 2, 2)
    >>> null = layer.null(x, residual=torch.tensor([[0.5, -0.5]]).repeat(5, 1))
    >>> layer.weights.shape, layer.readings(x, null).shape
    (torch.Size([3, 5]), torch.Size([5, 2]))
    """

    def __init__(self, net: nn.Sequential, name: str) -> None:
        self.net, self._cut = net, Cut(net, name)
        layer = net.get_submodule(name)
        once = self._cut.after is not None and places(net, layer) == 1
        if not isinstance(layer, nn.Linear) or not once:
            raise ValueError(
                f"the filter needs an nn.Linear that is reached once, through nn.Sequential alone; "
                f"{name!r} is {type(layer).__name__}"
            )
        self._layer = layer
        self._after = cast(Part, self._cut.after)
        weight = layer.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
        self.weights = torch.cat([weight, bias[:, None]], 1)

    def _seen(self, x: Tensor, batch_size: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Batch by batch: where, inputs with a 1 for the bias (n, in + 1), outputs (n, out)."""
        x = tensor("x", x, self.net)
        checks.finite("x", x)
        inputs: list[Tensor] = []
        handle = self._layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            for start in range(0, len(x), batch_size):
                inputs.clear()
                outputs = self._cut.activations(x[start : start + batch_size], batch_size)
                a = inputs[0].detach().double()
                if a.ndim != 2:
                    raise ValueError(f"the filter needs inputs (n, in), got {tuple(a.shape)}")
                yield (
                    slice(start, start + len(a)),
                    torch.cat([a, a.new_ones(len(a), 1)], 1),
                    outputs,
                )
        finally:
            handle.remove()

    def pushes(
        self, x: Tensor, residual: Tensor, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batch by batch the inputs (n, in + 1), and the gradients (n, out) at the outputs.

        Parameters
        ----------
        x : (n, ...)
        residual : (n, classes), how training on each point pushes the logits

        Raises
        ------
        ValueError
            On shapes that do not fit, or a value that is not finite.
        """
        if residual.ndim != 2 or len(residual) != len(x):
            raise ValueError(
                f"the filter needs a residual (n, classes) for each of {len(x)} points, got "
                f"{tuple(residual.shape)}"
            )
        checks.finite("residual", residual)
        for where, inputs, outputs in self._seen(x, batch_size):
            at = outputs.detach().requires_grad_()
            with torch.enable_grad():
                logits = self._after(at)
                (pulled,) = torch.autograd.grad(logits, at, residual[where].to(logits))
            yield inputs, pulled.double()

    def null(self, x: Tensor, residual: Tensor, damping: float = DAMPING) -> TwoSided:
        """The noise of this layer, estimated on points x (n, ...) that no net trained on."""
        inputs, gradients = zip(*self.pushes(x, residual), strict=True)
        return TwoSided.fit(torch.cat(inputs), torch.cat(gradients), damping)

    def readings(self, x: Tensor, null: TwoSided, batch_size: int = 500) -> Tensor:
        """The reading of the layer's own weights, for a push of each logit by 1: (n, classes).

        A reading is linear in the residual, so that of any is the sum over classes of residual
        times this: one forward-mode derivative along G^-1 W A^-1 a gives all.
        """
        along = null.outputs @ self.weights @ null.inputs
        found = []
        with torch.no_grad(), warnings.catch_warnings():
            # the first use of forward mode compiles with a function that torch itself deprecates
            warnings.simplefilter("ignore", FutureWarning)
            for _, inputs, outputs in self._seen(x, batch_size):
                moved = (inputs @ along.T).to(outputs)
                found.append(torch.func.jvp(self._after, (outputs,), (moved,))[1].double())
        return torch.cat(found)

    def lengths(self, x: Tensor, residual: Tensor, null: TwoSided) -> Tensor:
        """The squared length of each point's push in units of the noise, (n,)."""
        return torch.cat([null.length(*push) for push in self.pushes(x, residual)])
