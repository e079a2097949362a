"""What moves in the chapter robustness/gloro: the plane, one digit, and images under attack."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thesis_repro.figures.moving import Moving
from thesis_repro.robustness import GloroNet, attacks, certify, relaxed, toy2d
from thesis_repro.robustness.outputs import Model

SIDE = 72
"""Cells of the plane along one side."""


def of_plane(epsilon: float = 0.08) -> Moving:
    """The radius on the plane: what one net proves at each, for one label and for two."""
    net = toy2d.trained(epsilon)
    found = relaxed.certify(net, toy2d.grid(SIDE), k=2)
    points = toy2d.blobs()
    data = {
        "side": SIDE,
        "start": epsilon,
        "largest": 0.2,
        "labels": "".join(map(str, found.order[:, 0].tolist())),
        "one": _thousandths(found.radii[:, 0]),
        "two": _thousandths(found.radii.amax(1)),
        "points": [
            [round(x, 3), round(y, 3), label]
            for (x, y), label in zip(points.x.flatten(1).tolist(), points.y.tolist(), strict=True)
        ],
    }
    return Moving("plane", "ask for a larger radius, and for less than one label", data)


def _thousandths(radii: Tensor) -> list[int]:
    """Rounded down, so that nothing is shown as proved that is not."""
    return (1000 * radii.clamp(0, 1)).floor().int().tolist()


@dataclass(frozen=True)
class Attacked:
    """Certified digits from the smallest radius to the largest, with the closest attack on each.

    x, nearest : (n, 1, 28, 28); y : (n,) labels; radius, distance : (n,), distance infinite where
    no attack was found
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    nearest: Tensor
    distance: Tensor


def attacked(net: GloroNet, x: Tensor, y: Tensor, count: int = 6) -> Attacked:
    """Attack certified and correct points at evenly spaced ranks of the radius."""
    certificate = certify(net, x)
    good = (certificate.certified & (certificate.labels == y)).nonzero()[:, 0]
    order = good[certificate.radius[good].argsort()]
    chosen = order[torch.linspace(0, len(order) - 1, count).long()]
    radius = certificate.radius[chosen]
    found, distance = attacks.closest(net.body, x[chosen], y[chosen], radius.float())
    return Attacked(x[chosen], y[chosen], radius, found, distance)


def of_digits(net: GloroNet, found: Attacked) -> Moving:
    """Certified digits: logits and bottom logit over the radius, and the closest attack found."""
    reached = torch.isfinite(found.distance)
    with torch.no_grad():
        logits, after = net.body(found.x), net.body(found.nearest).argmax(1)
    slopes = net.bound().k_ij
    digits = [
        {
            "label": int(found.y[i]),
            "answer": int(logits[i].argmax()),
            "logits": [round(value, 3) for value in logits[i].tolist()],
            "slopes": [round(value, 3) for value in slopes[logits[i].argmax()].tolist()],
            "radius": round(float(found.radius[i]), 3),
            "distance": round(float(found.distance[i]), 3),
            "after": int(after[i]),
            "image": _hex(found.x[i]),
            "attack": _hex(found.nearest[i]),
        }
        for i in reached.nonzero()[:, 0].tolist()
    ]
    data = {"classes": list(map(str, range(net.classes))), "digits": digits}
    return Moving("digit", "raise the radius until the proof ends", data if digits else None)


def _hex(image: Tensor) -> str:
    """The pixels of one grey image, two hex digits each."""
    return bytes((255 * image.flatten().clamp(0, 1)).round().byte().tolist()).hex()


def turned(model: Model, x: Tensor, y: Tensor, target: Tensor, steps: int) -> tuple[Tensor, float]:
    """The first point of class `target` that descent finds in balls that grow by two fifths.

    Parameters
    ----------
    model : images to logits (n, classes)
    x, y, target : (1, channels, height, width) in [0, 1]; (1,) int64, its label and the aim
    steps : of each descent

    Returns
    -------
    The point, as x, and its L2 distance from x.

    Raises
    ------
    ValueError
        If no ball up to the largest has one.
    """

    def judge(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        margin = logits.gather(1, y[rows, None]) - logits.gather(1, target[rows, None])
        return margin[:, 0], logits.argmax(1) == target[rows]

    generator = torch.Generator().manual_seed(0)
    for radius in 0.25 * 1.4 ** torch.arange(12):
        point = attacks.descend(model, x, judge, radius[None], steps, 1, generator)
        if int(model(point).argmax()) == int(target):
            return point, float((point - x).norm())
    raise ValueError("no noise was found that gets there")
