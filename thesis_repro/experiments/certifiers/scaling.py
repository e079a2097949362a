"""The table certifiers-scaling."""

from thesis_repro.experiments.certifiers import plans

TABLE = plans.CERTIFIERS_SCALING
