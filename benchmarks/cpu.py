"""Print what certifying costs on a CPU, as ratios beside the limits that the project sets itself.

python benchmarks/cpu.py [kw] [bound] [certifying] [smooth] [epoch] [peers]

Medians of calls in turn: processor time on one thread; where two threads are compared with one,
seconds, which need a machine with nothing else to do. `peers` measures others' code in the same
run, on nets of the same shape, where it is installed (`pip install -e .[peers]`).
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from thesis_repro import data, nets
from thesis_repro.experiments.certifiers.cost import subject
from thesis_repro.experiments.certifiers.scaling import untrained
from thesis_repro.experiments.gloro.speed import bare, fastest_batch
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.timing import interleaved
from thesis_repro.robustness import GloroNet, batches, certify, gloro, models, recipes
from thesis_repro.robustness.certifiers import dual, smoothing

CIFAR, DIGITS = (3, 32, 32), (1, 28, 28)
CPU = time.process_time


def line(what: str, ratio: float, limit: float | None, note: str = "") -> None:
    aim = "no limit" if limit is None else f"limit {limit:.2f}"
    print(f"{ratio:6.2f}  ({aim:10})  {what:52}  {note}", flush=True)


def images(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def ratio(ours: Callable[[], object], base: Callable[[], object], repeats: int = 3) -> float:
    """Processor time over that of the base, on one thread."""
    torch.set_num_threads(1)
    ours_, base_ = interleaved([ours, base], repeats, warmup=1, clock=CPU)
    return ours_.seconds / base_.seconds


def wall(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds on two threads over seconds on one."""

    def on(count: int) -> None:
        torch.set_num_threads(count)
        call()

    two, one = interleaved([lambda: on(2), lambda: on(1)], repeats, warmup=1)
    torch.set_num_threads(1)
    return two.seconds / one.seconds


def cifar_small() -> nn.Sequential:
    """A net of the shape that Wong et al. train, with biases so low that few units are on.

    Their training leaves most signs settled; that takes hours, so biases stand for it here.
    """
    generator = torch.Generator().manual_seed(0)
    body = nets.cnn_2c2f("relu", in_shape=CIFAR, generator=generator).eval()
    x = images(20, CIFAR)
    with torch.no_grad():
        for layer in body:
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not body[-1]:
                # one unit of a hundred is on, in the ball
                found = layer(x).transpose(0, 1).flatten(1).quantile(0.99, dim=1)
                reach = 36 / 255 * layer.weight.flatten(1).norm(dim=1)
                cast(Tensor, layer.bias).sub_(found + reach if layer is body[0] else found)
            x = layer(x)
    return body


def kw() -> None:
    trained = models.trained(subject(profile("quick"))).body
    cases = [
        ("1 convolution, side 16", untrained(10, 1, 16), images(4, (3, 16, 16)), 0.05),
        ("2 convolutions, side 16", untrained(10, 2, 16), images(4, (3, 16, 16)), 0.05),
        ("4 convolutions, side 16", untrained(10, 4, 16), images(4, (3, 16, 16)), 0.05),
        ("1 convolution, side 32", untrained(10, 1, 32), images(4, CIFAR), 0.05),
        ("cifar_small, few units on", cifar_small(), images(4, CIFAR), 36 / 255),
        ("2c2f, a GloRo net", trained, data.load("mnist-5k").test.x[:4], 0.3),
    ]
    for name, net, x, epsilon in cases:
        calls = (
            lambda n=net, x=x, e=epsilon, w=w: dual.margins(n, x, e, every_unit=w) for w in (0, 1)
        )
        sent = float(
            dual.sent(net, x, epsilon).sum() / dual.sent(net, x, epsilon, every_unit=True).sum()
        )
        line(
            f"KW over KW to the letter, {name}", ratio(*calls, 7), 1 / 6, f"{sent:.1%} of rows sent"
        )


def bound() -> None:
    for name, shape in (("2c2f", DIGITS), ("6c2f", CIFAR)):
        body = nets.build(name, generator=torch.Generator().manual_seed(0))
        line(
            f"bound, two threads over one, {name}",
            wall(lambda b=body, s=shape: gloro.bound(b, s)),
            1.2,
        )


