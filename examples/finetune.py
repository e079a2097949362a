"""Train a residual net to be certified: adopt it, then go on with the GloRo loss."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from thesis_repro import data
from thesis_repro.robustness import GloroNet, adopt, attacks, certify, own
from thesis_repro.robustness.recipes import Recipe


class Residual(nn.Module):
    """Two branches that are added, as in a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = nn.Conv2d(1, 8, 4, 4), nn.Conv2d(1, 8, 8, 4, 2)
        self.dense, self.head = nn.Linear(8 * 7 * 7, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.short(x) + torch.relu(self.long(x))
        return self.head(torch.relu(self.dense(x.flatten(1))))


torch.manual_seed(0)
digits, shape, epsilon = data.load("mnist-5k"), (1, 28, 28), 0.3
net = GloroNet(adopt(Residual(), shape), epsilon, shape)
recipe = Recipe("own", epsilon, epsilon, epochs=6, epochs_paper=6, batch_size=100, lr=3e-3)
own.train(recipe, digits, Path(tempfile.mkdtemp()) / "mine.safetensors", start=net)

found = certify(net, digits.test.x)
right = found.labels == digits.test.y
vra = (right & found.certified).double().mean()
print(f"right: {right.double().mean():.1%}; right and certified at {epsilon}: {vra:.1%}")
attacked = attacks.break_certificates(net, digits.test.x[:100], steps=20, restarts=1)
print(f"certified points attacked: {attacked['attacked']}, broken: {attacked['broken']}")
assert vra > 0.3 and attacked["broken"] == 0
