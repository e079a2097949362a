"""The table bias-synthetic."""

from thesis_repro.experiments.bias import plans

TABLE = plans.BIAS_SYNTHETIC
