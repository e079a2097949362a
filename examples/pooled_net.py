"""A .pt of one's own, a CNN with max-pooling: to a certificate that the checker confirms."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.robustness import GloroNet, adopt, certificate, certify, checker


def architecture() -> nn.Sequential:
    """The net whose weights lie in the file."""
    first = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(256, 10))


folder, digits = Path(tempfile.mkdtemp()), data.load("mnist-5k")
torch.manual_seed(0)
usual, config = architecture(), training.TrainConfig(epochs=2, batch_size=50, seed=0)
training.fit(usual, training.classification, digits.train, config, training.constant(2e-3))
torch.save(usual.state_dict(), folder / "mine.pt")  # what you have already

module, x = architecture(), digits.test.x[:200]
module.load_state_dict(torch.load(folder / "mine.pt", weights_only=True))
net = GloroNet(adopt(module, (1, 28, 28)), epsilon=0.05, input_shape=(1, 28, 28))
found = certify(net, x, arithmetic="float64")
certificate.write_net(folder / "mine.safetensors", net)
certificate.write(folder / "mine.json", net, found, x, data="mnist-5k")
report = checker.check(folder / "mine.json", folder / "mine.safetensors", x.numpy())

print(f"{report.claims} of {len(x)} points certified, {report.count('confirmed')} confirmed")
assert report.bound and report.claims == report.count("confirmed") > 50
