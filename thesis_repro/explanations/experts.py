"""Class experts: the few units of a layer that are enough to recognise a class.

Units are ranked by their influence on a class's score over images of that class. The alpha most
positive and the beta most negative ones are kept, the others are set to zero, and the net is
then judged as a detector of the class. Explained in the chapter explanations/experts.

Source: Leino, Sen, Datta, Fredrikson and Li 2018, section on the essence of a class.

Examples
--------
>>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
>>> x, y = torch.rand(8, 1, 2, 2), torch.tensor([0, 0, 1, 1] * 2)
>>> layer, both = Experts(net, "2", x, y), halves(net, "2", x, y)
>>> kept = keep(layer.influence(1), Choice(alpha=1, beta=1))
>>> kept.sum(), masked(layer.z, kept).shape, layer.detect(1, kept).positives
(tensor(2), torch.Size([8, 3]), 4)
>>> choice, found = both.compressed(1, "influence", budget=2, generator=torch.Generator())
>>> choice.units <= 2, found.positives, Detector(found=3, positives=4, alarms=1, negatives=4).recall
(True, 2, 0.75)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_repro.data.images import labels as as_labels
from thesis_repro.data.images import tensor
from thesis_repro.explanations.influence import (
    Distribution,
    Quantity,
    class_score,
    internal_influence,
    per_unit,
    point,
)
from thesis_repro.explanations.quantities import check_logits, class_index
from thesis_repro.explanations.slicing import Cut, Slice, jvp, lengths
from thesis_repro.lab.checks import finite

RANKINGS = ("influence", "activation", "gradient at the input", "random")
NEAR = 0.05
"""A detector keeps the whole net's recall if it is at most so much lower."""


@dataclass(frozen=True)
class Detector:
    """A net as a detector of one class, on labelled images.

    found, positives : images of the class that are called so, and all of them
    alarms, negatives : images of other classes that are called so, and all of them
    """

    found: int
    positives: int
    alarms: int
    negatives: int

    @property
    def recall(self) -> float:
        """Share of the class's images that are found, in [0, 1]."""
        return self.found / self.positives if self.positives else float("nan")

    @property
    def precision(self) -> float:
        """Share of the calls that are right; 0 where nothing is called."""
        return self.found / max(self.found + self.alarms, 1)

    @property
    def balanced(self) -> float:
        """Balanced accuracy: mean of recall and of the share of negatives left alone.

        A detector that calls everything, or nothing, has 1/2.
        """
        quiet = 1 - self.alarms / self.negatives if self.negatives else float("nan")
        return (self.recall + quiet) / 2


@dataclass(frozen=True)
class Choice:
    """How many units to keep on each side: the most positive, the most negative."""

    alpha: int
    beta: int

    @property
    def units(self) -> int:
        """All units kept."""
        return self.alpha + self.beta


