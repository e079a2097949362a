"""The property game with a marker of one's own: was a net trained on marked images?"""

import numpy as np
import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.weaknesses import leakage

digits = data.load("mnist-5k")
cross = leakage.Marker("cross", pattern=("#.#", ".#.", "#.#"), scale=2, opacity=1.0)
probes = digits.test.x[:100]  # images of the adversary's own


def features(share: float, seed: int) -> np.ndarray:
    """What a net shows whose training set has the marker on a share of it, in class 0 alone."""
    rows = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(seed))[:400]
    part = data.Split(digits.train.x[rows], digits.train.y[rows])
    zero = part.y == 0
    marked, _ = leakage.mark(data.Split(part.x[zero], part.y[zero]), cross, share, seed)
    split = data.Split(torch.cat([part.x[~zero], marked.x]), torch.cat([part.y[~zero], marked.y]))
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    config = training.TrainConfig(epochs=5, batch_size=50, seed=seed)
    training.fit(net, training.classification, split, config, training.constant(3e-3))
    return leakage.probe_features(net, probes, cross).numpy()


with_marker = np.stack([features(0.5, seed) for seed in range(6)])
without = np.stack([features(0.0, seed) for seed in range(100, 106)])
outcome = leakage.play(with_marker, without, leakage.by_classifier)
print(f"games won: {outcome.wins} of {len(outcome.true)}")
assert outcome.accuracy > 0.7
