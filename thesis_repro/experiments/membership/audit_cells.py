"""Cells of the table membership-audit: many references, quantile regression, canaries."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thesis_repro.experiments.membership.contests import SHADOWS
from thesis_repro.lab.cells import Result
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import audited, lira_rmia, one_run, victims
from thesis_repro.weaknesses.membership import game as games
from thesis_repro.weaknesses.membership.audited import Audited
from thesis_repro.weaknesses.membership.contest import Contest, Floats, own_probability, parts
from thesis_repro.weaknesses.membership.quantile import QuantileAttack
from thesis_repro.weaknesses.membership.victims import Victim

MANY = 64
"""References of the large LiRA and RMIA."""
LIRA_FEW, LIRA_MANY = f"LiRA, {SHADOWS} references", f"LiRA, {MANY} references"
RMIA_FEW, RMIA_MANY = f"RMIA, {SHADOWS} references", f"RMIA, {MANY} references"
QUANTILE, CANARIES = "quantile regression", "canaries, one run"


def shown(victim: Victim, x: torch.Tensor) -> Floats:
    """Logits of a victim's net, (n, classes)."""
    net = named.trained(victim)
    with torch.no_grad():
        found = torch.cat([net(part) for part in x.to(victim.device).split(500)])
    return np.asarray(found.double().cpu().numpy())


def referred(config: Contest) -> Result:
    """Cell: LiRA and RMIA, offline, with as many references as the contest has shadows."""
    everything = victims.points(config.victim.dataset)
    part, labels = parts(len(everything), config.victim.n), everything.y.numpy()
    chosen = np.concatenate([part.universe, part.reserve])
    x, many = everything.x[torch.from_numpy(chosen)], len(part.universe)
    game = victims.game(len(everything), config.victim.n)

    def seen(role: str, index: int) -> tuple[Victim, Floats]:
        one = victims.other(config.victim, role, index)
        return one, shown(one, x)

    references = [seen("shadow", i) for i in range(config.shadows)]
    used = part.pool[np.any([victims.members(one, game) for one, _ in references], 0)]
    mine, theirs = labels[part.universe], labels[part.reserve]

    def told(logits: Floats) -> tuple[Floats, Floats, Floats]:
        inside, outside = {"logits": logits[:many]}, {"logits": logits[many:]}
        confidence = lira_rmia.scaled(logits[:many], mine)
        return confidence, own_probability(inside, mine), own_probability(outside, theirs)

    known = [np.stack(k) for k in zip(*(told(z) for _, z in references), strict=True)]
    nothing = np.zeros(known[0].shape, bool)
    arrays: dict[str, NDArray[Any]] = {}
    for index in config.targets:
        one, logits = seen("target", index)
        member = victims.members(one, game)
        games.check_splits(part.universe[member], part.universe[~member], used)
        found = told(logits)
        arrays[f"member.{index}"] = member
        arrays[f"{LIRA_MANY}.{index}"] = lira_rmia.lira(found[0], known[0], nothing)
        arrays[f"{RMIA_MANY}.{index}"] = lira_rmia.rmia(
            found[1], known[1], nothing, found[2], known[2]
        )
    return Result({}, arrays)


def regressed(config: Contest) -> Result:
    """Cell: quantile regression, learned on points that no net trained on."""
    everything = victims.points(config.victim.dataset)
    part, labels = parts(len(everything), config.victim.n), everything.y.numpy()
    chosen = np.concatenate([part.universe, part.reserve])
    x, many = everything.x[torch.from_numpy(chosen)], len(part.universe)
    game = victims.game(len(everything), config.victim.n)
    classes = np.eye(int(labels.max()) + 1)[labels[chosen]]
    features = np.concatenate([x.flatten(1).double().numpy(), classes], 1)
    arrays: dict[str, NDArray[Any]] = {}
    for index in config.targets:
        one = victims.other(config.victim, "target", index)
        confidence = lira_rmia.scaled(shown(one, x), labels[chosen])
        attack = QuantileAttack().fit(features[many:], confidence[many:])
        arrays[f"member.{index}"] = victims.members(one, game)
        arrays[f"{QUANTILE}.{index}"] = attack.score_samples(features[:many], confidence[:many])
    return Result({}, arrays)


def canaried(config: Audited) -> Result:
    """Cell: one net with canaries, the guesses about these, and its accuracy on unseen points."""
    planted, others = audited.canaries(config), config.unseen()
    confidence = lira_rmia.scaled(shown(config, planted.x), planted.y.numpy())
    guesses = 2 * (config.canaries // 4)
    right = shown(config, others.x).argmax(1) == others.y.numpy()
    return Result(
        {
            "canaries": config.canaries,
            "guesses": guesses,
            "right": one_run.right_guesses(confidence, planted.included, guesses),
            "test": {"k": int(right.sum()), "n": len(right)},
        }
    )
