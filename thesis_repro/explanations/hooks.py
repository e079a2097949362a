"""Forward hooks that read what a module gives, or put something in its place, for one pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[nn.Module, Any, Any], Any]


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


@contextmanager
def differentiating() -> Iterator[None]:
    """Record what is computed in the block, or function, for gradients, wherever it is called."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def as_tensor(output: Any) -> Tensor:
    """The output itself, if it is one tensor with a batch dimension."""
    if not isinstance(output, Tensor) or output.ndim < 1:
        raise ValueError(f"a slice or a score needs one tensor, got {type(output).__name__}")
    return output


def leaf(value: Tensor) -> Tensor:
    """The same numbers, to be differentiated with respect to."""
    value = value.clone() if value.is_inference() else value
    return value.detach().requires_grad_()


def reader(seen: list[Tensor], versions: list[int] | None = None) -> Hook:
    """Append a module's output to `seen`, and how often it was written over to `versions`."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(as_tensor(output))
        if versions is not None and not output.is_inference():
            versions.append(output._version)

    return hook


def replacer(seen: list[Tensor], by: Tensor | None, start: bool = False) -> Hook:
    """Put `by` in the place of a module's output (None: the output itself), and append it to
    `seen`; with `start` as what a gradient is taken with respect to."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        value = as_tensor(output) if by is None else by
        seen.append(leaf(value) if start else value)
        return seen[-1]

    return hook
