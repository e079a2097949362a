import numpy as np

from thesis_repro.experiments.membership import figures
from thesis_repro.experiments.membership.contests import PLAIN
from thesis_repro.experiments.membership.low_fpr import TABLE, assemble
from thesis_repro.lab.cells import Result
from thesis_repro.weaknesses.membership.guesses import GENERAL, LOSS, RMIA, SHADOW


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


def test_every_attack_has_a_line_of_its_own_in_the_picture_of_the_rocs():
    rng = np.random.default_rng(0)
    arrays = {"member.0": np.arange(400) < 200}
    arrays |= {f"{attack}.0": rng.standard_normal(400) for attack in figures.STYLES}
    drawn = figures.roc({PLAIN: Result({}, arrays)}, tuple(figures.STYLES))
    lines = [line for line in drawn.axes[0].lines if line.get_label() in figures.STYLES]
    assert len(lines) == len(figures.STYLES)
    shown = [line for line in lines if line.get_label() in (LOSS, SHADOW, RMIA, GENERAL)]
    dashes = {str(line._unscaled_dash_pattern) for line in shown}  # get_linestyle says "--" of all
    assert len(dashes) == len(shown) == 4  # those that the page draws are told apart in grey
