"""The state in which a net is asked for outputs that something is claimed of; restored after."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

UNITS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""The formats that certificates are about, with half the distance from 1 to the next number."""

FORMATS = {str(dtype).removeprefix("torch."): dtype for dtype in UNITS}
"""The same formats by name."""


@contextmanager
def evaluated(model: nn.Module | Callable[..., Any]) -> Iterator[None]:
    """Eval mode for a module and all in it; each gets back the mode that it had.

    A callable that is no module is left to answer as it does.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _places() -> tuple[Any, ...]:
    backends: Any = torch.backends
    return (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,  # the older settings are read for both at once
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )


def settings(device: str) -> tuple[object, ...]:
    """The settings of torch that decide in which arithmetic a device computes."""
    backends: Any = torch.backends
    precisions = tuple(place.fp32_precision for place in _places())
    libraries = backends.cudnn.enabled, backends.mkldnn.enabled, torch._C._get_nnpack_enabled()
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return *precisions, *libraries, autocast


@contextmanager
def exact(net: nn.Module, *, conventional: bool = True) -> Iterator[None]:
    """The arithmetic that certificates are about; all is restored after the block.

    Eval mode, no autocast, no TF32 or bfloat16 inside products. `conventional` also turns off
    what may add up in another way than term by term, by a Winograd or FFT convolution: cuDNN on a
    GPU, NNPACK on a CPU.
    """
    device = next((parameter.device.type for parameter in net.parameters()), "cpu")
    backends: Any = torch.backends
    places = _places()
    before = [place.fp32_precision for place in places]
    cudnn = backends.cudnn.enabled
    with ExitStack() as stack:
        stack.enter_context(evaluated(net))
        stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for place in places:
                place.fp32_precision = "ieee"
            if conventional:
                backends.cudnn.enabled = False
                stack.enter_context(backends.nnpack.flags(enabled=False))
            yield
        finally:
            backends.cudnn.enabled = cudnn
            for place, value in zip(places, before, strict=True):
                place.fp32_precision = value
