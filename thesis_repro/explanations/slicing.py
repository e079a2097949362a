"""Cut a net in two at a slice: f = g ∘ h. Read h(x), and differentiate g there.

Hooks live for one forward pass and are removed on errors too; parameters are detached for the
pass where torch can, so nothing below the slice is differentiated. No gradient is stored in the
model.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thesis_repro.data.images import fitting
from thesis_repro.explanations.hooks import (
    Hook,
    as_tensor,
    differentiating,
    hooked,
    leaf,
    reader,
    replacer,
)
from thesis_repro.explanations.modules import evaluating, find, overwriting, places, prefix, suffix
from thesis_repro.explanations.quantities import Quantity

Part = Callable[[Tensor], Tensor]
_AS_THEY_ARE = (torch.jit.ScriptModule, nn.DataParallel)
"""Modules whose parameters torch does not exchange for a pass."""
FEATURES_LAST = (nn.Linear, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Modules whose units lie along the last axis of what they give."""
Slice = str | tuple[Part, Part]
"""A dotted module name (its output), "" for the input, or the pair of callables (h, g)."""


class Cut:
    """A net in two parts.

    Parameters
    ----------
    model : nn.Module, in eval mode, without in-place activations
    slice : module name, "" for the input, or (h, g)

    Raises
    ------
    ValueError
        If the slice is neither a name nor two callables, the model of a name no nn.Module, or if
        the module is unknown (close names are listed), in training mode, or works in place; also
        later, when the net is run.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> Cut(net, "1").activations(torch.rand(5, 3)).shape
    torch.Size([5, 4])
    """

    def __init__(self, model: nn.Module, slice: Slice) -> None:
        _check_given(model, slice)
        self.model, self.slice, self.name = model, slice, slice
        parts = [model] if isinstance(slice, str) else [model, *slice]
        self._parts = [part for part in parts if isinstance(part, nn.Module)]
        self._check()
        self._module = find(model, slice) if isinstance(slice, str) and slice else None
        self.after = suffix(model, slice) if isinstance(slice, str) else None
        """What runs after the slice, where the way there is sequential; else None."""
        if self.after is not None and places(model, self._module) > 1:
            # hooks cannot tell one use of a module from another; its place can
            self.slice = (prefix(model, str(slice)), self.after)
            self._module = None

    @property
    def said(self) -> str:
        """The slice, as messages name it."""
        return f"slice {self.name!r}" if isinstance(self.name, str) else "the slice (h, g)"

    def _check(self) -> None:
        for part in self._parts:
            evaluating(part)
            overwriting(part)

    def activations(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """h(x), computed in batches, without a graph."""
        self._check()
        with fitting(x), torch.no_grad():
            return torch.cat([self.h(part) for part in x.split(batch_size)])

    def check_units(self, z: Tensor) -> None:
        """Refuse activations whose units do not lie along the second axis, as those of tokens.

        Raises
        ------
        ValueError
            If z has more than two axes and the slice is a layer of `FEATURES_LAST`.
        """
        module = find(self.model, self.name) if isinstance(self.name, str) and self.name else None
        if z.ndim > 2 and isinstance(module, FEATURES_LAST):
            raise ValueError(
                f"{self.said} ({type(module).__name__}) gives {tuple(z.shape)}, whose last axis "
                f"has the units: they need to be the second axis, as the channels of a convolution "
                f"are; give the slice as two callables (h, g), around z.movedim(-1, 1)"
            )

    def h(self, x: Tensor) -> Tensor:
        """h(x) in one pass, with a graph where gradients are recorded."""
        if not isinstance(self.slice, str):
            return self.slice[0](x)
        if self._module is None:
            return x
        seen: list[Tensor] = []
        versions: list[int] = []
        with hooked([(self._module, reader(seen, versions))]):
            self.model(x)
        z = _only(seen, self.name)
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
        with hooked([(self._module, replacer(seen, z))]):
            out = self.model(x)
        _only(seen, self.name)
        return as_tensor(out)

    def gradient(self, x: Tensor, quantity: Quantity) -> Tensor:
        """The gradient of the quantity with respect to z at z = h(x), shaped like z."""
        if not isinstance(self.slice, str) or self._module is None:
            return self.gradient_at(self.h(x), x, quantity)
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
        leaves: list[Tensor] = []
        read: list[Tensor] = []
        hooks: list[tuple[nn.Module | None, Hook]] = []
        with differentiating():
            # where the gradient starts: at the slice, put there by a hook, or at the beginning
            begin = start
            if root is self.model and self._module is not None:
                hooks.append((self._module, replacer(leaves, at, start=True)))
            else:
                begin = leaf(start)
                leaves.append(begin)
            # where it comes from: a module's output, read by a hook, or the net's own
            if quantity.module:
                hooks.append((self._single(quantity.module), reader(read)))
            with fitting(start), hooked(hooks):
                out = self._run(root, begin)
            z = _only(leaves, self.name)
            if not quantity.module:
                read = [as_tensor(out)]
            elif quantity.module == self.slice:
                read = [z]
            elif not read:
                raise self._unrelated(quantity)
            score = self._scored(quantity, _only(read, quantity.module, "quantity"))
            (gradient,) = torch.autograd.grad(score.sum(), z, allow_unused=True)
        if gradient is None:
            raise self._unrelated(quantity)
        return gradient

    def _scored(self, quantity: Quantity, output: Tensor) -> Tensor:
        """The quantity of an output, (n,), if it depends on the slice and is finite."""
        score = quantity(output)
        if not score.requires_grad:
            raise self._unrelated(quantity)
        if not score.isfinite().all():
            bad = int((~score.isfinite()).sum())
            raise ValueError(
                f"{quantity.name} is not finite at {bad} of {len(score)} inputs: nothing "
                f"explains it there"
            )
        return score

    def _run(self, root: Part, begin: Tensor) -> Tensor:
        try:
            if not isinstance(root, nn.Module) or isinstance(root, _AS_THEY_ARE):
                return root(begin)
            frozen = {name: p.detach() for name, p in root.named_parameters()}
            out: Tensor = functional_call(root, frozen, (begin,))
        except RuntimeError as error:
            if "in-place" not in str(error):
                raise
            raise self._overwritten() from error
        return out

    def _overwritten(self) -> ValueError:
        return ValueError(
            f"what follows {self.said} overwrites it in place (such as F.relu_ or "
            f"inplace=True); write to a new tensor there"
        )

    def _single(self, name: str) -> nn.Module:
        """The module of a quantity, if its name says which use of it is meant."""
        module = find(self.model, name)
        if places(self.model, module) > 1:
            raise ValueError(
                f"module {name!r} stands in the net more than once; a quantity needs one that "
                f"stands there once"
            )
        return module

    def _unrelated(self, quantity: Quantity) -> ValueError:
        return ValueError(f"{quantity.name} does not depend on {self.said}: there is no gradient")


def _only(seen: list[Tensor], name: Slice, asked: str = "slice") -> Tensor:
    """The output of a module that ran once: of several runs nothing says which is meant."""
    if len(seen) != 1:
        times = "never" if not seen else f"{len(seen)} times"
        raise ValueError(
            f"module {name!r} runs {times} in one forward pass; a {asked} needs one that runs once"
        )
    return seen[0]


def jvp(h: Part, x: Tensor, step: Tensor) -> Tensor:
    """The derivative of h at x along `step`, shaped like h(x).

    The gradient of <h(x), v> with respect to x is linear in v; the derivative of its product with
    `step` with respect to v is what we want: two backward passes for all units at once.
    """
    with differentiating():
        start = leaf(x)
        z = h(start)
        v = torch.zeros_like(z, requires_grad=True)
        (pulled,) = torch.autograd.grad(z, start, v, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, v, step)
    return pushed.detach()


def lengths(rows: Tensor) -> Tensor:
    """The L2 norm of each row of (n, ...), (n,); right where squares vanish too, and never 0."""
    flat = rows.flatten(1)
    near = flat.norm(dim=1)
    exact = torch.where(near < 1e-12, flat.double().norm(dim=1).to(flat), near)
    return exact.clamp(min=torch.finfo(rows.dtype).tiny)


def _check_given(model: object, slice: object) -> None:
    """Whether there is something to cut, and a place where."""
    pair = isinstance(slice, tuple) and len(slice) == 2 and all(map(callable, slice))
    if not isinstance(slice, str) and not pair:
        raise ValueError(
            f"a slice is the name of a module, '' for the input, or two callables (h, g), "
            f"got {slice!r:.60}"
        )
    if not pair and (not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule)):
        raise ValueError(
            f"a module is looked for by its name in an nn.Module that is not compiled, got "
            f"{type(model).__name__}: for other functions give the slice as two callables (h, g)"
        )
