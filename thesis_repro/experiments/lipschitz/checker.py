"""The table lipschitz-checker."""

from thesis_repro.experiments.lipschitz import plans

TABLE = plans.LIPSCHITZ_CHECKER
