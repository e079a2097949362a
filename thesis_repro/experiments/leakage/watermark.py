"""The table leakage-watermark."""

from thesis_repro.experiments.leakage import plans

TABLE = plans.LEAKAGE_WATERMARK
