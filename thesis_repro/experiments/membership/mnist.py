"""The table membership-mnist."""

from thesis_repro.experiments.membership import plans

TABLE = plans.MEMBERSHIP_MNIST
