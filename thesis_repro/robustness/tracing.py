"""A module of one's own, followed by `torch.fx` through its forward: its steps, with shapes."""

import copy
import inspect
import traceback
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from thesis_repro.data.images import check_model
from thesis_repro.robustness import steps, structure
from thesis_repro.robustness.arithmetic import UNITS
from thesis_repro.robustness.steps import Refused

SEVERAL = "how many values"
"""Under this name the `meta` of a node says it, where its value is not one tensor but several."""


def follow(
    module: nn.Module, input_shape: tuple[int, ...]
) -> tuple[nn.Module, fx.GraphModule, Tensor]:
    """What can be adopted, as steps whose nodes know the shapes of their values.

    Returns
    -------
    A copy of the module in eval mode, without parametrizations, that takes images alone; its steps;
    three images (3, *input_shape) that it took, of the module's format

    Raises
    ------
    ValueError
        As :func:`thesis_repro.robustness.adopt.adopt`.

    Examples
    --------
    >>> inner, traced, x = follow(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    >>> [steps.shape_of(node) for node in traced.graph.nodes]
    [(3, 1, 2, 2), (3, 4), (3, 2), (3, 2)]
    """
    _check_kind(module)
    check_model(module)
    structure.check_shape(input_shape)
    weight = _checked_weight(module)
    _check_hooks(module)
    inner = _of_images(_plain(_copied(module).eval()))
    traced = _traced(inner)
    x = _probe(weight, input_shape)
    _shapes(traced, x)
    return inner, traced, x


def _check_kind(module: nn.Module) -> None:
    """Refuse what is no module, is around one, or was compiled of one."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"adopt takes an nn.Module, got {type(module).__name__}")
    for name in ("module", "_orig_mod"):  # the second is that of torch.compile
        wraps = isinstance(module, nn.DataParallel | DistributedDataParallel) or name[0] == "_"
        if wraps and isinstance(getattr(module, name, None), nn.Module):
            raise Refused(f"{type(module).__name__} is around a module: adopt that, module.{name}")
    if isinstance(module, torch.jit.ScriptModule):
        raise Refused("a ScriptModule has no forward to follow: adopt the module it was made of")


def _checked_weight(module: nn.Module) -> Tensor:
    """One of the weights; refuses several formats or devices, or one that nothing is proved of."""
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
    return found[0]


def _check_hooks(module: nn.Module) -> None:
    for name, part in module.named_modules():
        about = f"layer {name!r} ({type(part).__name__})"
        if isinstance(part, LazyModuleMixin):  # it is another type of layer once it was run
            raise Refused(
                f"{about} takes its size from the first batch: run the net on one, then adopt it"
            )
        hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
        pruned = [hook._tensor_name for hook in hooks if isinstance(hook, BasePruningMethod)]
        if pruned:
            calls = " and ".join(f"prune.remove(layer, {held!r})" for held in pruned)
            raise Refused(f"{about} is pruned by a hook: {calls} makes what is left plain weights")
        if hooks:
            raise Refused(
                f"{about} has a hook, which cannot be followed: remove it (weight_norm and "
                f"spectral_norm of torch.nn.utils.parametrizations need none)"
            )


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # whatever a value says that some layer holds
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"{_holder(module)} cannot be copied ({said}): adopt a module that does not hold it"
        ) from None


def _holder(module: nn.Module) -> str:
    """The layer, and the attribute of it, that a copy of a module fails at."""
    for name, part in module.named_modules():
        place = f"layer {name!r} ({type(part).__name__})" if name else type(part).__name__
        for key, value in {**vars(part), **part._buffers, "_modules": 0, "_buffers": 0}.items():
            try:
                copy.deepcopy(value)
            except Exception:
                return f"{key!r} of {place}"
    return type(module).__name__


def _plain(module: nn.Module) -> nn.Module:
    """The module with parametrized weights, as those of spectral_norm, made plain ones."""
    for part in module.modules():
        for name in list(getattr(part, "parametrizations", ())):
            kind: Any = type(part)  # made for the module, and shared with what it is a copy of
            part.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    return module


def _of_images(module: nn.Module) -> nn.Module:
    """The module with a forward of images alone: what else it can be given is at its default."""
    kind: Any = type(module)
    if steps.known(kind) is not None:
        return module
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError as error:
        raise Refused(
            f"{kind.__name__}.forward cannot be called with images alone ({error}): adopt a module "
            f"whose forward(x) calls it"
        ) from None
    alone = {"forward": lambda self, x: kind.forward(self, x)}
    module.__class__ = type(kind.__name__, (kind,), alone)
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


def _probe(weight: Tensor, input_shape: tuple[int, ...]) -> Tensor:
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
    """Notes the shape and the format of each value."""

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            n.meta[steps.SHAPE], n.meta[steps.FORMAT] = tuple(found.shape), found.dtype
        elif isinstance(found, tuple | list) and any(isinstance(part, Tensor) for part in found):
            n.meta[SEVERAL] = len(found)
        return found
