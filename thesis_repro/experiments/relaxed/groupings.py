"""The table relaxed-groupings: which labels are guaranteed together, and whether they belong so."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_repro.experiments.relaxed import rejection as relaxed
from thesis_repro.experiments.relaxed.settings import (
    AFFINITY,
    CIFAR100,
    EUROSAT,
    PICTURES,
    PLANE,
    RELAXED,
    SETTINGS,
    TOP,
    Setting,
)
from thesis_repro.lab.cells import Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec

Bools = NDArray[np.bool_]

SHOWN = 5
"""So many of the most frequent sets get a row."""

DRAWS = 2000
"""Permutations of the class names behind the baseline."""

ALL = "all"

SLIDES = {
    EUROSAT: (
        ("AnnualCrop", "Highway"),
        ("Highway", "Residential"),
        ("AnnualCrop", "Highway", "PermanentCrop"),
    ),
    CIFAR100: (
        ("maple_tree", "oak_tree", "pine_tree", "willow_tree"),
        ("flatfish", "girl", "man", "trout", "woman"),
        ("house", "palm_tree"),
    ),
}
"""Guaranteed sets that the thesis's slides show."""


def masks(results: Sequence[Result], classes: int) -> tuple[Bools, Bools]:
    """The smallest guaranteed sets of more than one label, of all points and seeds.

    Returns the sets (n, classes) and whether each holds its point's label (n,).
    """
    sets, right = [], []
    for result in results:
        order, k = result.arrays["order"], result.arrays["strictest"]
        chosen = np.arange(order.shape[1])[None] < k[:, None]
        mask = np.zeros((len(k), classes), bool)
        np.put_along_axis(mask, order.astype(np.int64), chosen, 1)
        sets.append(mask[k > 1])
        right.append(mask[np.arange(len(k)), result.arrays["y"]][k > 1])
    return np.concatenate(sets), np.concatenate(right)


def counted(sets: Bools) -> list[tuple[tuple[int, ...], int]]:
    """Each different set with its number of points, the most frequent first, ties by labels."""
    found = Counter(tuple(np.flatnonzero(row).tolist()) for row in sets)
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def inside(sets: Bools, groups: Bools) -> Bools:
    """Whether each set (n, classes) lies inside some group (g, classes): (n,)."""
    outside = sets.astype(np.float32) @ (~groups).astype(np.float32).T  # labels beyond each group
    return np.asarray((outside == 0).any(1))


