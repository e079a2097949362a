"""The table bias-deep."""

from thesis_repro.experiments.bias import plans

TABLE = plans.BIAS_DEEP
