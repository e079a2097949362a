"""Membership inference: was this point in the training set?

Defined in the chapter weaknesses/membership. Scores are higher for members.
"""

from thesis_repro.weaknesses.membership.black_box import (
    ShadowAttack,
    loss_threshold,
    losses,
    naive,
    shadow,
)
from thesis_repro.weaknesses.membership.calibration import best_accuracy, for_precision
from thesis_repro.weaknesses.membership.game import (
    Outcome,
    at_fpr,
    auc,
    check_fresh,
    check_splits,
    for_fpr,
    judge,
)
from thesis_repro.weaknesses.membership.gaussian import GaussianGame, optimum
from thesis_repro.weaknesses.membership.lira_rmia import lira, rmia, scaled
from thesis_repro.weaknesses.membership.one_run import epsilon_at_least, p_value, right_guesses
from thesis_repro.weaknesses.membership.own import CalibratedAttack
from thesis_repro.weaknesses.membership.quantile import QuantileAttack
from thesis_repro.weaknesses.membership.two_sided import Dense, TwoSided
from thesis_repro.weaknesses.membership.white_box import (
    GeneralWB,
    bayes_wb,
    displacement,
    expected_margin,
    expected_residual,
)
from thesis_repro.weaknesses.membership.whitening import Whitening

__all__ = [
    "CalibratedAttack",
    "Dense",
    "GaussianGame",
    "GeneralWB",
    "Outcome",
    "QuantileAttack",
    "ShadowAttack",
    "TwoSided",
    "Whitening",
    "at_fpr",
    "auc",
    "bayes_wb",
    "best_accuracy",
    "check_fresh",
    "check_splits",
    "displacement",
    "epsilon_at_least",
    "expected_margin",
    "expected_residual",
    "for_fpr",
    "for_precision",
    "judge",
    "lira",
    "loss_threshold",
    "losses",
    "naive",
    "optimum",
    "p_value",
    "right_guesses",
    "rmia",
    "scaled",
    "shadow",
]