class Experts:
    """One layer of a net, with its activations on a set of images computed once.

    Masks are applied to fresh copies of the stored activations, so no mask outlives its call.

    Parameters
    ----------
    model : nn.Module in eval mode
    slice : dotted name of the layer whose units are ranked and masked, or two callables (h, g).
        Units lie along the second axis of its output. Where features come last, as of tokens (n,
        tokens, features), h ends with ``z.movedim(-1, 1)`` and g begins with the way back
    x, y : (n, ...) images, (n,) int64 labels

    Raises
    ------
    ValueError
        As for ``internal_influence``, if x and y differ in length, y has no whole numbers >= 0, or
        x or the activations are not finite; on nn.Linear or a layer of a transformer that gives
        tokens.
    """

    def __init__(self, model: nn.Module, slice: Slice, x: Tensor, y: Tensor) -> None:
        x = tensor("x", x, model)
        y = as_labels("y", y, x)
        finite("x", x)
        self.model, self.slice, self.x, self.y = model, slice, x, y
        self.cut = Cut(model, slice)
        self.z = self.cut.activations(x)
        self.cut.check_units(self.z)
        finite(f"the activations of {self.cut.said}", self.z)

    @property
    def units(self) -> int:
        """Number of units: channels of a convolution, units of a dense layer."""
        return self.z.shape[1]

    def detect(self, c: int, keep: Tensor | None = None) -> Detector:
        """Detect class c with the units of `keep` alone; raises as :meth:`logits`."""
        logits = self.logits(keep)
        c, labels = class_index(c, logits.shape[1]), logits.argmax(1)
        called, truth = labels == c, self.y == c
        found, positives = int((called & truth).sum()), int(truth.sum())
        return Detector(found, positives, int(called.sum()) - found, len(truth) - positives)

    def labels(self, keep: Tensor | None = None) -> Tensor:
        """Predicted labels (n,) with the units of `keep` alone; raises as :meth:`logits`."""
        return self.logits(keep).argmax(1)

    def logits(self, keep: Tensor | None = None) -> Tensor:
        """Logits (n, classes) with the units of `keep` alone, (units,) bool; None keeps all.

        Raises
        ------
        ValueError
            If `keep` is no mask of the units, logits are fewer than two or not finite, c is none.
        """
        logits = self.cut.output(self.z if keep is None else masked(self.z, keep), self.x)
        check_logits(logits)
        finite("the model's logits", logits)
        return logits

    def influence(
        self,
        c: int,
        distribution: Distribution | None = None,
        quantity: Quantity | None = None,
        over: str = "max",
    ) -> Tensor:
        """Mean influence of each unit on class c over the images of that class, (units,)."""
        x = self.of_class(c)
        found = internal_influence(
            self.model, x, self.slice, quantity or class_score(c), distribution or point()
        )
        return per_unit(found, over).mean(0)

    def activation(self, c: int, over: str = "max") -> Tensor:
        """Mean activation of each unit over the images of class c, (units,)."""
        self.of_class(c)
        return per_unit(self.z[self.y == c], over).mean(0)

    def input_gradient(self, c: int, over: str = "max") -> Tensor:
        """How fast each unit grows along the saliency map of class c, (units,).

        The mean over images of the class of the directional derivative of the unit along the
        gradient of the class's logit with respect to the input.
        """
        x = self.of_class(c)
        saliency = internal_influence(self.model, x, "", class_score(c), point())
        step = saliency / lengths(saliency).view(-1, *[1] * (x.ndim - 1))
        return per_unit(jvp(self.cut.h, x, step), over).mean(0)

    def ranking(self, name: str, c: int, generator: torch.Generator | None = None) -> Tensor:
        """Scores (units,) by one of RANKINGS; ValueError on another, or a class without images."""
        if name == "influence":
            return self.influence(c)
        if name == "activation":
            return self.activation(c)
        if name == "gradient at the input":
            return self.input_gradient(c)
        if name == "random":
            return torch.rand(self.units, generator=generator)
        raise ValueError(f"unknown ranking {name!r}; choose one of {', '.join(RANKINGS)}")

    def choose(
        self, c: int, scores: Tensor, budget: int, step: int = 1, near: float = NEAR
    ) -> Choice:
        """The alpha and beta, together at most `budget`, that detect class c best here.

        Best means the highest balanced accuracy among the choices that keep the class's recall:
        at most `near` below that of the whole net. If none keeps it, the highest of all. Of equal
        ones, that with fewest units, then that with more positive ones.

        Parameters
        ----------
        c, scores : class, and (units,)
        budget : largest number of units to keep
        step : try multiples of so many units on each side
        near : how much recall may be lost, in [0, 1]

        Raises
        ------
        ValueError
            If the budget is below 1 or above the number of units, there is no image of class c,
            a score is not finite, step is not in [1, budget] or near is outside [0, 1].
        """
        self.of_class(c)
        finite("scores", scores)
        if step < 1 or not 0 <= near <= 1:
            raise ValueError(f"need step >= 1 and near in [0, 1], got {step} and near={near}")
        if not 1 <= budget <= self.units:
            raise ValueError(f"a budget of {budget} units does not fit a layer of {self.units}")
        if step > budget:
            raise ValueError(f"a step of {step} units is more than the budget of {budget}")
        sides = range(0, budget + 1, step)
        choices = [Choice(a, b) for a in sides for b in sides if 1 <= a + b <= budget]
        choices.sort(key=lambda choice: (choice.units, -choice.alpha))
        needed = self.detect(c).recall - near
        found = [self.detect(c, keep(scores, choice)) for choice in choices]
        quality = [(d.recall >= needed, d.balanced) for d in found]
        return choices[max(range(len(choices)), key=quality.__getitem__)]

    def curve(self, c: int, scores: Tensor, choices: Sequence[Choice]) -> list[Detector]:
        """The compression curve of class c: the detector at each choice."""
        return [self.detect(c, keep(scores, choice)) for choice in choices]

    def of_class(self, c: int) -> Tensor:
        """The images of class c; ValueError where there is none, or c is no class."""
        x = self.x[self.y == class_index(c)]
        if not len(x):
            raise ValueError(f"there is no image of class {c}: nothing to rank its units by")
        return x


@dataclass(frozen=True)
class Halves:
    """The layer on the images that choose the units, and on those that judge them."""

    choosing: Experts
    judging: Experts

    def compressed(
        self, c: int, ranking: str, budget: int, generator: torch.Generator
    ) -> tuple[Choice, Detector]:
        """Rank and choose on one half, detect on the other."""
        scores = self.choosing.ranking(ranking, c, generator)
        choice = self.choosing.choose(c, scores, budget)
        return choice, self.judging.detect(c, keep(scores, choice))


def halves(net: nn.Module, layer: str, x: Tensor, y: Tensor) -> Halves:
    """Every second image chooses, the others judge."""
    return Halves(Experts(net, layer, x[::2], y[::2]), Experts(net, layer, x[1::2], y[1::2]))


def keep(scores: Tensor, choice: Choice) -> Tensor:
    """The units to keep, (units,) bool: alpha from the top of the scores, beta from the bottom.

    Raises
    ------
    ValueError
        If one is negative, both together exceed the number of units, or a score is not finite.
    """
    finite("scores", scores)
    if min(choice.alpha, choice.beta) < 0 or choice.units > len(scores):
        raise ValueError(f"{choice} does not fit a layer of {len(scores)} units")
    order = scores.argsort(descending=True, stable=True)
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[order[: choice.alpha]] = True
    kept[order[len(scores) - choice.beta :]] = True
    return kept


def masked(z: Tensor, kept: Tensor) -> Tensor:
    """A copy of the activations (n, units, ...) with every unit that is not kept at zero.

    Raises
    ------
    ValueError
        If `kept` has another length than there are units, or is not of True and False.
    """
    if kept.shape != z.shape[1:2] or kept.dtype != torch.bool:
        given = f"{tuple(kept.shape)}, {kept.dtype}"
        raise ValueError(f"a mask of shape {given}, does not fit {z.shape[1]} units: need bools")
    shape = [1, -1, *[1] * (z.ndim - 2)]
    return z * kept.to(z).view(shape)