def chance(sets: Bools, groups: Bools, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of sets inside a group when class names are permuted at random.

    Returns
    -------
    mean : of the share over the draws
    p : one-sided p-value that the true share is no larger than under permutation
    """
    distinct, weights = np.unique(sets, axis=0, return_counts=True)
    weights = weights / weights.sum()
    true = float(weights @ inside(distinct, groups))
    shares = np.array(
        [
            weights @ inside(distinct[:, rng.permutation(sets.shape[1])], groups)
            for _ in range(draws)
        ]
    )
    return float(shares.mean()), float((1 + (shares >= true - 1e-12).sum()) / (1 + draws))


def cooccurrence(results: Sequence[Result], classes: int) -> NDArray[np.int64]:
    """How often two labels share a guaranteed set: (classes, classes), zero diagonal."""
    sets = masks(results, classes)[0].astype(np.int64)
    pairs = sets.T @ sets
    np.fill_diagonal(pairs, 0)
    return np.asarray(pairs)


def cells(profile: Profile) -> Plan:
    """The plan of `relaxed-groupings`: the relaxed top-K cells of `relaxed-rejection`."""
    return [
        (row, cell)
        for row, cell in relaxed.cells(profile)
        if row[1] not in (TOP, AFFINITY) and row[0] != PLANE.title
    ]


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """The most frequent sets of each row, those of the slides, and all of them together."""
    by_title = {setting.title: (name, setting) for name, setting in SETTINGS.items()}
    measured: dict[Row, Measurement] = {}
    for row, results in gathered.items():
        name, setting = by_title[row[0]]
        classes = setting.classes or tuple(map(str, range(int(results[0].arrays["y"].max()) + 1)))
        sets, right = masks(results, len(classes))
        common = [(str(rank), labels) for rank, (labels, _) in enumerate(counted(sets)[:SHOWN], 1)]
        common += [
            (f"slides {rank}", tuple(map(classes.index, names)))
            for rank, names in enumerate(SLIDES.get(name, ()), 1)
        ]
        for rank, labels in common:
            measured[(*row, rank)] = _one(labels, sets, right, classes, len(results))
        measured[(*row, ALL)] = _all(sets, right, setting, len(results))
    return measured


def _one(
    labels: tuple[int, ...], sets: Bools, right: Bools, classes: Sequence[str], seeds: int
) -> Measurement:
    wanted = np.isin(np.arange(len(classes)), labels)
    hits = (sets == wanted).all(1)
    values: dict[str, Estimate | str] = {
        "set": ", ".join(classes[i] for i in labels),
        "points": Estimate(float(hits.sum())),
    }
    return Measurement(values | _share("label", right[hits]), seeds)


def _all(sets: Bools, right: Bools, setting: Setting, seeds: int) -> Measurement:
    values: dict[str, Estimate | str] = {
        "set": "all sets of two and more",
        "points": Estimate(float(len(sets))),
    }
    values |= _share("label", right)
    if not setting.groups or not len(sets):
        return Measurement(values, seeds)
    groups = np.array([np.isin(range(len(setting.classes)), one) for one in setting.sets])
    mean, p = chance(sets, groups, DRAWS, np.random.default_rng(0))
    values |= _share("inside", inside(sets, groups))
    values |= {"chance": Estimate(100 * mean), "p": Estimate(p)}
    return Measurement(values, seeds, f"groups: {setting.whose}")


def _share(name: str, hits: Bools) -> dict[str, Estimate]:
    if not len(hits):
        return {}
    how = "Clopper-Pearson over the points of the row"
    return {name: statistics.exact_rate(int(hits.sum()), len(hits), how)}


def conditions(frame: pd.DataFrame) -> list[Condition]:
    """That the slides' sets appear, and that guaranteed sets lie in groups more than by chance.

    The slides show nets that are trained for sets; of GloRo nets the same is asked.
    """
    titles = frame["dataset"] + np.where(frame["objective"] == RELAXED, "", ", GloRo net")
    frame = frame.assign(dataset=titles)
    found = []
    for _, line in frame[frame["rank"].str.startswith("slides")].iterrows():
        found.append(
            Condition(
                f"{line['dataset']}: the set {line['set']} is guaranteed",
                "1 point",
                f"{line['points']:.0f} points",
                bool(line["points"] >= 1),
            )
        )
    whole = frame[(frame["rank"] == ALL) & frame["p"].notna()]
    for (_, line), p in zip(whole.iterrows(), statistics.holm(list(whole["p"])), strict=True):
        found.append(
            Condition(
                f"{line['dataset']}: guaranteed sets lie inside groups of ours",
                f"more than by chance, p < 0.05 by Holm over {len(whole)} tests",
                f"{line['inside']:.0f}% against {line['chance']:.0f}%, p = {p:.2g}",
                bool(p < 0.05),
            )
        )
    return found


TABLE = Table(
    TableSpec(
        name="relaxed-groupings",
        caption=(
            "Sets of two and more labels that are guaranteed, the smallest of each point: the most "
            "frequent, those that the thesis's slides show, and all. Label inside: points whose "
            "label is in the set. Inside a group: sets whose labels all lie in one group of "
            "classes; chance and p: the same with permuted class names."
        ),
        chapter="robustness/relaxed",
        keys=(
            Column("dataset", "data set", kind="key"),
            Column("guarantee", "guarantee", kind="key"),
            Column("objective", "trained as", kind="key"),
            Column("rank", "rank", kind="key"),
        ),
        columns=(
            Column("set", "labels", kind="text"),
            Column("points", "points", format="{:,.0f}"),
            Column("label", "label inside", "%", kind="rate", counted="points"),
            Column("inside", "inside a group", "%", kind="rate", drift=15.0, counted="points"),
            Column("chance", "chance", "%", drift=10.0),
            Column("p", "p", format="{:.4f}"),
        ),
        rows=tuple(
            (SETTINGS[name].title, f"RT{k}", RELAXED, ALL)
            for name in PICTURES
            for k in SETTINGS[name].sizes
        ),
        claims=published.claims("relaxed-groupings"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
