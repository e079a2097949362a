"""Who guesses how in a membership contest: all attacks by name, taught by the shadows alone."""

import numpy as np

from thesis_repro.weaknesses.membership import black_box, calibration, lira_rmia, white_box
from thesis_repro.weaknesses.membership.contest import (
    SLICES,
    Bools,
    Floats,
    Observations,
    View,
    confidence,
    features,
    out_mean,
    own_probability,
    probabilities,
)

NAIVE, LOSS, SHADOW = "naive", "loss threshold", "shadow"
OFFLINE, ONLINE, RMIA = "LiRA offline", "LiRA online", "RMIA"
DISPLACED, GENERAL = "white-box, one layer", "white-box, learned"
SCORED = (LOSS, SHADOW, OFFLINE, ONLINE, RMIA, DISPLACED, GENERAL)
"""Attacks that give each point a score."""
ATTACKS = (NAIVE, *SCORED)


class Guesses:
    """The attacks of a contest, with what they learn from the shadows: classifiers, thresholds.

    `scores(attack, view)` gives one score per point, `thresholds` where a member is claimed.
    Thresholds of what is learned come from shadows that it did not learn from.

    Examples
    --------
    >>> from thesis_repro.weaknesses.membership.contest import Contest
    >>> from thesis_repro.weaknesses.membership.victims import Victim
    >>> victim = Victim("mnist-5k", "mlp", n=1000, epochs=10, lr=0.1)
    >>> rng = np.random.default_rng(0)
    >>> nets = Observations(  # of noise, in place of trained nets
    ...     Contest(victim, targets=(0,), shadows=4),
    ...     lambda victim: {name: rng.normal(size=(5000, 10)) for name in ("logits", "0", "2")},
    ... )
    >>> guesses = Guesses(nets)
    >>> guesses.scores(LOSS, nets.view("target", 0)).shape
    (2000,)
    """

    def __init__(self, nets: Observations) -> None:
        self.config = nets.config
        self.smoothing = nets.config.victim.smoothing
        self.slices = SLICES[nets.config.victim.net]
        shadows = nets.names["shadow"]
        self.views = {i: nets.view("shadow", i) for i in shadows}
        self.kept = {i: fair(view) for i, view in self.views.items()}
        self.evidence = {i: self._evidence(view) for i, view in self.views.items()}
        self.learned = {out: self._learn(out) for out in (None, *shadows)}
        self.known = {
            name: np.concatenate([self._on_shadow(name, i)[self.kept[i]] for i in shadows])
            for name in SCORED
        }
        self.truth = np.concatenate([self.views[i].member[self.kept[i]] for i in shadows])
        self.thresholds = {
            name: calibration.best_accuracy(known, self.truth) for name, known in self.known.items()
        }
        seen = [(v.seen["logits"][v.member], v.labels[v.member]) for v in self.views.values()]
        self.training_loss = float(
            np.mean([black_box.losses(z, y, self.smoothing).mean() for z, y in seen])
        )

    def _evidence(self, view: View) -> Floats:
        return np.stack(list(features(view, self.slices, self.smoothing).values()), 1)

    def _learn(self, out: int | None) -> tuple[black_box.ShadowAttack, white_box.GeneralWB]:
        """Both learned attacks, from all shadows but `out`."""
        used = [i for i in self.views if i != out]
        member = [self.views[i].member for i in used]
        shadow = black_box.ShadowAttack(random_state=0).fit(
            np.concatenate([probabilities(self.views[i].seen["logits"]) for i in used]),
            np.concatenate(member),
            np.concatenate([self.views[i].labels for i in used]),
        )
        general = white_box.GeneralWB().fit(
            np.concatenate([self.evidence[i][self.kept[i]] for i in used]),
            np.concatenate([self.views[i].member[self.kept[i]] for i in used]),
        )
        return shadow, general

    def _on_shadow(self, name: str, index: int) -> Floats:
        return self.scores(name, self.views[index], index)

    def scores(self, name: str, view: View, out: int | None = None) -> Floats:
        """One score per point of a view; `out` is the shadow that must not have taught it."""
        labels = view.labels
        if name == LOSS:
            return -black_box.losses(view.seen["logits"], labels, self.smoothing)
        if name == SHADOW:
            return self.learned[out][0].score_samples(probabilities(view.seen["logits"]), labels)
        if name in (OFFLINE, ONLINE):
            known = np.array([confidence(r, labels) for r in view.references])
            # a shadow's points that every reference contains are left out of the thresholds
            contains = view.contains & ~view.contains.all(0)
            mine = confidence(view.seen, labels)
            return lira_rmia.lira(mine, known, contains, online=name == ONLINE)
        if name == RMIA:
            seen, references, theirs = view.spare
            return lira_rmia.rmia(
                own_probability(view.seen, labels),
                np.array([own_probability(r, labels) for r in view.references]),
                view.contains & ~view.contains.all(0),
                own_probability(seen, theirs),
                np.array([own_probability(r, theirs) for r in references]),
            )
        if name == DISPLACED:
            expected = out_mean(
                [probabilities(r["logits"]) for r in view.references], view.contains
            )
            weights = white_box.expected_residual(labels, expected, self.smoothing)
            return np.asarray((view.seen[self.slices[0]] * weights).sum(1))
        return self.learned[out][1].score_samples(self._evidence(view))


def fair(view: View) -> Bools:
    """Points with a reference that does not contain them, thinned to a balanced game.

    Examples
    --------
    >>> seen = {"logits": np.zeros((3, 2))}
    >>> contains = np.array([[False, False, True]])
    >>> member, labels = np.array([True, False, False]), np.zeros(3, int)
    >>> fair(View(member, labels, seen, [seen], contains, (seen, [seen], labels)))
    array([ True,  True, False])
    """
    usable: Bools = ~np.asarray(view.contains.all(0))
    fewest = min(int((usable & view.member).sum()), int((usable & ~view.member).sum()))
    kept: Bools = np.zeros(len(usable), np.bool_)
    for part in (usable & view.member, usable & ~view.member):
        kept[np.flatnonzero(part)[:fewest]] = True
    return kept
