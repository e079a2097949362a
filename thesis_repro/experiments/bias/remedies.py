"""The table bias-remedies."""

from thesis_repro.experiments.bias import plans

TABLE = plans.BIAS_REMEDIES
