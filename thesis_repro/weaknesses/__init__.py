"""Part III of the thesis: weaknesses besides robustness (bias, membership, leakage)."""

__all__ = ["bias", "leakage", "membership", "reliability"]
