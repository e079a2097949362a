"""A net of one's own as the nn.Sequential that can be bounded, certified and written to a file.

`adopt` follows the module by `torch.fx`, turns each step into a layer that a Lipschitz bound is
known for (`steps`), and compares the result with the module on random inputs.
"""

import copy
import math
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from thesis_repro.data.images import check_model
from thesis_repro.nets import Residual, Sum
from thesis_repro.robustness import steps, structure
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.steps import Refused

__all__ = ["adopt"]

CLOSE = 1e-4
"""How far outputs may differ from the module's, relative to their size, in float32."""


def adopt(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Sequential:
    """Turn a module into layers that a bound is known for; the same function in eval mode.

    Taken: nn.Sequential in any nesting, sums of branches as in ResNets, nn.Linear, nn.Conv2d, ReLU,
    MinMax, max and average pooling (adaptive where it is ordinary), flatten, view and reshape,
    normalisation by constants, and the layers of `thesis_repro.nets`. Batch normalisation is
    folded into the layer before it; Dropout and Identity are left out. The module stays as it is.

    Parameters
    ----------
    module : nn.Module whose forward takes one batch of images and gives logits, with all weights in
        float32 or all in float64, on one device
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
    if not isinstance(module, nn.Module):
        raise ValueError(f"adopt takes an nn.Module, got {type(module).__name__}")
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        raise Refused(f"{type(module).__name__} is around a module: adopt that, module.module")
    check_model(module)
    structure.check_shape(input_shape)
    _weights(module)
    inner = _plain(copy.deepcopy(module).eval())
    traced = _traced(inner)
    x = _probe(module, input_shape)
    _shapes(traced, x)
    body = nn.Sequential(*_Chain(traced).layers())
    if not len(body) or not isinstance(body[-1], nn.Linear):
        last = type(body[-1]).__name__ if len(body) else "nothing"
        raise Refused(
            f"the net ends in {last}; it needs to end in nn.Linear, whose outputs are the logits"
        )
    body.eval()
    structure.check_certifiable(body)
    _same(inner, body, x)
    return body


def _weights(module: nn.Module) -> None:
    """Refuse weights of several formats or devices, or of one that nothing is proved of."""
    found = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
    formats = sorted({str(value.dtype).removeprefix("torch.") for value in found})
    if not found or len(formats) > 1 or found[0].dtype not in UNITS:
        raise Refused(
            f"the module has weights in {' and '.join(formats) or 'no format'}: module.float() "
            f"makes them float32"
        )
    devices = sorted({str(value.device) for value in found})
    if len(devices) > 1:
        raise Refused(
            f"the module has weights on {' and '.join(devices)}: module.to('cpu') moves them to one"
        )


def _plain(module: nn.Module) -> nn.Module:
    """The module with parametrized weights, as those of spectral_norm, made plain ones."""
    for part in module.modules():
        for name in list(getattr(part, "parametrizations", ())):
            kind: Any = type(part)  # made for the module, and shared with what it is a copy of
            part.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    for name, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise Refused(
                f"layer {name!r} ({type(part).__name__}) has a hook, which cannot be followed: "
                f"remove it (weight_norm and spectral_norm of torch.nn.utils.parametrizations need "
                f"none)"
            )
    return module


class _Tracer(fx.Tracer):
    """Keeps whole what is a layer of torch or of ours, and the normalisation of torchvision."""

    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return steps.known(type(m)) is not None or super().is_leaf_module(m, module_qualified_name)


def _traced(module: nn.Module) -> fx.GraphModule:
    root = module if steps.known(type(module)) is None else nn.Sequential(module)
    try:
        return fx.GraphModule(root, _Tracer().trace(root))
    except Exception as error:  # whatever a forward does with a value that has none yet
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"{_line(error)}cannot be followed ({said}): a forward needs to be the same steps for "
            f"all inputs, without `if`, loops over values or calls outside torch"
        ) from None


def _line(error: Exception) -> str:
    """Where the module's own code stood when an error came up."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _of_torch(f.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""


def _of_torch(file: str) -> bool:
    return file.startswith(steps.TORCH) or file == __file__


def _probe(module: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    weight = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, *input_shape, generator=generator).to(weight)


def _shapes(traced: fx.GraphModule, x: Tensor) -> None:
    shapes = _Shapes(traced)
    shapes.extra_traceback = False
    try:
        with torch.no_grad():
            shapes.run(x.clone())
    except Exception as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"the module takes no images of shape {tuple(x.shape[1:])}: {said}") from None


class _Shapes(fx.Interpreter):
    """Notes the shape of each value."""

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            n.meta[steps.SHAPE] = tuple(found.shape)
        return found


class _Chain:
    """The layers of a traced module, with sums where its graph parts and meets again."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
        if len(inputs) != 1:
            raise Refused(f"the module takes {len(inputs)} inputs; it needs to take images alone")
        self.start = inputs[0]
        outputs = next(node for node in traced.graph.nodes if node.op == "output")
        (self.end,) = outputs.args
        if not isinstance(self.end, fx.Node):
            raise Refused("the module gives several outputs; it needs to give logits alone")
        self.dominators = self._dominators()

    def layers(self) -> list[nn.Module]:
        """From the input to the output."""
        return self._between(self.start, self.end)

    def _parents(self, node: fx.Node) -> list[fx.Node]:
        """The nodes whose values a step works on; sizes and constants are none."""
        return [parent for parent in steps.operands(node) if parent in self.dominators]

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
                    raise Refused(f"{steps.place(end)}: does not depend on the images alone")
                (before,) = parents
                new = steps.layers_of(self.traced, end, before)
            made = _folded(new, made)
            end = before
        return made


def _added(branches: list[list[nn.Module]]) -> nn.Module:
    """A sum; with the input itself it is the block whose one linear branch is merged with it."""
    inside = [branch for branch in branches if branch]
    if len(branches) == 2 and len(inside) == 1:
        return Residual(*inside[0])
    return Sum(*(nn.Sequential(*branch) for branch in branches))


def _folded(new: list[nn.Module], after: list[nn.Module]) -> list[nn.Module]:
    """The layers in a row; batch normalisation becomes part of a linear layer right before it."""
    first = after[0] if after else None
    if len(new) == 1 and isinstance(first, nn.BatchNorm1d | nn.BatchNorm2d):
        if type(new[0]) is nn.Conv2d and isinstance(first, nn.BatchNorm2d):
            return [_in_double(fuse_conv_bn_eval, new[0], first), *after[1:]]
        if type(new[0]) is nn.Linear and isinstance(first, nn.BatchNorm1d):
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
        tolerance = CLOSE if wanted.dtype == torch.float32 else 1e-10
        off = float((wanted - found).abs().max()) if wanted.shape == found.shape else math.inf
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
