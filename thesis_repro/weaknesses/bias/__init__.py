"""Bias amplification: a classifier predicts one class more often than it occurs.

Defined in the chapter weaknesses/bias. The bias is signed: positive means too often class 1.
"""

from thesis_repro.weaknesses.bias.deep import HiddenLayer, unit_influence
from thesis_repro.weaknesses.bias.gaussian import (
    Mixture,
    bayes_bias,
    chance,
    measure,
    simulated_bias,
)
from thesis_repro.weaknesses.bias.linear import (
    L1,
    Experts,
    FeatureParity,
    Remedy,
    ThresholdShift,
    balancing_shift,
)
from thesis_repro.weaknesses.bias.masks import (
    expert_mask,
    parity_mask,
    search_experts,
    search_linear_experts,
)

__all__ = [
    "L1",
    "Experts",
    "FeatureParity",
    "HiddenLayer",
    "Mixture",
    "Remedy",
    "ThresholdShift",
    "balancing_shift",
    "bayes_bias",
    "chance",
    "expert_mask",
    "measure",
    "parity_mask",
    "search_experts",
    "search_linear_experts",
    "simulated_bias",
    "unit_influence",
]
