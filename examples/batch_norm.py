"""A net with batch normalisation: folded into the layers before it, the same function."""

import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.robustness import GloroNet, adopt, certify

torch.manual_seed(0)
digits = data.load("mnist-5k")
module = nn.Sequential(
    nn.Sequential(nn.Conv2d(1, 8, 4, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
    nn.Sequential(nn.Conv2d(8, 8, 4, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
    nn.Dropout(0.1),
    nn.Flatten(),
    nn.Linear(200, 10),
)
config = training.TrainConfig(epochs=2, batch_size=100, seed=0)
training.fit(module, training.classification, digits.train, config, training.constant(3e-3))

net = GloroNet(adopt(module, (1, 28, 28)), epsilon=0.02, input_shape=(1, 28, 28)).eval()
x, y = digits.test.x[:500], digits.test.y[:500]
found = certify(net, x)
right = found.labels == y
print(", ".join(type(layer).__name__ for layer in net.body))
vra = (right & found.certified).float().mean()
print(f"right: {right.float().mean():.0%}, right and certified: {vra:.0%}")
assert right.float().mean() > 0.8
