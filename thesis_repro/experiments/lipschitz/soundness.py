"""The table lipschitz-soundness."""

from thesis_repro.experiments.lipschitz import plans

TABLE = plans.LIPSCHITZ_SOUNDNESS
