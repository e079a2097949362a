"""The table influence-faces: the pink wall of the thesis, asked of many pairs of nets.

The thesis shows one net and one photograph: who trained with a man before a pink wall takes the
wall for the man. A picture of one net may be chance, as may be one in which nothing is seen. So
pairs of nets are trained on the five most frequent people of LFW, with the three photographs that
have such a wall and without them; a pair has one start.

*The wall adds*: the influence of the pixels on the man's score against the other four, on the line
from the photograph with its pink made grey, as a sum over pixels and a mean over the photographs.
*Named*: influence gives the wall to him rather than to any other of the five.

Written down before any of these nets was trained, as the thesis says: the wall adds more in nets
that trained with the photographs than in their twins (one-sided, permutation of signs over pairs),
and names him in more of them (McNemar's exact test over pairs); both at the level `LEVEL`. A pair
with another start was looked at twice before, trained on two machines: once the sums differed by
little, and once by half a logit. It does not count here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor

from thesis_repro import data, nets
from thesis_repro.experiments.influence.backgrounds import spoken_for
from thesis_repro.explanations import influence, subjects
from thesis_repro.explanations.influence import internal_influence, line
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published, statistics
from thesis_repro.tables.conditions import Condition, of, said
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named

PAIRS, LEVEL, NODES = 10, 0.05, 20
"""Pairs of nets; level of the tests; points of the line over which influence is taken."""
MAN = "Blair"
WITHOUT, WITH = "without the three photographs", "with the three photographs"
SET = "lfw"


@dataclass(frozen=True)
class WallConfig:
    """One net: whether it trained with the photographs, and its number, from 1."""

    pink: bool
    number: int
    device: str = "cpu"


def people() -> list[str]:
    """Family names of the five people, in the order of the classes."""
    return [name.split("_")[-1] for name in data.lfw(subjects.PEOPLE).classes]


def asked() -> tuple[Tensor, Tensor]:
    """The photographs (3, 3, h, w), and the same before a grey wall."""
    photos = subjects.faces().x[subjects.pink_photos()]
    return photos, subjects.without_pink(photos)


def wall(config: WallConfig) -> Result:
    """Cell: what the wall adds in one net, whom it speaks for, and who is recognised."""
    how = replace(subjects.FACES, pink=config.pink, seed=config.number, device=config.device)
    net = named.trained(how)
    photos, grey = (images.to(config.device) for images in asked())
    man, count = people().index(MAN), len(people())
    q = influence.comparative(man, [c for c in range(count) if c != man])
    chi = internal_influence(net, photos, "", q, line(grey, NODES), multiply=True)
    values = {
        "adds": chi.flatten(1).sum(1).mean().item(),
        "named": bool(spoken_for(net, grey, photos) == man),
        "pink": {"k": int((nets.labels(net, photos) == man).sum()), "n": len(photos)},
        "grey": {"k": int((nets.labels(net, grey) == man).sum()), "n": len(photos)},
    }
    return Result(values)


def cells(profile: Profile) -> Plan:
    """The plan of `influence-faces`: pairs of nets, at the paper's size alone."""
    if profile.name == "quick":
        return []
    here = data.available(SET)
    known = ((SET, data.fingerprint(SET)),) if here else ()
    plan: list[tuple[Row, Cell | None]] = []
    for title, pink in ((WITHOUT, False), (WITH, True)):
        configs = [WallConfig(pink, number, profile.device) for number in range(1, PAIRS + 1)]
        plan += [((title,), Cell(wall, c, known)) for c in configs] if here else [((title,), None)]
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """Means over nets; the nets with the photographs against their twins, pair by pair."""
    found = {}
    for row, results in gathered.items():
        values = [result.values for result in results]
        names = sum(value["named"] for value in values)
        how = f"Clopper-Pearson over {len(values)} nets"
        measured: dict[str, Estimate | str] = {
            "nets": Estimate(len(values)),
            "adds": statistics.mean_over([value["adds"] for value in values], "nets"),
            "named": statistics.exact_rate(names, len(values), how),
        }
        for column in ("pink", "grey"):
            measured[column] = statistics.summarise_rate([v[column] for v in values], "nets")
        found[row] = Measurement(measured)
    pairs = [gathered.get((title,), ()) for title in (WITH, WITHOUT)]
    if len(pairs[0]) == len(pairs[1]) == PAIRS:
        ours, twins = ([result.values for result in part] for part in pairs)
        more, p = statistics.paired([v["adds"] for v in ours], [v["adds"] for v in twins], "nets")
        both = statistics.mcnemar([v["named"] for v in ours], [v["named"] for v in twins])
        last = found[WITH,]
        tested = {"more": more, "p": Estimate(p), "p_named": Estimate(both)}
        found[WITH,] = replace(last, values={**last.values, **tested})
    return found


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """The wall adds more to his score in nets that trained with it, and names him in more."""
    by = rows.set_index("trained")
    if not {WITH, WITHOUT} <= set(by.index) or pd.isna(by.loc[WITH, "p"]):
        return []
    ours, twins = by.loc[WITH], by.loc[WITHOUT]
    return [
        Condition(
            "faces: the pink wall adds more to the man in nets that trained with it",
            f"mean above 0, p below {LEVEL} by permutation of signs",
            f"{said(of(ours, 'more'), 2)}, p = {ours['p']:.2g}",
            bool(ours["more"] > 0 and ours["p"] < LEVEL),
        ),
        Condition(
            "faces: influence names the man in nets that trained with the wall",
            f"in more nets than twins, p below {LEVEL} by McNemar",
            f"{ours['named']:.0f}% against {twins['named']:.0f}%, p = {ours['p_named']:.2g}",
            bool(ours["named"] > twins["named"] and ours["p_named"] < LEVEL),
        ),
    ]


TABLE = Table(
    TableSpec(
        name="influence-faces",
        caption=(
            "A pink wall in three photographs of one man, asked of pairs of nets that trained with "
            "them and without, on five people of LFW. Adds: influence of the photograph on his "
            "logit less the mean of the others', from the same photograph with its pink made grey; "
            "mean over the three. Named: nets in which that change adds more to him than to anyone "
            "else. Recognised: of the photographs, before the pink and before the grey wall. More: "
            "what the wall adds beyond the twin, over pairs."
        ),
        chapter="explanations/influence",
        keys=(Column("trained", "trained", kind="key"),),
        columns=(
            Column("nets", "nets", format="{:.0f}", drift=0.0),
            Column("adds", "adds", "logits", "{:z.2f}", drift=0.5),
            Column("named", "named", "% of nets", format="{:.0f}", drift=40.0),
            Column("pink", "recognised, pink", "%", kind="rate", drift=20.0),
            Column("grey", "recognised, grey", "%", kind="rate", drift=20.0),
            Column("more", "more", "logits", "{:z.2f}", drift=0.5),
            Column("p", "p", format="{:.2g}"),
            Column("p_named", "p, named", format="{:.2g}"),
        ),
        rows=((WITHOUT,), (WITH,)),
        claims=published.claims("influence-faces"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
