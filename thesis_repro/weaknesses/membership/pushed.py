"""The two-sided attack on victims: what a point pushes over a training, and the odds that it did.

How hard a point would have pushed is read from proxies that did not see it, from all of their
training and not from its end alone, where hardly any point pushes. Where it would have pushed, and
whether the weights lean that way, is read from the net under attack.

Examples
--------
>>> seen = Pushed(np.array([[2.0, 0.0]]), np.array([[1.0, 1.0]]), np.array([4, 4]))
>>> odds = Odds.fit([seen], [np.array([True, False])])
>>> odds.strength, odds.noise
(array([2.]), array([1.e-12]))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro import training
from thesis_repro.lab import checks
from thesis_repro.weaknesses.membership import audited, victims, white_box
from thesis_repro.weaknesses.membership.contest import View, out_mean
from thesis_repro.weaknesses.membership.two_sided import Dense, TwoSided
from thesis_repro.weaknesses.membership.victims import Victim

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

LAYERS = {"mlp": ("1", "3"), "cnn": ("7", "9")}
"""Both dense layers of a victim."""
THROUGH = "training"
"""What a proxy shows besides its readings: its probabilities through training."""
TINY = 1e-12
"""The least noise."""


def through_training(victim: Victim, x: Tensor) -> Floats:
    """What a net says of points while it is trained: their mean probabilities, (n, classes).

    The net is trained once more, exactly as the victim was. Each epoch counts with its learning
    rate, by the mean of what the net says before and after it: the label less this is the push of
    a point on the logits, added up over training.

    Parameters
    ----------
    victim : a plain one; x : (n, ...) points

    Raises
    ------
    ValueError
        For a victim with a privacy budget, or an audited one, which are trained in other ways.
    """
    if victim.epsilon or type(victim) is not Victim:
        raise ValueError(f"pushes are added up over plain trainings, got {victim}")
    net, rate = victim.build(), training.cosine(victim.lr)
    x = x.to(victim.device)

    def said() -> Floats:
        with torch.no_grad():
            logits = torch.cat([net.eval()(part) for part in x.split(500)])
        return np.asarray(logits.double().softmax(1).cpu().numpy())

    total, before = np.zeros(1), said()

    def look(model: nn.Module, record: dict[str, float]) -> None:
        nonlocal total, before
        after, weight = said(), rate((record["epoch"] - 0.5) / victim.epochs)
        total, before = total + weight * (before + after) / 2, after

    how = training.TrainConfig(
        victim.epochs,
        victim.batch_size,
        victim.seed,
        optimizer="sgd",
        weight_decay=victim.weight_decay,
        channels_last=victim.net == "cnn",
    )
    mine = audited.audited(victim).points_of_training()
    training.fit(net, victims.loss(victim.smoothing), mine, how, rate, on_epoch=look)
    return np.asarray(total / total.sum(1, keepdims=True))


@dataclass(frozen=True)
class Pushed:
    """What is known of points in one net, layer by layer.

    Parameters
    ----------
    beyond : (layers, n), the reading of the weights less its mean over proxies that did not see
        the point
    length : (layers, n), the squared length of the push in units of the noise
    proxies : (n,), how many proxies did not see the point

    Raises
    ------
    ValueError
        On shapes that do not fit, a number that is not finite, a length below 0, or a point that
        every proxy saw.
    """

    beyond: Floats
    length: Floats
    proxies: Indices

    def __post_init__(self) -> None:
        shapes = self.beyond.shape, self.length.shape, self.proxies.shape
        if self.beyond.ndim != 2 or shapes[1] != shapes[0] or shapes[2] != shapes[0][1:]:
            raise ValueError(
                f"evidence needs readings and lengths (layers, n) and proxies (n,), got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        checks.finite("beyond", self.beyond)
        checks.finite("length", self.length)
        if (self.length < 0).any():
            raise ValueError(f"squared lengths are >= 0, got {self.length.min():g}")
        if (self.proxies < 1).any():
            raise ValueError(
                f"point {int(np.argmin(self.proxies))}: every proxy was trained on it, so that "
                f"none says what is usual"
            )


@dataclass(frozen=True)
class Odds:
    """The log-odds of membership, up to a constant: sum of (s m - s^2 L / 2) / c over layers.

    m is the reading, L the squared length. Two numbers a layer are read from shadows: the strength
    s with which a member's push is found again, and the size c of the noise.

    strength, noise : (layers,)

    Examples
    --------
    >>> odds = Odds(np.array([2.0]), np.array([4.0]))
    >>> odds.score(Pushed(np.array([[3.0]]), np.array([[1.0]]), np.array([1])))
    array([1.])
    """

    strength: Floats
    noise: Floats

    @classmethod
    def fit(cls, seen: Sequence[Pushed], member: Sequence[Bools]) -> Self:
        """Read strength and noise from shadows, whose members are known.

        The strength is that of least squares over members, the noise the mean square over
        non-members, both with a variance of c L for each point, however many proxies it has: on
        development targets the noise of the net under attack outweighs that of their mean.

        Raises
        ------
        ValueError
            Without members or non-members, or where no length is above 0.
        """
        inside = np.concatenate(list(member))
        beyond, length = (
            np.concatenate([getattr(one, name) for one in seen], 1) for name in ("beyond", "length")
        )
        if inside.shape != length.shape[1:] or not 0 < inside.sum() < len(inside):
            raise ValueError(
                f"the odds are fitted to members and non-members, got {int(inside.sum())} and "
                f"{int((~inside).sum())} for {length.shape[1]} points"
            )
        total = length[:, inside].sum(1)
        if not (total > 0).all():
            raise ValueError("the odds are fitted to points that push, and none of them does")
        out = ~inside & (length > 0).all(0)
        squares = beyond[:, out] ** 2 / length[:, out]
        return cls(beyond[:, inside].sum(1) / total, np.maximum(squares.mean(1), TINY))

    def score(self, seen: Pushed) -> Floats:
        """One score a point, (n,); higher for members."""
        s, c = self.strength[:, None], self.noise[:, None]
        return np.asarray(((s * seen.beyond - s**2 * seen.length / 2) / c).sum(0))


def shows(net: nn.Sequential, layers: Mapping[str, TwoSided], x: Tensor) -> dict[str, Floats]:
    """The readings of a net's own weights at points x (n, ...): by layer, (n, classes) each."""
    return {name: Dense(net, name).readings(x, null).cpu().numpy() for name, null in layers.items()}


