"""A net of one's own as the nn.Sequential that can be bounded, certified and written to a file.

`adopt` follows the module (`tracing`), turns each step into a layer that a Lipschitz bound is known
for (`steps`), and compares the result with the module on random inputs.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from thesis_repro.nets import Residual, Sum
from thesis_repro.robustness import steps, structure, tracing
from thesis_repro.robustness.steps import Refused

__all__ = ["adopt"]

CLOSE = 1e-4
"""How far outputs may differ from the module's, relative to their size, in float32."""


def adopt(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Sequential:
    """Turn a module into layers that a bound is known for; the same function in eval mode.

    Taken: nn.Sequential in any nesting, sums of branches as in ResNets, nn.Linear, nn.Conv2d, ReLU,
    MinMax, max and average pooling (adaptive where it is ordinary), flatten, view and reshape,
    normalisation by constants, and the layers of `thesis_repro.nets`. Batch normalisation is
    folded into a layer before it of its channels; Dropout and Identity are left out. The module
    stays as it is.

    Parameters
    ----------
    module : nn.Module whose forward takes one batch of images, all else having a default, and gives
        the logits of two classes or more; weights all in float32 or all in float64, on one device
    input_shape : of one image, (channels, height, width)

    Returns
    -------
    nn.Sequential
        In eval mode, on the module's device, ending in nn.Linear. `GloroNet` takes it.

    Raises
    ------
    ValueError
        On what cannot be taken, in one line that names the layer or the line of the forward and
        says what to do; if the result is another function.

    Examples
    --------
    >>> body = adopt(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 2))), (1, 2, 2))
    >>> [type(layer).__name__ for layer in body]
    ['Flatten', 'Linear']
    """
    inner, traced, x = tracing.follow(module, input_shape)
    body = nn.Sequential(*_Chain(traced).layers())
    if not len(body) or not isinstance(body[-1], nn.Linear):
        last = type(body[-1]).__name__ if len(body) else "nothing"
        raise Refused(
            f"the net ends in {last}; it needs to end in nn.Linear, whose outputs are the logits"
        )
    if body[-1].out_features < 2:
        raise Refused(structure.ONE_LOGIT)
    body.eval().to(x)  # constants come in float64 on the CPU
    structure.check_certifiable(body)
    _same(inner, body, x)
    return body


class _Chain:
    """The layers of a traced module, with sums where its graph parts and meets again."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.start = next(node for node in traced.graph.nodes if node.op == "placeholder")
        outputs = next(node for node in traced.graph.nodes if node.op == "output")
        (self.end,) = outputs.args
        if not isinstance(self.end, fx.Node) or steps.shape_of(self.end) is None:
            raise Refused(
                "the module gives several outputs; it needs to give logits alone: adopt a module "
                "whose forward(x) takes them out of what this one gives"
            )
        self.dominators = self._dominators()

    def layers(self) -> list[nn.Module]:
        """From the input to the output."""
        return self._between(self.start, self.end)

    def _parents(self, node: fx.Node) -> list[fx.Node]:
        """The nodes whose values a step works on; sizes and constants are none."""
        return [parent for parent in steps.operands(node) if parent in self.dominators]

    def _lost(self, end: fx.Node) -> str:
        """Why the way from a step back to the input ends."""
        waiting = [end]
        for node in waiting:
            if tracing.SEVERAL in node.meta:
                return (
                    f"{steps.place(node)}: no bound is known for a step that gives "
                    f"{node.meta[tracing.SEVERAL]} values"
                )
            waiting += (more for more in node.all_input_nodes if more not in waiting)
        return f"{steps.place(end)}: does not depend on the images alone"

    def _dominators(self) -> dict[fx.Node, fx.Node]:
        """The last node, before each one, that all ways from the input lead through."""
        found: dict[fx.Node, fx.Node] = {self.start: self.start}
        depth = {self.start: 0}
        for node in self.traced.graph.nodes:
            parents = [parent for parent in steps.operands(node) if parent in found]
            if not parents or node.op == "output":
                continue
            meet = parents[0]
            for other in parents[1:]:
                while meet is not other:
                    if depth[meet] > depth[other]:
                        meet = found[meet]
                    else:
                        other = found[other]
            found[node], depth[node] = meet, depth[meet] + 1
        return found

    def _between(self, start: fx.Node, end: fx.Node) -> list[nn.Module]:
        made: list[nn.Module] = []
        while end is not start:
            parents = self._parents(end)
            if len(parents) > 1:
                before = self.dominators[end]
                if not steps.is_sum(end):
                    raise Refused(
                        f"{steps.place(end)}: no bound is known where values are joined by "
                        f"{steps.called(end)}; sums are known"
                    )
                new = [_added([self._between(before, parent) for parent in parents])]
            else:
                if not parents:
                    raise Refused(self._lost(end))
                (before,) = parents
                new = steps.layers_of(self.traced, end, before)
            made = _folded(new, made, len(steps.shape_of(end) or ()))
            end = before
        return made


def _added(branches: list[list[nn.Module]]) -> nn.Module:
    """A sum; with the input itself it is the block whose one linear branch is merged with it."""
    inside = [branch for branch in branches if branch]
    if len(branches) == 2 and len(inside) == 1:
        return Residual(*inside[0])
    return Sum(*(nn.Sequential(*branch) for branch in branches))


def _folded(new: list[nn.Module], after: list[nn.Module], axes: int) -> list[nn.Module]:
    """The layers in a row; batch normalisation becomes part of a linear layer right before it.

    axes : of the value between; BatchNorm1d is of the features that nn.Linear gives in (n,
        features) alone, and of the channels in (n, channels, features)
    """
    first = after[0] if after else None
    if len(new) == 1 and isinstance(first, nn.BatchNorm1d | nn.BatchNorm2d):
        if type(new[0]) is nn.Conv2d and isinstance(first, nn.BatchNorm2d):
            return [_in_double(fuse_conv_bn_eval, new[0], first), *after[1:]]
        if type(new[0]) is nn.Linear and isinstance(first, nn.BatchNorm1d) and axes == 2:
            return [_in_double(fuse_linear_bn_eval, new[0], first), *after[1:]]
    return [*new, *after]


def _in_double(fuse: Any, layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Folded in float64, so that each weight is rounded once."""
    kind = next(layer.parameters()).dtype
    found: nn.Module = fuse(*(copy.deepcopy(part).double().eval() for part in (layer, norm)))
    return found.to(kind)


def _same(module: nn.Module, body: nn.Sequential, x: Tensor) -> None:
    for given in _inputs(x):
        with torch.no_grad():
            wanted, found = module(given.clone()), body(given.clone())
        if wanted.shape != found.shape:
            raise Refused(
                f"the module gives outputs of shape {tuple(wanted.shape)} for {len(given)} images; "
                f"logits are {tuple(found.shape)} (does its forward squeeze the batch away? "
                f"x.flatten(1) keeps it)"
            )
        tolerance = CLOSE if wanted.dtype == torch.float32 else 1e-10
        off = float((wanted - found).abs().max())
        if not off <= tolerance * (1e-3 + float(wanted.abs().max())):
            raise Refused(
                f"the adopted net is another function than the module: outputs differ by {off:.2g} "
                f"(does its forward write over its input, or depend on the batch?)"
            )


def _inputs(x: Tensor) -> Iterator[Tensor]:
    """Batches of several sizes, pixels and noise."""
    yield x
    yield x[:1]
    yield torch.cat([x, 1 - x, (x - 0.5).abs()])
