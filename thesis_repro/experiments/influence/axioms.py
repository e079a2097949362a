"""Table of the chapter explanations/influence: each axiom and special case, measured."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import Tensor, nn

from thesis_repro import data, nets
from thesis_repro.explanations import axioms, imagenet, rivals
from thesis_repro.explanations.axioms import Case
from thesis_repro.explanations.subjects import DIGITS
from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.profiles import Profile
from thesis_repro.tables import published
from thesis_repro.tables.conditions import Condition
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import summarise
from thesis_repro.tables.spec import Column, Gathered, Plan, Row, Table, TableSpec
from thesis_repro.training import named

POINTS = 50
EXACT = 1e-6
CAPTUM = 1e-5

NETS = {"digits": "digit CNN, MNIST-5k", "squeezenet": "SqueezeNet 1.1, photographs"}
SLICES = {"digits": ("1", "3", "5"), "squeezenet": ("features.3", "features.9", "features.12")}


@dataclass(frozen=True)
class AxiomConfig:
    """One property on one net: over so many images, at the slices of SLICES."""

    check: str
    net: str
    images: int
    points: int = POINTS
    seed: int = 0
    device: str = "cpu"


def case(config: AxiomConfig) -> Case:
    """The net with its images, and for each image the class that the net gives it."""
    if config.net == "squeezenet":
        found = imagenet.squeezenet()
        net: nn.Module = found.net
        x = found.inputs(data.photos().x[: config.images])
    else:
        net = named.trained(replace(DIGITS, seed=config.seed))
        x = data.held_out("mnist-5k").x[: config.images]
    net, x = net.to(config.device), x.to(config.device)
    return Case(net, x, nets.labels(net, x, 32), SLICES[config.net], config.points, config.seed)


@dataclass(frozen=True)
class Check:
    """A property: how it is measured, the largest error allowed, the share that has to keep it."""

    measure: Callable[[Case], Tensor]
    bound: float
    share: float = 100.0


CHECKS = {
    "linear agreement": Check(axioms.linear_agreement, EXACT),
    "distributional marginality": Check(axioms.marginality, EXACT),
    "slice invariance": Check(axioms.slice_invariance, CAPTUM),
    "consistency": Check(axioms.consistency, EXACT),
    "completeness, median": Check(axioms.completeness, 1e-3, 50.0),
    "completeness, 95th percentile": Check(axioms.completeness, 1e-2, 95.0),
    "saliency": Check(axioms.saliency, CAPTUM),
    "integrated gradients": Check(axioms.integrated_gradients, CAPTUM),
    "Captum: Saliency": Check(axioms.captum_saliency, CAPTUM),
    "Captum: IntegratedGradients": Check(axioms.captum_integrated, CAPTUM),
    "Captum: InternalInfluence": Check(axioms.captum_internal, CAPTUM),
}
RIVALS = {
    "linear agreement, by gradient × input": Check(
        rivals.linear_agreement_of_gradient_times_input, EXACT
    ),
    "linear agreement, by activation": Check(rivals.linear_agreement_of_activations, EXACT),
    "distributional marginality, by occlusion": Check(rivals.marginality_of_occlusion, EXACT),
    "slice invariance, by LRP (ε rule)": Check(rivals.slice_invariance_of_relevance, CAPTUM),
    "consistency, by conductance": Check(rivals.consistency_of_conductance, CAPTUM),
}
"""The axioms, asked of other measures: each row has to come out as "no"."""
ON_SQUEEZENET = tuple(
    name for name in CHECKS if name.startswith(("distributional", "completeness", "Captum"))
)


def axiom(config: AxiomConfig) -> Result:
    """Cell: the errors of one property, and how many lie within its bound."""
    check = (CHECKS | RIVALS)[config.check]
    errors = check.measure(case(config)).double()
    within = int((errors <= check.bound).sum())
    values: dict[str, Any] = {
        "median": float(errors.median()),
        "largest": float(errors.max()),
        "bound": check.bound,
        "within": {"k": within, "n": len(errors)},
        "share": check.share,
        "holds": "yes" if 100 * within >= check.share * len(errors) else "no",
    }
    return Result(values)


def row(net: str, check: str) -> Row:
    """The key of a row."""
    return NETS[net], check


def cells(profile: Profile) -> Plan:
    """The plan of `influence-axioms`: digits always, SqueezeNet and Captum at paper scale."""
    quick = profile.name == "quick"
    plan: list[tuple[Row, Cell | None]] = []
    has_captum = importlib.util.find_spec("captum") is not None
    has_net = data.available("squeezenet1_1") and data.available("photos")
    for check in (*CHECKS, *RIVALS):
        if "Captum" in check and (quick or not has_captum):
            continue
        for seed in profile.seeds:
            config = AxiomConfig(check, "digits", 100, seed=seed, device=profile.device)
            pair = ("mnist-5k", data.fingerprint("mnist-5k"))
            plan.append((row("digits", check), Cell(axiom, config, (pair,))))
        if not quick and check in ON_SQUEEZENET and has_net:
            config = AxiomConfig(check, "squeezenet", 20, device=profile.device)
            pairs = tuple((n, data.fingerprint(n)) for n in ("photos", "squeezenet1_1"))
            plan.append((row("squeezenet", check), Cell(axiom, config, pairs)))
    return plan


def assemble(_: Profile, gathered: Gathered) -> Mapping[Row, Measurement]:
    """The largest error of all seeds; a property holds if it does for every seed."""
    measured = summarise(TABLE.spec, gathered)
    for row, found in measured.items():
        errors = [result.values["largest"] for result in gathered[row]]
        held = all(result.values["holds"] == "yes" for result in gathered[row])
        values: dict[str, Estimate | str] = {
            **found.values,
            "largest": Estimate(max(errors)),
            "holds": "yes" if held else "no",
        }
        for name in ("bound", "share"):  # no means over seeds: no intervals
            values[name] = Estimate(found.estimate(name).value)
        measured[row] = replace(found, values=values)
    return measured


def conditions(rows: pd.DataFrame) -> list[Condition]:
    """Each other measure breaks its axiom, and not by rounding: in most cases."""
    by, found = rows.drop_duplicates("property").set_index("property"), []
    for name in RIVALS:
        axiom, _, measure = name.partition(", by ")
        said, broken = "not in this run", None
        if name in by.index:
            within, median = by.loc[name, "within"], by.loc[name, "median"]
            said, broken = f"{within:.0f}% within, median error {median:.2g}", bool(within < 50)
        says = f"{measure} breaks {axiom}"
        found.append(Condition(says, "most cases beyond the bound", said, broken))
    return found


TABLE = Table(
    TableSpec(
        name="influence-axioms",
        caption=(
            "The axioms of internal influence and its special cases. Errors are relative to the "
            "largest influence where that exceeds one; for completeness, to the change of the "
            "quantity. Within: share of cases whose error is at most the bound. Rows that name "
            "another measure ask the axiom of that measure, which breaks it."
        ),
        chapter="explanations/influence",
        keys=(
            Column("net", "net", kind="key"),
            Column("property", "property", kind="key"),
        ),
        columns=(
            Column("median", "median error", format="{:.1g}"),
            Column("largest", "largest error", format="{:.1g}"),
            Column("bound", "bound", format="{:.1g}", drift=0.0),
            Column("within", "within the bound", "%", kind="rate", drift=3.0, least=1),
            Column("share", "needed", "%", format="{:.0f}", drift=0.0),
            Column("holds", "holds", kind="text"),
        ),
        rows=(
            *(row("digits", check) for check in (*CHECKS, *RIVALS)),
            *(row("squeezenet", check) for check in ON_SQUEEZENET),
        ),
        claims=published.claims("influence-axioms"),
        conditions=conditions,
    ),
    cells,
    assemble,
)
