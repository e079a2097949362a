"""Cut a net in two at a slice: f = g ∘ h. Read h(x), and differentiate g there.

Hooks live for one forward pass and are removed on errors too; parameters are detached for the
pass, so no gradient is stored in the model and nothing below the slice is differentiated.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thesis_repro.data.images import fitting
from thesis_repro.explanations.quantities import Quantity

Part = Callable[[Tensor], Tensor]
Slice = str | tuple[Part, Part]
"""A dotted module name (its output), "" for the input, or the pair of callables (h, g)."""

Hook = Callable[[nn.Module, Any, Any], Any]


class Cut:
    """A net in two parts.

    Parameters
    ----------
    model : nn.Module, in eval mode, without in-place activations
    slice : module name, "" for the input, or (h, g)

    Raises
    ------
    ValueError
        If the module is unknown (close names are listed), in training mode, or works in place;
        also later, when the net is run.
    """

    def __init__(self, model: nn.Module, slice: Slice) -> None:
        self.model, self.slice = model, slice
        parts = [model] if isinstance(slice, str) else [model, *slice]
        self._parts = [part for part in parts if isinstance(part, nn.Module)]
        self._check()
        self._module = find(model, slice) if isinstance(slice, str) and slice else None
        self.after = _suffix(model, slice) if isinstance(slice, str) else None
        """What runs after the slice, where the way there is sequential; else None."""
        if self.after is not None and _places(model, self._module) > 1:
            # hooks cannot tell one use of a module from another; its place can
            self.slice = (_prefix(model, str(slice)), self.after)
            self._module = None

    def _check(self) -> None:
        for part in self._parts:
            evaluating(part)
            _overwriting(part)

    def activations(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """h(x), computed in batches, without a graph."""
        self._check()
        with fitting(x), torch.no_grad():
            return torch.cat([self._activations(part) for part in x.split(batch_size)])

    def _activations(self, x: Tensor) -> Tensor:
        if not isinstance(self.slice, str):
            return self.slice[0](x)
        if self._module is None:
            return x
        seen: list[Tensor] = []
        versions: list[int] = []
        with hooked([(self._module, _reader(seen, versions))]):
            self.model(x)
        z = self._only(seen)
        if versions and z._version != versions[0]:  # a function after the slice wrote over it
            raise self._overwritten()
        return z

    def output(self, z: Tensor, x: Tensor, batch_size: int = 256) -> Tensor:
        """The model's output when z stands in the place of h(x), without a graph."""
        self._check()
        parts = zip(z.split(batch_size), x.split(batch_size), strict=True)
        with torch.no_grad():
            return torch.cat([self._output(*part) for part in parts])

    def _output(self, z: Tensor, x: Tensor) -> Tensor:
        if not isinstance(self.slice, str):
            return self.slice[1](z)
        if self.after is not None:
            return as_tensor(self.after(z))
        seen: list[Tensor] = []
        with hooked([(self._module, _replacer(seen, z))]):
            out = self.model(x)
        self._only(seen)
        return as_tensor(out)

    def gradient(self, x: Tensor, quantity: Quantity) -> Tensor:
        """The gradient of the quantity with respect to z at z = h(x), shaped like z."""
        if not isinstance(self.slice, str) or self._module is None:
            return self.gradient_at(self._activations(x), x, quantity)
        return self._differentiate(self.model, x, quantity, None)

    def gradient_at(self, z: Tensor, x: Tensor, quantity: Quantity) -> Tensor:
        """The gradient at any z, put in the place of h(x); x matters where paths pass by z."""
        if not isinstance(self.slice, str):
            return self._differentiate(self.slice[1], z, quantity, None)
        if self.after is not None:
            return self._differentiate(self.after, z, quantity, None)
        return self._differentiate(self.model, x, quantity, z)

    def _differentiate(
        self, root: Part, start: Tensor, quantity: Quantity, at: Tensor | None
    ) -> Tensor:
        """Run `root` from `start`; the leaf is `at`, the slice's output, or `start` itself."""
        self._check()
        leaf: list[Tensor] = []
        read: list[Tensor] = []
        hooks: list[tuple[nn.Module | None, Hook]] = []
        with torch.inference_mode(False), torch.enable_grad():
            if root is self.model and self._module is not None:
                hooks.append((self._module, _replacer(leaf, at, leaf=True)))
                begin = start
            else:
                begin = _leaf(start)
                leaf.append(begin)
            if quantity.module:
                hooks.append((self._single(quantity.module), _reader(read)))
            with fitting(start), hooked(hooks):
                out = self._run(root, begin)
            z = self._only(leaf)
            if quantity.module and quantity.module == self.slice:
                read.append(z)
            if quantity.module and not read:
                raise self._unrelated(quantity)
            score = quantity(read[-1] if quantity.module else as_tensor(out))
            if not score.requires_grad:
                raise self._unrelated(quantity)
            if not score.isfinite().all():
                bad = int((~score.isfinite()).sum())
                raise ValueError(
                    f"{quantity.name} is not finite at {bad} of {len(score)} inputs: nothing "
                    f"explains it there"
                )
            (gradient,) = torch.autograd.grad(score.sum(), z, allow_unused=True)
        if gradient is None:
            raise self._unrelated(quantity)
        return gradient

    def _run(self, root: Part, begin: Tensor) -> Tensor:
        if not isinstance(root, nn.Module):
            return root(begin)
        try:
            frozen = {name: p.detach() for name, p in root.named_parameters()}
            out: Tensor = functional_call(root, frozen, (begin,))
        except RuntimeError as error:
            if "in-place" not in str(error):
                raise
            raise self._overwritten() from error
        return out

    def _overwritten(self) -> ValueError:
        return ValueError(
            f"what follows slice {self.slice!r} overwrites it in place (such as F.relu_ or "
            f"inplace=True); write to a new tensor there"
        )

    def _only(self, seen: list[Tensor]) -> Tensor:
        if len(seen) != 1:
            times = "never" if not seen else f"{len(seen)} times"
            raise ValueError(
                f"module {self.slice!r} runs {times} in one forward pass; a slice needs one that "
                f"runs once"
            )
        return seen[0]

    def _single(self, name: str) -> nn.Module:
        """The module of a quantity, if its name says which use of it is meant."""
        module = find(self.model, name)
        if _places(self.model, module) > 1:
            raise ValueError(
                f"module {name!r} stands in the net more than once; a quantity needs one that "
                f"stands there once"
            )
        return module

    def _unrelated(self, quantity: Quantity) -> ValueError:
        return ValueError(
            f"{quantity.name} does not depend on slice {self.slice!r}: there is no gradient"
        )


