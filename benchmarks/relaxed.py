"""Print what certifying sets of labels costs for 100 classes, as a ratio to plain certification.

python benchmarks/relaxed.py [cpu|cuda] [points]
"""

import sys

import torch

from thesis_repro import nets
from thesis_repro.lab.timing import interleaved
from thesis_repro.robustness import GloroNet, certify, relaxed

LIMIT = 1.5
device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
points = int(sys.argv[2]) if len(sys.argv) > 2 else 1000

body = nets.cnn_6c2f(classes=100, generator=torch.Generator().manual_seed(0))
net = GloroNet(body, 36 / 255, (3, 32, 32)).to(device).eval()
x = torch.rand(points, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
net.bound()
superclasses = [range(i, i + 5) for i in range(0, 100, 5)]
for title, guarantee in (
    ("RT5", relaxed.up_to(5)),
    ("20 affinity sets of 5", relaxed.within(superclasses)),
):
    ours, plain = interleaved(
        (lambda g=guarantee: relaxed.certify(net, x, guarantee=g), lambda: certify(net, x)), 5
    )
    ratio = ours.seconds / plain.seconds
    print(f"{ratio:.2f} (limit {LIMIT})  {title} / top-1, 6C2F, 100 classes, {points} points")
