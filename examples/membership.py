"""Membership inference on a target of one's own, with one's own data for the shadows."""

import torch
from torch import nn

from thesis_repro import data, training
from thesis_repro.weaknesses.membership import CalibratedAttack, auc, judge


def train(x: torch.Tensor, y: torch.Tensor, seed: int) -> nn.Sequential:
    """How the target was trained, as far as the adversary knows."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    config = training.TrainConfig(epochs=30, batch_size=50, seed=seed)
    training.fit(net, training.classification, data.Split(x, y), config, training.constant(5e-3))
    return net


digits = data.load("mnist-5k").train
x, y = digits.x, digits.y
target = train(x[:200], y[:200], seed=1000)  # the net that is attacked

judged = slice(0, 400)  # half of these are members
member = torch.arange(400) < 200
attack = CalibratedAttack(train, slices=["0", "2"], shadows=6)
attack.fit(x[400:934], y[400:934])  # the adversary's own: 8/3 as many as the target saw

scores = attack.score(target, x[judged], y[judged])
threshold = attack.threshold_for(precision=0.55, least=100)
outcome = judge(scores > threshold, member)
print(f"area under the curve: {auc(scores, member):.3f}")
print(f"claimed: {outcome.claims}, of which members: {outcome.precision:.0%}")
assert auc(scores, member) > 0.6
