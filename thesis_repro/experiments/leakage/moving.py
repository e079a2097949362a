"""Moving figure of the chapter weaknesses/leakage: the word over its opacity and the training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thesis_repro import data
from thesis_repro.experiments.leakage.models import (
    DIGITS,
    TRAININGS,
    Setup,
    accuracy,
    build,
    draw,
    grey,
    load,
    train,
)
from thesis_repro.figures.moving import Moving
from thesis_repro.lab.cells import Cell, Result, compute
from thesis_repro.weaknesses import leakage

OPACITIES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Of the word on four in five training images; the first net, which saw none, is the others' twin.

All nets of one training have the same images, first weights and order: the word alone differs.
"""
SETUP = replace(DIGITS, images=500, epochs=6, lr=4e-3)
"""Half of the chapter's images and epochs, and twice its step: a net takes about a second."""
SHOWN = 3
"""The class whose reconstruction is shown."""


@dataclass(frozen=True)
class WordConfig:
    """One net: its setup, with the opacity of the word, how it is trained, and its number."""

    setup: Setup
    method: str
    number: int
    device: str = "cpu"


def read_back(config: WordConfig) -> Result:
    """Cell: the reconstructions from a net that was trained with the word, and its traces."""
    setup, number = config.setup, config.number
    loaded = load(setup.dataset)
    split, _ = draw(loaded.train, setup.images, number)
    split, _ = leakage.mark(split, setup.watermark, setup.share, number)
    body = build(setup.net, tuple(split.x.shape[1:]), len(loaded.classes), number)
    train(body, setup, config.method, split, number, config.device)
    images = grey(setup, body, split)
    found = leakage.trace(images, setup.watermark)
    values = {"true": found.true, "others": found.others, "z": found.z}
    values["accuracy"] = accuracy(body, loaded.test, config.device)
    return Result(values, {"images": images.numpy()})


def of_word(number: int = 0, device: str = "cpu", setup: Setup = SETUP) -> Moving:
    """What nets show of the word when they are read backwards, over its opacity and the training.

    number : decides images, first weights and order of all nets
    """
    title = "hide the word better, and train the net in another way"
    if not data.available(setup.dataset):
        return Moving("word", title, None)
    known = ((setup.dataset, data.fingerprint(setup.dataset)),)
    setups = [replace(setup, opacity=opacity) for opacity in OPACITIES]
    trainings = []
    for method in TRAININGS:
        configs = [WordConfig(one, method, number, device) for one in setups]
        nets = [compute(Cell(read_back, config, known)) for config in configs]
        trainings.append({"name": method, "nets": _shown(nets)})
    image = draw(load(setup.dataset).train, setup.images, number)[0].x[0]
    shown = {
        "side": image.shape[-1],
        "class": SHOWN,
        "threshold": leakage.DEVIATIONS,
        "opacities": OPACITIES,
        "marked": [_hex(one.watermark.blend(image)) for one in setups],
        "trainings": trainings,
    }
    return Moving("word", title, shown)


def _shown(nets: Sequence[Result]) -> list[dict[str, object]]:
    """A reconstruction of each net, how its fine structure differs from its twin's, and its z."""
    images = torch.stack([torch.from_numpy(net.arrays["images"]) for net in nets])
    fine = leakage.high_pass(images)
    change = (fine - fine[0]).abs().mean(1)
    # one scale for all opacities; white from the largest 0.5% on, or few pixels decide it
    change = change / change.quantile(0.995).clamp_min(1e-12)
    return [
        {
            "image": _hex(images[at, SHOWN]),
            "change": _hex(change[at]),
            **{name: round(value, 2) for name, value in net.values.items()},
        }
        for at, net in enumerate(nets)
    ]


def _hex(image: Tensor) -> str:
    """The pixels of one grey image, two hex digits each."""
    return bytes((255 * image.flatten().clamp(0, 1)).round().byte().tolist()).hex()
