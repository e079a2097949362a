"""Part III of the thesis: weaknesses besides robustness (bias, membership, leakage)."""
