"""The table membership-low-fpr."""

from thesis_repro.experiments.membership import plans

TABLE = plans.MEMBERSHIP_LOW_FPR
