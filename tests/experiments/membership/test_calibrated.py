import numpy as np
import pandas as pd
import pytest

from thesis_repro.experiments.membership import calibrated
from thesis_repro.experiments.membership.calibrated import TABLE, assemble
from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.tables.spec import Frame


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_assembly_counts_claims_and_marks_where_they_are_too_few(contested):
    wanted = (PLAIN, "60%")
    (record,) = assemble(None, {wanted: [contested()]}).values()
    assert record.estimate("claims").value == 500 and not record.note
    (record,) = assemble(None, {wanted: [contested(claims=399)]}).values()
    assert "too few" in record.note
    (record,) = assemble(None, {wanted: [contested(claims=0)]}).values()
    assert np.isnan(record.estimate("precision").value)


def test_the_operating_point_is_what_accuracy_and_precision_make_it():
    accuracy, precision = 0.575, 0.64
    tpr = (2 * accuracy - 1) / (2 - 1 / precision)
    fpr = tpr * (1 - precision) / precision
    assert (round(100 * tpr, 1), round(100 * fpr, 1)) == (calibrated.TPR, calibrated.FPR)
    assert (tpr + 1 - fpr) / 2 == pytest.approx(accuracy)
    assert tpr / (tpr + fpr) == pytest.approx(precision)


def recorded(**change):
    """Four thresholds of one training; recall and precision of each."""
    lines = pd.DataFrame(
        {
            "training": PLAIN,
            "wanted": calibrated.WANTED,
            "precision": [50.0, 75.0, 80.0, 90.0],
            "recall": [40.0, 30.0, 20.0, 9.0],
            "status": "run",
            "note": "",
        }
    ).assign(**change)
    for end in ("low", "high"):
        for name in ("recall", "precision"):
            lines[f"{name}_{end}"] = lines[name]
    return Frame(TABLE.spec, "paper-cpu", lines)


def test_the_roc_is_read_on_chords_between_recorded_thresholds():
    row = (PLAIN, "60%")  # FPR 40, 10, 5, 1 at TPR 40, 30, 20, 9
    at = calibrated.FPR
    assert calibrated.tpr_at(recorded(), row).value == pytest.approx(30 + (at - 10) / 30 * 10)
    alarms = 10 + (calibrated.TPR - 30) / 10 * 30
    expected = 100 * calibrated.TPR / (calibrated.TPR + alarms)
    assert calibrated.precision_at(recorded(), row).value == pytest.approx(expected)
    absent = recorded(status="not run")
    assert calibrated.tpr_at(absent, row) is calibrated.precision_at(absent, row) is None


def test_calibration_is_judged_where_enough_is_claimed():
    def holds(precision, note=""):
        frame = recorded(precision=precision, note=["", "", "", note])
        (found,) = calibrated.conditions(frame.data)
        return found.holds

    assert holds([60.0, 69.0, 79.0, 88.0])
    assert not holds([60.0, 69.0, 79.0, 87.9])
    assert holds([60.0, 69.0, 79.0, 50.0], "too few: under 400 claims")
    nowhere = recorded(note=["too few: under 400 claims"] * 4)
    (found,) = calibrated.conditions(nowhere.data)
    assert found.holds is None and found.measured == "nowhere measurable"
