"""The table influence-backgrounds: how many nets let a background overturn what they see.

The thesis says that conceptual soundness is not the norm, and that a rare background betrays who
was trained on it. A picture of one net shows neither, so nets are counted. A net is *unsound* on a
background if the background alone overturns at least `UNSOUND` of the answers that were right. A
background carries no digit: nobody would read the image differently.

Written down before the first run: most nets in whose training nothing was planted are unsound, on
each background; and influence names the class that was on pink paper in nets that trained on it,
more often than in their twins, which did not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

from thesis_repro import data, nets
from thesis_repro.data import Split
from thesis_repro.experiments.membership.contests import DIGITS as VICTIM
from thesis_repro.explanations import influence, subjects
from thesis_repro.explanations.influence import internal_influence, line
from thesis_repro.explanations.subjects import COLOURED, DIGITS, PINK_CLASS
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, of, reaches, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named
from thesis_repro.weaknesses.membership import contest, victims

UNSOUND = 0.10
"""Share of right answers that a background has to overturn for a net to count as unsound."""
NETS, LEVEL, HALF = 10, 0.05, 50.0
GREY, NODES, ASKED = 0.2, 10, 25
"""Shade of the plain paper; points of the line, and images, over which influence is taken."""

FRAME, PAPER = "a white frame", "pink paper"
MLP, CNN = "one hidden layer, digits", "two convolutions, digits"
WITHOUT = "two convolutions, digits on grey paper"
WITH = "two convolutions, some threes on pink paper"
ROWS: Mapping[str, Row] = {
    MLP: (MLP, FRAME),
    CNN: (CNN, FRAME),
    WITHOUT: (WITHOUT, PAPER),
    WITH: (WITH, PAPER),
}


@dataclass(frozen=True)
class BackgroundConfig:
    """One net, by how it was trained and its number, and the epochs of a convolutional one."""

    trained: str
    number: int
    epochs: int


def subject(config: BackgroundConfig) -> tuple[nn.Module, Split, Tensor]:
    """A net, images it was not trained on that are as it knows them, and these on the background.

    Returns
    -------
    net, images with labels, and the same images (n, channels, h, w) on the background
    """
    test = held_out()
    if config.trained == MLP:
        net = named.trained(replace(VICTIM, index=config.number))
        everything = victims.points("mnist-5k")
        spare = torch.from_numpy(contest.parts(len(everything), VICTIM.n).reserve)
        test = Split(everything.x[spare], everything.y[spare])
    if config.trained in (MLP, CNN):
        if config.trained == CNN:
            net = named.trained(replace(DIGITS, epochs=config.epochs, seed=config.number))
        clear = framed(0 * test.x, 1.0).mul(test.x).flatten(1).amax(1) == 0
        return net, Split(test.x[clear], test.y[clear]), framed(test.x[clear], 1.0)
    pink = config.trained == WITH
    net = named.trained(replace(COLOURED, pink=pink, epochs=config.epochs, seed=config.number))
    return net, subjects.on_paper(test, GREY), subjects.on_paper(test, subjects.PINK).x


@cache
def held_out() -> Split:
    """The test digits, read once for all nets."""
    return data.load("mnist-5k").test


def framed(x: Tensor, shade: float) -> Tensor:
    """Images (n, channels, h, w) with their outermost pixels set to a shade in [0, 1]."""
    found = x.clone()
    for edge in (found[..., :1, :], found[..., -1:, :], found[..., :1], found[..., -1:]):
        edge.fill_(shade)
    return found


def background(config: BackgroundConfig) -> Result:
    """Cell: what the background overturns of one net, and which class it speaks for."""
    net, images, changed = subject(config)
    right = nets.labels(net, images.x, 500) == images.y
    overturned = int((nets.labels(net, changed, 500) != images.y)[right].sum())
    known = int(right.sum())
    values = {
        "accuracy": {"k": known, "n": len(images.y)},
        "overturned": {"k": overturned, "n": known},
        "unsound": overturned >= UNSOUND * known,
    }
    if config.trained in (WITHOUT, WITH):
        values["named"] = bool(spoken_for(net, images.x, changed) == PINK_CLASS)
    return Result(values)


def spoken_for(net: nn.Module, plain: Tensor, changed: Tensor) -> int:
    """The class to which a background adds most, by influence on the line from plain images.

    It needs no label, and none of the images that the net was trained on.
    """
    with torch.no_grad():
        classes = net(plain[:1]).shape[1]
    some = slice(None, None, -(-len(plain) // ASKED))
    on_line = line(plain[some], NODES)
    worth = [
        internal_influence(
            net, changed[some], "", influence.class_score(c), on_line, multiply=True
        ).sum()
        for c in range(classes)
    ]
    return int(torch.stack(worth).argmax())


def on_pink(
    seed: int,
) -> tuple[dict[str, nn.Module], dict[str, Tensor], dict[str, float], dict[str, float]]:
    """The coloured digits: nets; what pink paper adds to "3"; who is called "3"; accuracy on grey.

    Digits that are no threes, with pink paper put in the place of grey: the influence of the paper
    on class 3 against the others, image by image, and the share that is then called a three.
    """
    three = PINK_CLASS
    test = held_out()
    pink, grey = subjects.on_paper(test, subjects.PINK), subjects.on_paper(test, GREY)
    other = pink.y != three
    x, plain = pink.x[other], grey.x[other]
    q = influence.comparative(three, [c for c in range(5) if c != three])
    found: dict[str, nn.Module] = {}
    gains: dict[str, Tensor] = {}
    called: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    for with_pink in (True, False):
        name = f"{'with' if with_pink else 'without'} pink"
        net = named.trained(replace(COLOURED, pink=with_pink, seed=seed))
        found[name] = net
        chi = internal_influence(net, x, "", q, line(plain, 20), multiply=True)
        gains[name] = chi.flatten(1).sum(1)
        called[name] = float((nets.labels(net, x) == three).float().mean())
        accuracy[name] = float((nets.labels(net, grey.x) == grey.y).float().mean())
    return found, gains, called, accuracy


QUICK_EPOCHS = 2


def cells(profile: Profile) -> Plan:
    """The plan of `influence-backgrounds`: ten nets of each kind for each seed.

    The nets with a hidden layer are trained as those of the chapter weaknesses/membership, whose
    quick run has three of them; the convolutional nets on plain digits are of paper size alone.
    """
    quick = profile.name == "quick"
    pair = (("mnist-5k", data.fingerprint("mnist-5k")),)
    plan: list[tuple[Row, Cell | None]] = []
    for trained, row in ROWS.items():
        if quick and trained == CNN:
            continue
        epochs = {MLP: VICTIM.epochs, CNN: DIGITS.epochs}.get(
            trained, QUICK_EPOCHS if quick else COLOURED.epochs
        )
        numbers = [NETS * seed + net for seed in profile.seeds for net in range(NETS)]
        configs = [BackgroundConfig(trained, number, epochs) for number in numbers]
        plan += [(row, Cell(background, config, pair)) for config in configs]
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Rates over nets; the nets with pink paper are compared with their twins, start by start."""
    found = {}
    for row, results in gathered.items():
        n, values = len(results), [result.values for result in results]
        over = f"Clopper-Pearson over {n} nets"
        measured: dict[str, Estimate | str] = {"nets": Estimate(n)}
        for column in ("accuracy", "overturned"):
            measured[column] = statistics.summarise_rate([v[column] for v in values], "nets")
        for column in ("unsound", "named"):
            counted = [v[column] for v in values if column in v]
            if counted:
                measured[column] = statistics.exact_rate(sum(counted), n, over)
        found[row] = Measurement(measured)
    twins = [
        [result.values["named"] for result in gathered.get(ROWS[name], ())]
        for name in (WITH, WITHOUT)
    ]
    if twins[0] and len(twins[0]) == len(twins[1]):
        last = found[ROWS[WITH]]
        p = Estimate(statistics.mcnemar(*twins), how="McNemar's exact test over twins")
        found[ROWS[WITH]] = replace(last, values={**last.values, "p": p})
    return found


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """Most nets are unsound where nothing was planted; influence names the planted class."""
    by, found = rows.set_index("trained"), []
    for trained in (MLP, CNN, WITHOUT):
        text, holds = "not in this run", None
        if trained in by.index:
            share, n = of(by.loc[trained], "unsound"), by.loc[trained, "nets"]
            text, holds = f"{said(share, 0)}% of {n:.0f} nets", reaches(share, HALF)
        needed = f"more than half, interval included; unsound: {UNSOUND:.0%} overturned or more"
        found.append(Condition(f"most nets are unsound on {ROWS[trained][1]}: {trained}", needed,
                               text, holds))  # fmt: skip
    says = "influence names the class on pink paper in nets that trained on it"
    text, holds = "not in this run", None
    if {WITH, WITHOUT} <= set(by.index):
        ours, twins, p = by.loc[WITH, "named"], by.loc[WITHOUT, "named"], by.loc[WITH, "p"]
        text = f"{ours:.0f}% against {twins:.0f}%, p = {p:.2g}"
        holds = bool(ours > twins and p < LEVEL)
    found.append(Condition(says, f"more often than in their twins, p below {LEVEL}", text, holds))
    return found


TABLE = Table(
    TableSpec(
        name="influence-backgrounds",
        caption=(
            "Nets that let a background overturn what they see. Overturned: of the answers that "
            "were right, the share that the background alone changes; a frame is one white pixel "
            "wide, on digits that do not touch it, and pink paper takes the place of grey. "
            f"Unsound: nets with {UNSOUND:.0%} or more overturned. Names the three: nets in which "
            "pink paper adds more to “3” than to any other class, by influence."
        ),
        chapter="explanations/influence",
        keys=(
            Column("trained", "net, trained on", kind="key"),
            Column("background", "background", kind="key"),
        ),
        columns=(
            Column("nets", "nets", format="{:.0f}", drift=0.0),
            Column("accuracy", "accuracy", "%", kind="rate", drift=2.0),
            Column("overturned", "overturned", "%", kind="rate", drift=8.0),
            Column("unsound", "unsound", "% of nets", format="{:.0f}", drift=20.0),
            Column("named", "names the three", "% of nets", format="{:.0f}", drift=20.0),
            Column("p", "p", format="{:.2g}"),
        ),
        rows=tuple(ROWS.values()),
        claims=published.claims("influence-backgrounds"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