def along(h: Part, x: Tensor, step: Tensor) -> Tensor:
    """The derivative of h at x along `step`, shaped like h(x).

    The gradient of <h(x), v> with respect to x is linear in v; the derivative of its product with
    `step` with respect to v is what we want: two backward passes for all units at once.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        z = h(leaf)
        v = torch.zeros_like(z, requires_grad=True)
        (pulled,) = torch.autograd.grad(z, leaf, v, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, v, step)
    return pushed.detach()


def find(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name.

    Raises
    ------
    ValueError
        If there is none; names that come close are listed.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    known = [n for n in modules if n]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:8]
    raise ValueError(f"no module is called {name!r}; close names: {', '.join(close)}")


@contextmanager
def hooked(pairs: Sequence[tuple[nn.Module | None, Hook]]) -> Iterator[None]:
    """Forward hooks for the length of the block, in this order."""
    handles = []
    try:
        for module, hook in pairs:
            assert module is not None
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def as_tensor(output: Any) -> Tensor:
    """The output itself, if it is one tensor with a batch dimension."""
    if not isinstance(output, Tensor) or output.ndim < 1:
        raise ValueError(f"a slice or a score needs one tensor, got {type(output).__name__}")
    return output


def evaluating(model: object) -> None:
    """Refuse a net in training mode: it answers at random, and its statistics would move.

    Raises
    ------
    ValueError
        Naming the first module in training mode. A callable that is no nn.Module passes.
    """
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        if module.training and not _sequential(module):  # the flag of a plain sequence is moot
            raise ValueError(f"{_where(name)} is in training mode; call model.eval() first")


def _overwriting(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if getattr(module, "inplace", False):
            raise ValueError(
                f"{_where(name)} ({type(module).__name__}) works in place and would overwrite the "
                f"activations; set its inplace to False"
            )


def _where(name: str) -> str:
    return f"module {name!r}" if name else "the model"


def _sequential(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward and len(module._modules) > 0


def _places(model: nn.Module, module: nn.Module | None) -> int:
    """How often a module stands in a model, under any name."""
    found = [inner for _, inner in model.named_modules(remove_duplicate=False)]
    return sum(inner is module for inner in found)


def _suffix(model: nn.Module, name: str) -> nn.Module | None:
    """What runs after a module as a net of its own; None where the way there is not sequential."""
    if not name:
        return model
    parts = _split(model, name)
    return None if parts is None else _sequence(parts[1])


def _prefix(model: nn.Module, name: str) -> nn.Module:
    """What runs up to a module, and the module."""
    parts = _split(model, name)
    assert parts is not None
    return _sequence(parts[0])


def _sequence(modules: list[nn.Module]) -> nn.Sequential:
    found = nn.Sequential(*modules)
    found.training = False  # eval() would reach into the model
    return found


def _split(model: nn.Module, name: str) -> tuple[list[nn.Module], list[nn.Module]] | None:
    """The modules up to one of them, and those after it, if all the way there is sequential."""
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    for part in name.split("."):
        if not _sequential(model) or part not in model._modules:
            return None
        children = [
            (child, module) for child, module in model._modules.items() if module is not None
        ]
        place = [child for child, _ in children].index(part)
        before += [module for _, module in children[:place]]
        after = [*(module for _, module in children[place + 1 :]), *after]
        model = children[place][1]
    return [*before, model], after


def _leaf(value: Tensor) -> Tensor:
    value = value.clone() if value.is_inference() else value
    return value.detach().requires_grad_()


def _reader(seen: list[Tensor], versions: list[int] | None = None) -> Hook:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(as_tensor(output))
        if versions is not None and not output.is_inference():
            versions.append(output._version)

    return hook


def _replacer(seen: list[Tensor], by: Tensor | None, leaf: bool = False) -> Hook:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        value = as_tensor(output) if by is None else by
        seen.append(_leaf(value) if leaf else value)
        return seen[-1]

    return hook