def certifying() -> None:
    for name, shape, count in (("2c2f", DIGITS, 5000), ("6c2f", CIFAR, 1000)):
        body = nets.build(name, generator=torch.Generator().manual_seed(0))
        net, x = GloroNet(body, 0.1, shape).eval(), images(count, shape)
        net.bound()
        torch.set_num_threads(1)
        size = fastest_batch(body, x, CPU)
        share = ratio(
            lambda n=net, x=x: certify(n, x), lambda b=body, x=x, s=size: bare(b, x, s), 5
        )
        note = f"batches of {batches.size(body, x)}; bare, of {size}"
        line(f"certify over the bare net at its best, {name}", share, 1.1, note)


def smooth() -> None:
    for name, shape, limit in (("6c2f", CIFAR, 1 / 0.85), ("2c2f", DIGITS, None)):
        net = nets.build(name, "relu").eval()
        image, found = images(1, shape)[0], smoothing.Smooth(net, 10, 0.25)
        copies = image.expand(600, *shape).contiguous()
        share = ratio(
            lambda f=found, i=image: f.counts(i, 600, 100), lambda n=net, c=copies: bare(n, c, 100)
        )
        line(f"smoothing over the bare net, {name}", share, limit)


def epoch() -> None:
    digits = data.load("mnist-5k")
    recipe = recipes.Recipe("2c2f", 0.3, 0.3, 1, 1, 128, objective="cross-entropy")

    def train() -> None:
        recipes.train(recipe, digits)

    line("an epoch of GloRo training, two threads over one", wall(train), 1.0, "2c2f, MNIST-5k")


def wongs(net: nn.Module, x: Tensor, epsilon: float) -> Tensor:
    """Margins by the code of Wong et al., (n, classes), one point at a time; 0 at the label."""
    from convex_adversarial import DualNetwork

    found = []
    for point in x[:, None]:
        label, one = net(point).argmax(1), torch.eye(net(point).shape[1])
        dual_net = DualNetwork(net, point, epsilon, norm_type="l2")
        found.append(dual_net((one[label] - one)[None]))
    return torch.cat(found)


def authors() -> Callable[[Tensor], object]:
    """Certified radii by the code of the thesis's authors, of a 6C2F that is not trained."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # what it was written for
    np.inf = np.inf  # type: ignore[attr-defined]
    import tensorflow as tf
    from gloro import GloroNet as Theirs
    from gloro.layers import MinMax

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    layers = tf.keras.layers
    images = found = tf.keras.Input((32, 32, 3))
    for layer in nets.cnn_6c2f():
        if isinstance(layer, nn.Conv2d):
            width, size, stride = layer.out_channels, layer.kernel_size, layer.stride
            found = MinMax()(layers.Conv2D(width, size, stride, "same")(found))
    found = MinMax()(layers.Dense(512)(layers.Flatten()(found)))
    net = Theirs(images, layers.Dense(10)(found), 36 / 255)
    net.freeze_lipschitz_constant(converge=False)
    radius = tf.function(net.certified_radius)
    return lambda x: [radius(part.permute(0, 2, 3, 1).numpy()) for part in x.split(50)]


def peers() -> None:
    known = {"convex_adversarial": against_wong, "gloro": against_authors}
    for package, measure in known.items():
        if find_spec(package) is None:
            print(f"{package}: not installed")
        else:
            measure()


def against_authors() -> None:
    body, x = nets.cnn_6c2f(), images(200, CIFAR)
    net, theirs = GloroNet(body, 36 / 255, CIFAR).eval(), authors()
    share = ratio(lambda: certify(net, x), lambda: theirs(x), 5)
    line("certify over the authors' gloro in TensorFlow, 6c2f", share, 1.0)


def against_wong() -> None:
    cases = [(f"{depth} convolutions, side 16", untrained(10, depth, 16)) for depth in (1, 2, 4)]
    for name, net in cases:
        x = images(2, (3, 16, 16))
        theirs = wongs(net, x, 0.05)
        for what, whole, limit in (("KW", False, 1.0), ("KW to the letter", True, None)):
            ours = dual.margins(net, x, 0.05, every_unit=whole)
            off = (ours - theirs)[ours.isfinite()].abs().max().item()
            if off > 1e-4:
                sys.exit(f"{what}, {name}: bounds differ from those of Wong's code by {off:.1e}")
            share = ratio(
                lambda n=net, x=x, w=whole: dual.margins(n, x, 0.05, every_unit=w),
                lambda n=net, x=x: wongs(n, x, 0.05),
            )
            note = f"largest difference of bounds {off:.0e}"
            line(f"{what} over convex_adversarial, {name}", share, limit, note)


PARTS = {part.__name__: part for part in (kw, bound, certifying, smooth, epoch, peers)}
for chosen in sys.argv[1:] or PARTS:
    PARTS[chosen]()
