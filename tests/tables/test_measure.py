"""Rows that are compared with another row, point by point."""

import numpy as np
import pytest

from thesis_repro.experiments.gloro import losses, overtrain
from thesis_repro.experiments.relaxed import rejection
from thesis_repro.lab.profiles import profile
from thesis_repro.lab.store import Result
from thesis_repro.tables import statistics
from thesis_repro.tables.estimate import Estimate, Measurement
from thesis_repro.tables.measure import with_gains
from thesis_repro.tables.spec import Row

RNG = np.random.default_rng(0)


def results(seeds: int, *names: str) -> list[Result]:
    return [Result({}, {name: RNG.random(40) < 0.6 for name in names}) for _ in range(seeds)]


def test_a_row_is_compared_with_its_base_alone_and_only_where_seeds_pair() -> None:
    gathered = {
        ("base",): results(1, "right"),
        ("paired",): results(1, "right"),
        ("fewer",): results(2, "right"),
        ("left out",): results(1, "right"),
    }
    measured = {row: Measurement({"vra": "kept"}) for row in gathered}
    found = with_gains(
        measured,
        gathered,
        lambda row: None if row == ("left out",) else ("base",),
        {"gain": "right"},
    )
    assert [row for row in found if "gain" in found[row].values] == [("paired",)]
    assert all(one.values["vra"] == "kept" for one in found.values())
    ours, base = ([gathered[row,][0].arrays["right"]] for row in ("paired", "base"))
    assert found["paired",].values["gain"] == statistics.more_points(ours, base)
    assert with_gains(measured, gathered, lambda row: ("absent",), {"gain": "right"}) == measured


@pytest.mark.parametrize(
    ("module", "rows", "columns", "compared"),
    [
        (losses, ("TRADES", "cross-entropy", "EMMA"), {"gain": "verified"}, (1, 2)),
        (overtrain, ("1", "1.5", "chosen"), {"gain": "verified"}, (1,)),
    ],
)
def test_tables_of_nets_say_how_many_more_points_they_verify(
    module, rows, columns, compared
) -> None:
    keys = [("set", "0.3", row) for row in rows]
    gathered = {key: results(1, *columns.values()) for key in keys}
    found = module.assemble(profile("quick"), gathered)
    for at, key in enumerate(keys):
        values = found[key].values
        assert set(values) == (set(columns) if at in compared else set())
        for column, array in columns.items():
            if at in compared:
                sides = ([gathered[row][0].arrays[array]] for row in (key, keys[0]))
                assert values[column] == statistics.more_points(*sides)


def test_what_a_guarantee_rejects_fewer_and_its_training_more_is_paired() -> None:
    """Each with its own base: the data set's top-1 row, or the GloRo net under the guarantee."""
    names = [("top-1", "GloRo"), ("RT3", "GloRo"), ("RT3", "relaxed")]
    top, plain, trained = rows = [("set", *name) for name in names]
    gathered = {row: results(2, "right", "strictest") for row in rows}
    found = rejection.assemble(profile("quick"), gathered)

    def over(ours: Row, base: Row, array: str) -> Estimate:
        sides = ([r.arrays[array] for r in gathered[row]] for row in (ours, base))
        return statistics.more_points(*sides)

    assert found[top].values == {}
    assert found[plain].values == {
        "fewer": over(plain, top, "strictest"),
        "higher": over(plain, top, "right"),
    }
    assert found[trained].values == {
        "fewer": over(trained, top, "strictest"),
        "higher": over(trained, top, "right"),
        "trained": over(plain, trained, "strictest"),
    }
