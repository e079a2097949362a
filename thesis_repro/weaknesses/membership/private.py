"""Training with differential privacy: DP-SGD by Opacus, which is an optional dependency."""

import copy
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.data import Split
from thesis_repro.lab import checks

DELTA = 1e-5
"""The probability with which the guarantee may fail."""
CLIP = 1.0
"""Bound of each point's gradient norm."""


def available() -> bool:
    """Whether Opacus is installed.

    Examples
    --------
    >>> available() in (True, False)
    True
    """
    from importlib.util import find_spec

    return find_spec("opacus") is not None


def fit(
    net: nn.Module,
    points: Split,
    epsilon: float,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> list[dict[str, float]]:
    """Train in place by cross-entropy and DP-SGD, so that (epsilon, 1e-5) privacy holds.

    Batches are drawn by Poisson sampling; each point's gradient is clipped to norm 1; the noise
    is as strong as the budget and the number of steps ask for.

    Parameters
    ----------
    net : nn.Module that :func:`check` lets pass; in training mode while it trains
    points : what it trains on
    epsilon : > 0 and finite, spent over all epochs

    Returns
    -------
    list of dict
        epoch and loss; the last one has the epsilon spent, by Rényi accounting.

    Raises
    ------
    ValueError
        If Opacus is not installed, a number is out of its range, the points are not finite or
        their labels none, the loss becomes no number, or as :func:`check`.

    References
    ----------
    Abadi et al. 2016, algorithm 1; Yousefpour et al. 2021 (Opacus).

    Examples
    --------
    >>> if available():
    ...     net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    ...     points = Split(torch.rand(8, 1, 2, 2), torch.tensor([0, 1] * 4))
    ...     history = fit(net, points, 8.0, epochs=1, batch_size=4, lr=0.1, seed=0)
    ...     assert 0 < history[-1]["epsilon"] <= 8
    """
    if not available():
        raise ValueError("training with privacy needs Opacus: pip install 'thesis-repro[dp]'")
    _check_numbers(points, epsilon, epochs, batch_size, lr)
    check(net, points.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        about = (net.train(), points, epsilon, epochs, batch_size, lr, seed)
        engine, model, optimizer, batches = _made_private(*about)
        history = []
        for epoch in range(epochs):
            loss = _epoch(model, optimizer, batches)
            if not math.isfinite(loss):
                raise ValueError(f"private training diverged in epoch {epoch + 1} of {epochs}")
            history.append({"epoch": epoch + 1.0, "loss": loss})
        history[-1]["epsilon"] = engine.get_epsilon(DELTA)
        model.to_standard_module()
    net.eval()
    return history


def _check_numbers(points: Split, epsilon: float, epochs: int, batch_size: int, lr: float) -> None:
    if not 0 < epsilon < math.inf or epochs < 1:
        raise ValueError(f"privacy needs epsilon > 0 and epochs >= 1, got {epsilon} and {epochs}")
    if batch_size < 1 or not 0 < lr < math.inf:
        raise ValueError(f"need batch_size >= 1 and lr > 0, got {batch_size} and {lr}")
    checks.finite("x", points.x)
    checks.labels("y", points.y)


def _made_private(
    net: nn.Module,
    points: Split,
    epsilon: float,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> tuple[Any, Any, Any, Any]:
    """Opacus's engine, net, optimizer and batches, with the noise that the budget asks for."""
    from opacus import PrivacyEngine

    engine = PrivacyEngine(accountant="rdp")
    generator = torch.Generator().manual_seed(seed)
    tensors = torch.utils.data.TensorDataset(points.x, points.y)
    found = engine.make_private_with_epsilon(
        module=net,
        optimizer=torch.optim.SGD(net.parameters(), lr, momentum=0.9),
        data_loader=torch.utils.data.DataLoader(tensors, batch_size, generator=generator),
        target_epsilon=epsilon,
        target_delta=DELTA,
        epochs=epochs,
        max_grad_norm=CLIP,
        noise_generator=torch.Generator(next(net.parameters()).device).manual_seed(seed),
    )
    return engine, *found


def _epoch(model: Any, optimizer: Any, batches: Any) -> float:
    """One pass over Poisson batches; returns the mean loss of the points that were drawn."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for x, y in batches:
        optimizer.zero_grad()
        # a Poisson batch may be empty; noise is added all the same
        scores = model(x.to(device))
        value = nn.functional.cross_entropy(scores, y.to(device), reduction="sum")
        (value / max(len(y), 1)).backward()
        optimizer.step()
        total, count = total + value.item(), count + len(y)
    return total / max(count, 1)


def check(net: nn.Module, x: Tensor) -> None:
    """See that noise and clipping cover all that a training would take from the points x (n, ...).

    The guarantee is about gradients. What a forward pass writes down gets no noise, and where one
    point's output depends on another point, no clipping bounds what one point does. Both are
    tried on a copy of the net, in training mode, with two points; the net stays as it is.

    Raises
    ------
    ValueError
        Naming the layer, and what to do: if it normalises over the batch or keeps running
        statistics, if a forward pass changes anything that it holds, if it mixes points, or if
        Opacus cannot take gradients point by point.

    Examples
    --------
    >>> try:
    ...     check(nn.Sequential(nn.BatchNorm2d(1)), torch.rand(2, 1, 2, 2))
    ... except ValueError as error:
    ...     print(str(error)[:36])
    layer '0' (BatchNorm2d) learns stati
    """
    for name, layer in net.named_modules():
        _known(f"layer {name!r} ({type(layer).__name__})" if name else "the net", layer)
    device = next(net.parameters()).device
    two = x[:2].to(device).expand(2, *x.shape[1:]).detach().clone()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        trial = copy.deepcopy(net).train()
        before = _held(trial)
        _unmixed(trial, two)
        for name, value in _held(trial).items():
            if name not in before or not _same(before[name], value):
                raise ValueError(
                    f"{name!r} changes in a forward pass: it would keep what it sees of the data "
                    f"without noise; take its layer out, or freeze what it holds"
                )
        _per_point(copy.deepcopy(net).train(), two)


def _known(where: str, layer: nn.Module) -> None:
    """What can be told by looking at a layer."""
    batch = isinstance(layer, nn.modules.batchnorm._BatchNorm)
    if batch or getattr(layer, "running_mean", None) is not None:
        raise ValueError(
            f"{where} learns statistics of the batch without noise: private training needs "
            f"nn.GroupNorm in its place"
        )
    if getattr(layer, "inplace", False):
        raise ValueError(f"{where} works in place: private training needs inplace=False")
    if layer._forward_pre_hooks or layer._forward_hooks:
        raise ValueError(
            f"{where} has a hook (as the old weight_norm and spectral_norm do), which per-point "
            f"gradients do not see: private training needs it removed"
        )
    trained = any(p.requires_grad for p in layer.parameters(recurse=False))
    if trained and next(layer.buffers(recurse=False), None) is not None:
        raise ValueError(
            f"{where} has a buffer beside trained weights, which Opacus does not support: private "
            f"training needs a layer of torch in its place (nn.Conv2d for LinearResidual)"
        )


def _held(net: nn.Module) -> dict[str, Any]:
    """Tensors and numbers that the net's layers hold, whether or not they are registered."""
    found: dict[str, Any] = {}
    for prefix, layer in net.named_modules():
        for name, value in {**vars(layer), **layer._parameters, **layer._buffers}.items():
            if isinstance(value, Tensor):
                found[f"{prefix}.{name}".lstrip(".")] = value.detach().clone()
            elif isinstance(value, int | float):
                found[f"{prefix}.{name}".lstrip(".")] = value
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)


def _unmixed(net: nn.Module, two: Tensor) -> None:
    """One forward pass; no layer's output for one point may depend on the other point."""
    seen: list[tuple[str, Tensor]] = []

    def recorder(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                seen.append((name, output))

        return hook

    handles = [layer.register_forward_hook(recorder(name)) for name, layer in net.named_modules()]
    try:
        net(two.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    for name, output in seen:  # in the order in which they are done
        one = output[0].sum()
        (pulled,) = torch.autograd.grad(one, two, retain_graph=True, allow_unused=True)
        if pulled is not None and pulled[1].any():
            raise ValueError(
                f"{f'layer {name!r}' if name else 'the net'} mixes the points of a batch, so that "
                f"what one point does has no bound: private training needs a layer that treats "
                f"each point alone"
            )


def _per_point(net: nn.Module, two: Tensor) -> None:
    """One pass forward and back with Opacus."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.grad_sample import GradSampleModule

        try:
            GradSampleModule(net)(two.detach()).sum().backward()
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
            said = " ".join(str(error).split())
            raise ValueError(
                f"Opacus cannot take this net's gradients point by point (a function such as "
                f"relu_ needs its form that is not in place): {said[:160]}"
            ) from error
