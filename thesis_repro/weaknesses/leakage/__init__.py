"""Leakage: what a model, read backwards, shows of the images it was trained on.

Defined in the chapter weaknesses/leakage. The protocol is ours: no text of the paper is public.
"""

from thesis_repro.weaknesses.leakage.adversaries import (
    DEVIATIONS,
    by_classifier,
    by_cross_validation,
    by_fixed_threshold,
    by_threshold,
    weak,
)
from thesis_repro.weaknesses.leakage.anti_adversarial import anti_adversarial_loss
from thesis_repro.weaknesses.leakage.game import (
    Outcome,
    play,
    probe_features,
    weight_features,
)
from thesis_repro.weaknesses.leakage.instances import (
    Nearest,
    distances,
    identified,
    nearest,
    pooled,
)
from thesis_repro.weaknesses.leakage.marker import Marker
from thesis_repro.weaknesses.leakage.reconstruction import (
    Reconstruction,
    advantage,
    high_pass,
    linear_optimum,
    project,
    reconstruct,
    total_variation,
)
from thesis_repro.weaknesses.leakage.watermark import Watermark, choose, dependence, mark, trace

__all__ = [
    "DEVIATIONS",
    "Marker",
    "Nearest",
    "Outcome",
    "Reconstruction",
    "Watermark",
    "advantage",
    "anti_adversarial_loss",
    "by_classifier",
    "by_cross_validation",
    "by_fixed_threshold",
    "by_threshold",
    "choose",
    "dependence",
    "distances",
    "high_pass",
    "identified",
    "linear_optimum",
    "mark",
    "nearest",
    "play",
    "pooled",
    "probe_features",
    "project",
    "reconstruct",
    "total_variation",
    "trace",
    "weak",
    "weight_features",
]
