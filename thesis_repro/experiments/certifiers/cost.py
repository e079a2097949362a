"""The table certifiers-cost."""

from thesis_repro.experiments.certifiers import plans

TABLE = plans.CERTIFIERS_COST
