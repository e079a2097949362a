"""The table membership-calibrated."""

from thesis_repro.experiments.membership import plans

TABLE = plans.MEMBERSHIP_CALIBRATED
