"""The table lipschitz-tightness."""

from thesis_repro.experiments.lipschitz import plans

TABLE = plans.LIPSCHITZ_TIGHTNESS
