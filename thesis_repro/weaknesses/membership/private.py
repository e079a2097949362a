"""Training with differential privacy: DP-SGD by Opacus, which is an optional dependency."""

import math
import warnings

import torch
from torch import nn

from thesis_repro.data import Split

DELTA = 1e-5
"""The probability with which the guarantee may fail."""
CLIP = 1.0
"""Bound of each point's gradient norm."""


def available() -> bool:
    """Whether Opacus is installed."""
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
    net : nn.Module without batch normalisation
    points : what it trains on
    epsilon : > 0, spent over all epochs

    Returns
    -------
    list of dict
        epoch and loss; the last one has the epsilon spent, by Rényi accounting.

    Raises
    ------
    ValueError
        If Opacus is not installed, epsilon or epochs is not positive, or the loss is no number.

    References
    ----------
    Abadi et al. 2016, algorithm 1; Yousefpour et al. 2021 (Opacus).
    """
    if not available():
        raise ValueError("training with privacy needs Opacus: pip install 'thesis-repro[dp]'")
    if not epsilon > 0 or epochs < 1:
        raise ValueError(f"privacy needs epsilon > 0 and epochs >= 1, got {epsilon} and {epochs}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import PrivacyEngine

        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(points.x, points.y), batch_size, generator=generator
        )
        engine = PrivacyEngine(accountant="rdp")
        device = next(net.parameters()).device
        model, optimizer, private_loader = engine.make_private_with_epsilon(
            module=net.train(),
            optimizer=torch.optim.SGD(net.parameters(), lr, momentum=0.9),
            data_loader=loader,
            target_epsilon=epsilon,
            target_delta=DELTA,
            epochs=epochs,
            max_grad_norm=CLIP,
            noise_generator=torch.Generator(device).manual_seed(seed),
        )
        history = []
        for epoch in range(epochs):
            total, count = 0.0, 0
            for x, y in private_loader:
                optimizer.zero_grad()
                # a Poisson batch may be empty; noise is added all the same
                scores = model(x.to(device))
                value = nn.functional.cross_entropy(scores, y.to(device), reduction="sum")
                (value / max(len(y), 1)).backward()
                optimizer.step()
                total, count = total + value.item(), count + len(y)
            if not math.isfinite(total):
                raise ValueError(f"private training diverged in epoch {epoch + 1} of {epochs}")
            history.append({"epoch": epoch + 1.0, "loss": total / max(count, 1)})
        history[-1]["epsilon"] = engine.get_epsilon(DELTA)
        model.to_standard_module()
    net.eval()
    return history
