"""DP-SGD as Abadi et al. 2016 have it: no momentum, and a clip that is chosen.

:mod:`thesis_repro.weaknesses.membership.private` adds momentum and clips at norm 1.
"""

import math
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thesis_repro.data import Split
from thesis_repro.weaknesses.membership import private


def fit(
    net: nn.Module,
    points: Split,
    epsilon: float,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    clip: float,
    seed: int,
) -> list[dict[str, float]]:
    """Train in place by cross-entropy and DP-SGD, so that (epsilon, 1e-5) privacy holds.

    Parameters
    ----------
    net : nn.Module that :func:`private.check` lets pass; in training mode while it trains
    points : what it trains on
    epsilon : > 0 and finite, spent over all epochs
    batch_size : expected size of a batch; Poisson sampling
    lr : of the mean over a batch
    clip : > 0, bound of each point's gradient norm; noise is in proportion to it, so that where it
        clips every point, lr times clip alone matters

    Returns
    -------
    list of dict
        epoch and loss; the last one has the epsilon spent, by Rényi accounting.

    Raises
    ------
    ValueError
        As :func:`private.fit`; unless clip > 0 and finite.

    References
    ----------
    Abadi et al. 2016, algorithm 1; De et al. 2022 (large batches); Tramèr and Boneh 2021 (rate and
    clip together); Yousefpour et al. 2021 (Opacus).

    Examples
    --------
    >>> if private.available():
    ...     net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    ...     points = Split(torch.rand(8, 1, 2, 2), torch.tensor([0, 1] * 4))
    ...     how = dict(epochs=2, batch_size=4, lr=0.1, clip=0.5, seed=0)
    ...     history = fit(net, points, 8.0, **how)
    ...     assert 0 < history[-1]["epsilon"] <= 8
    """
    if not private.available():
        raise ValueError("training with privacy needs Opacus: pip install 'thesis-repro[dp]'")
    private._check_numbers(points, epsilon, epochs, batch_size, lr)
    if not 0 < clip < math.inf:
        raise ValueError(f"private training needs clip > 0 and finite, got {clip}")
    private.check(net, points.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import PrivacyEngine

        torch.manual_seed(seed)
        tensors = TensorDataset(points.x, points.y)
        device, drawn = next(net.parameters()).device, torch.Generator().manual_seed(seed)
        engine = PrivacyEngine(accountant="rdp")
        model, optimizer, batches = engine.make_private_with_epsilon(
            module=net.train(),
            optimizer=torch.optim.SGD(net.parameters(), lr / batch_size),
            data_loader=DataLoader(tensors, batch_size, generator=drawn),
            target_epsilon=epsilon,
            target_delta=private.DELTA,
            epochs=epochs,
            max_grad_norm=clip,
            noise_generator=torch.Generator(device).manual_seed(seed),
            loss_reduction="sum",  # a mean has no value where a Poisson batch is empty
        )
        history: list[dict[str, float]] = []
        for epoch in range(epochs):
            loss = _epoch(model, optimizer, batches) / len(points)
            if not math.isfinite(loss):
                raise ValueError(f"private training diverged in epoch {epoch + 1} of {epochs}")
            history.append({"epoch": epoch + 1.0, "loss": loss})
        history[-1]["epsilon"] = engine.get_epsilon(private.DELTA)
        model.to_standard_module()
    net.eval()
    return history


def _epoch(model: Any, optimizer: Any, batches: Any) -> float:
    """One pass over Poisson batches; returns the sum of the losses of the points drawn."""
    device, total = next(model.parameters()).device, 0.0
    for x, y in batches:
        optimizer.zero_grad()
        scores = model(x.to(device))
        loss = nn.functional.cross_entropy(scores, y.to(device), reduction="sum")
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total