def pushed(
    view: View,
    kept: Bools,
    net: nn.Sequential,
    layers: Mapping[str, TwoSided],
    x: Tensor,
    smoothing: float = 0.0,
) -> Pushed:
    """What is known of the points of a view, in the net under attack.

    The units of two nets do not correspond. So no weights are subtracted from others, but readings,
    each in the units of its own net; were the units the same, it would come to the same.

    Parameters
    ----------
    view : whose nets show what :func:`shows` gives, and references what is under `THROUGH`
    kept : (n,) bool, the points that are asked about
    net, layers : under attack, with the noise of its layers
    x : (n, ...), the points of the view

    Raises
    ------
    ValueError
        If every reference was trained on a point that is asked about; as :class:`Dense`.
    """
    contains, labels = view.contains[:, kept], view.labels[kept]

    def usual(values: Sequence[Floats]) -> Floats:
        return out_mean(values, contains)

    expected = usual([one[THROUGH][kept] for one in view.references])
    residual = white_box.expected_residual(labels, expected, smoothing)

    def reading(one: Mapping[str, Floats], name: str) -> Floats:
        return np.asarray((one[name][kept] * residual).sum(1))

    beyond = [
        reading(view.seen, name) - usual([reading(one, name) for one in view.references])
        for name in layers
    ]
    push = torch.from_numpy(residual).to(x.device)
    mine = x[torch.from_numpy(kept).to(x.device)]
    length = [
        Dense(net, name).lengths(mine, push, null).cpu().numpy() for name, null in layers.items()
    ]
    return Pushed(np.stack(beyond), np.stack(length), (~contains).sum(0))
