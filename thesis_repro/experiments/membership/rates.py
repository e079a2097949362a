"""Shares over the targets of a contest, with intervals, as the records of a row."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thesis_repro.tables import statistics

Counts = dict[str, int]


def rate(counts: Sequence[Counts]) -> tuple[float, float, float, str]:
    """Mean share over targets in percent, with its 95% interval.

    Student t over three or more targets, else Clopper-Pearson over the points of one.
    """
    usable = [c for c in counts if c["n"]]
    if not usable:
        return math.nan, math.nan, math.nan, ""
    mean, low, high, method = statistics.summarise_rate(usable)
    return mean, low, high, method.replace("seeds", "targets")


def note(record: dict[str, Any], name: str, found: tuple[float, float, float, str]) -> None:
    """Put a measure with its interval into the record of a row."""
    mean, low, high, method = found
    record |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    if method and method not in record.get("interval", ""):
        record["interval"] = "; ".join(filter(None, [record.get("interval", ""), method]))


def note_mean(record: dict[str, Any], name: str, values: Sequence[float]) -> None:
    """Put the mean over targets into the record of a row; with three or more its interval, too."""
    mean, low, high, _ = statistics.summarise_number(values)
    record |= {name: mean, f"{name}_low": low, f"{name}_high": high}


def answers(trained: Sequence[Mapping[str, Any]], attack: str) -> dict[str, Any]:
    """The record of one attack over the targets of a contest."""
    found = [t["attacks"][attack] for t in trained]
    record: dict[str, Any] = {"seeds": len(found)}
    gaps = [
        100 * (t["train"]["k"] / t["train"]["n"] - t["test"]["k"] / t["test"]["n"]) for t in trained
    ]
    note_mean(record, "gap", gaps)
    note_mean(record, "auc", [100 * f["auc"] for f in found])
    for name in ("accuracy", "precision", "recall"):
        note(record, name, rate([f[name] for f in found]))
    return record
