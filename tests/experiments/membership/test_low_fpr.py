from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.experiments.membership.low_fpr import TABLE, assemble
from thesis_repro.weaknesses.membership.guesses import GENERAL


def test_plans_name_rows_of_the_spec(check_plans):
    check_plans(TABLE)


def test_assembly_says_what_cannot_be_measured(contested):
    (record,) = assemble(None, {(PLAIN, GENERAL): [contested()]}).values()
    assert (
        record.estimate("tpr1").value == 3.0
        and record.estimate("fpr1").value == 1.0
        and "tpr01" not in record.values
    )
    assert record.note == "0.1% not measurable at n = 1,000"
    assert record.estimate("tpr1").low < 3.0 < record.estimate("tpr1").high
