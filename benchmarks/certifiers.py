"""Print what smoothing costs over the bare net: samples per second at the same batch, in turn.

python benchmarks/certifiers.py [cpu|cuda]
"""

import sys

import torch

from thesis_repro import nets
from thesis_repro.lab.timing import interleaved
from thesis_repro.robustness.certifiers import smoothing

LIMIT = 0.85  # of the bare net's rate
device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
for name, shape, batch in (("2c2f", (1, 28, 28), 200), ("6c2f", (3, 32, 32), 200)):
    net = nets.build(name, "relu").to(device).eval()
    image = torch.rand(shape, device=device)
    images = image.expand(batch, *shape).contiguous()
    smooth = smoothing.Smooth(net, 10, 0.25)
    n = batch if device == "cpu" else 50 * batch

    def bare(net=net, images=images, rounds=n // batch):
        with torch.no_grad():
            for _ in range(rounds):
                net(images)

    generator = torch.Generator(device).manual_seed(0)
    noisy, plain = interleaved(
        [lambda s=smooth, x=image, n=n, b=batch, g=generator: s.counts(x, n, b, g), bare], 15
    )
    share = plain.seconds / noisy.seconds
    rate = n / noisy.seconds
    print(f"{share:.2f} of the bare net's rate (limit {LIMIT})  {name}, {rate:,.0f} samples/s")
