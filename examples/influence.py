"""Which units of a named layer speak for one class and against another?"""

import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.explanations.influence import comparative, internal_influence, line, per_unit


class Net(nn.Module):
    """Any module will do; layers go by their dotted names."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2))
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.features(x)).flatten(1))


torch.manual_seed(0)
digits = data.load("mnist-5k")
net = Net()
config = training.TrainConfig(epochs=2, batch_size=50, seed=0)
training.fit(net, training.classification, digits.train, config, training.constant(2e-3))

fours = digits.test.x[digits.test.y == 4].numpy()  # arrays and tensors alike
found = internal_influence(net, fours, "features.1", comparative(4, 9), line(0.0, 10))
units = per_unit(found).mean(0)
for unit in units.argsort(descending=True)[:3]:
    print(f"features.1, channel {unit}: influence on 4 against 9: {units[unit]:.3g}")
assert found.shape == (len(fours), 8, 12, 12)
