import numpy as np

from thesis_repro.experiments.membership.calibrated import TABLE, assemble
from thesis_repro.experiments.membership.contests import PLAIN


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
