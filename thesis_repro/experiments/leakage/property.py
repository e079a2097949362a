"""The table leakage-property."""

from thesis_repro.experiments.leakage import plans

TABLE = plans.LEAKAGE_PROPERTY
