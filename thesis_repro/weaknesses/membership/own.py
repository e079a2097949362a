"""The calibrated attack on a net of one's own, learned on shadow models that the caller trains."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_repro.data.images import check_model, fitting, tensor
from thesis_repro.data.images import labels as as_labels
from thesis_repro.explanations.modules import evaluating
from thesis_repro.explanations.slicing import Cut
from thesis_repro.lab import checks
from thesis_repro.weaknesses.membership import calibration
from thesis_repro.weaknesses.membership.contest import Bools, Floats, View, features
from thesis_repro.weaknesses.membership.guesses import fair
from thesis_repro.weaknesses.membership.white_box import GeneralWB, displacement
from thesis_repro.weaknesses.membership.whitening import Whitening

__all__ = ["CalibratedAttack", "Train"]

Train = Callable[[Tensor, Tensor, int], nn.Sequential]
"""Trains a net as the target was trained: train(x, y, seed), returned in eval mode."""

Shown = Mapping[str, NDArray[Any]]


class CalibratedAttack:
    """Who was in the training set of a net? White-box, with thresholds that keep a precision.

    Shadow models are trained on halves of the adversary's own points, so that membership is known
    there: the attack is fitted on what they show of these points, each against the others, and its
    thresholds come from shadows that it was not fitted on.

    Parameters
    ----------
    train : how the target was trained, as far as the adversary knows
    slices : names of the layers of the nets whose outputs are looked at; "" for the input
    shadows : how many to train, at least 4
    smoothing : label smoothing in the target's training
    seed : decides the halves; shadow i is trained with seed + i

    Raises
    ------
    ValueError
        With fewer than four shadows, or no slice.

    References
    ----------
    After Leino and Fredrikson 2020, sections 4 and 5; evidence and calibration are ours.

    Examples
    --------
    >>> def train(x, y, seed):
    ...     torch.manual_seed(seed)
    ...     net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    ...     step = torch.optim.SGD(net.parameters(), 0.5)
    ...     for _ in range(20):
    ...         step.zero_grad()
    ...         nn.functional.cross_entropy(net(x), y).backward()
    ...         step.step()
    ...     return net.eval()
    >>> rng = torch.Generator().manual_seed(0)
    >>> x, y = torch.rand(80, 1, 4, 4, generator=rng), torch.arange(80) % 2
    >>> attack = CalibratedAttack(train, ["0"], shadows=4).fit(x[:60], y[:60])
    >>> attack.score(train(x[60:70], y[60:70], 9), x[60:], y[60:]).shape
    (20,)
    """

    def __init__(
        self,
        train: Train,
        slices: Sequence[str],
        *,
        shadows: int = 8,
        smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if shadows < 4 or not slices:
            raise ValueError(
                f"the attack needs at least 4 shadows and one slice, got {shadows} and {slices}"
            )
        if isinstance(train, nn.Module) or not callable(train):
            raise ValueError(
                f"train needs to be a function train(x, y, seed) that gives a net, got "
                f"{type(train).__name__}"
            )
        _check_arguments(train)
        names = (slices,) if isinstance(slices, str) else tuple(slices)
        self.train, self.slices, self.shadows = train, names, shadows
        self.smoothing, self.seed = smoothing, seed
        self.nets_: list[nn.Sequential] = []

    def fit(self, x: Any, y: Any) -> Self:
        """Train the shadows and learn from them.

        Parameters
        ----------
        x, y : (n, ...) and (n,), the adversary's own points: like the target's, but none that it
            was trained on or that is going to be judged. A quarter is kept from the shadows, each
            of which trains on 3/8: give 8/3 as many points as the target was trained on. Nets that
            saw fewer give themselves away otherwise, and precisions do not carry over.

        Raises
        ------
        ValueError
            On fewer than 16 points, a class of which none is kept from the shadows, or labels or
            points that do not fit; as `displacement`.
        """
        x = tensor("x", x).detach()
        checks.finite("x", x)
        y = as_labels("y", y, x)
        half = 3 * len(x) // 8
        if half < 6:
            raise ValueError(f"the attack needs at least 16 points of the adversary, got {len(x)}")
        rng = np.random.default_rng(self.seed)
        order = torch.from_numpy(rng.permutation(len(x)))
        pool, self._spare = order[: 2 * half], order[2 * half :]
        if len(lacking := np.setdiff1d(y, y[self._spare])):
            raise ValueError(
                f"class {lacking[0]} has none of the {len(self._spare)} points that are kept from "
                f"the shadows: give more points of each class"
            )
        self._x, self._y = x, y
        self.classes_ = int(y.max()) + 1
        member = np.zeros((self.shadows, 2 * half), bool)
        self.nets_ = []
        for shadow, inside in enumerate(member):
            inside[rng.permutation(2 * half)[:half]] = True
            mine = pool[torch.from_numpy(inside)]
            with fitting(x):
                net = self.train(x[mine], y[mine], self.seed + shadow)
            if not isinstance(net, nn.Sequential):
                raise ValueError(
                    f"train needs to give an nn.Sequential in eval mode, got {type(net).__name__}: "
                    f"nn.Sequential(net) makes one of a module, whose only slice is '0'"
                )
            evaluating(net)
            _check_new(net, self.nets_)
            self.nets_.append(net)
        seen = [self._shown(net, x[pool], y[pool]) for net in self.nets_]
        self._outputs = seen[0]["logits"].shape[1]
        views = [self._view(y[pool], seen, member, shadow) for shadow in range(self.shadows)]
        kept = [fair(view) for view in views]  # points that some other shadow did not train on
        found = [self._features(view)[some] for view, some in zip(views, kept, strict=True)]
        truth = [view.member[some] for view, some in zip(views, kept, strict=True)]
        scores = []
        for shadow in range(self.shadows):  # a shadow is scored by what the others taught
            others = [i for i in range(self.shadows) if i != shadow]
            learned = GeneralWB().fit(
                np.concatenate([found[i] for i in others]),
                np.concatenate([truth[i] for i in others]),
            )
            scores.append(learned.score_samples(found[shadow]))
        self.scores_, self.member_ = np.concatenate(scores), np.concatenate(truth)
        self.model_ = GeneralWB().fit(np.concatenate(found), self.member_)
        return self

    def score(self, model: nn.Sequential, x: Any, y: Any) -> Floats:
        """Probability of membership of each point in the training set of `model`, (n,).

        Raises
        ------
        ValueError
            If the attack is not fitted, or as `displacement`.
        """
        if not self.nets_:
            raise ValueError("the attack needs to be fitted before it scores")
        check_model(model)
        evaluating(model)
        x = tensor("x", x).detach()
        checks.finite("x", x)
        y = as_labels("y", y, x, self.classes_)
        if (classes := self._logits(model, x[:1]).shape[1]) != self._outputs:
            raise ValueError(
                f"the model gives {classes} logits, the shadows that train gave {self._outputs}: "
                f"they need to be nets for the same classes"
            )
        seen = [self._shown(net, x, y) for net in (model, *self.nets_)]
        nothing = np.zeros((len(seen), len(x)), bool)
        return self.model_.score_samples(self._features(self._view(y, seen, nothing, 0)))

    def threshold_for(self, precision: float, least: int = calibration.ENOUGH_CLAIMS) -> float:
        """The score above which points are members with this precision, on the shadows.

        There half of the points are members. Where a share q of them is, a precision of p becomes
        p q / (p q + (1 - p)(1 - q)): 80% is 31% where one point in ten is a member.

        Infinite where the shadows do not show such a precision: then nobody is claimed.

        Parameters
        ----------
        precision : wanted, in (1/2, 1)
        least : claims on the shadows that the estimate rests on

        Raises
        ------
        ValueError
            If the attack is not fitted, or a number is out of range.
        """
        if not self.nets_:
            raise ValueError("the attack needs to be fitted before it has thresholds")
        return calibration.for_precision(self.scores_, self.member_, precision, least)

    def _shown(self, net: nn.Sequential, x: Tensor, y: Tensor) -> Shown:
        """Logits, and the displacement at each slice, of points of one net."""
        device = next(net.parameters()).device
        found = {"logits": self._logits(net, x).double().cpu().numpy()}
        spare, own = self._x[self._spare], self._y[self._spare]
        for name in self.slices:
            features = Cut(net, name).activations(spare.to(device), 500).cpu()
            whitening = Whitening().fit(features, own, self.classes_)
            moved = displacement(net.cpu(), name, x.cpu(), y.cpu(), whitening)
            net.to(device)
            found[name] = moved.double().numpy()
        return found

    def _logits(self, net: nn.Sequential, x: Tensor) -> Tensor:
        """The logits of points, (n, classes); a ValueError where a net gives none for a label."""
        device = next(net.parameters()).device
        with fitting(x), torch.no_grad():
            logits = torch.cat([net(part) for part in x.to(device).split(500)])
        if logits.ndim != 2 or logits.shape[1] < max(self.classes_, 2):
            raise ValueError(
                f"a net needs to give a logit for each of the {max(self.classes_, 2)} classes or "
                f"more, got outputs of shape {tuple(logits.shape[1:])} for each point"
            )
        return logits

    def _view(self, y: Tensor, seen: Sequence[Shown], member: Bools, index: int) -> View:
        """One net under attack, the others being references."""
        others = [i for i in range(len(seen)) if i != index]
        labels = y.cpu().numpy()
        return View(
            member[index],
            labels,
            seen[index],
            [seen[i] for i in others],
            member[others],
            ({}, [], labels[:0]),
        )

    def _features(self, view: View) -> NDArray[np.float64]:
        """What is known of each point of a view: (n, pieces)."""
        return np.stack(list(features(view, self.slices, self.smoothing).values()), 1)


def _check_new(net: nn.Module, others: Sequence[nn.Module]) -> None:
    """Refuse a net whose training went on with the weights of an earlier shadow."""
    trained = {p.data_ptr() for other in others for p in other.parameters() if p.requires_grad}
    if any(net is other for other in others) or any(
        p.data_ptr() in trained for p in net.parameters() if p.requires_grad
    ):
        raise ValueError(
            "train needs to make a new net in each call: it gave one with weights of an earlier "
            "shadow, which it has changed"
        )


def _check_arguments(train: Train) -> None:
    """Refuse a function that cannot be called as train(x, y, seed)."""
    try:
        inspect.signature(train).bind(None, None, 0)
    except TypeError as error:
        raise ValueError(
            f"train needs to be called as train(x, y, seed); "
            f"{getattr(train, '__name__', type(train).__name__)}: {error}"
        ) from None
    except ValueError:  # of some that are not written in Python nothing is known
        pass
