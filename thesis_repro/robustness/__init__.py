"""Part II: certified robustness by Lipschitz bounds."""

from thesis_repro.robustness.gloro import REJECT, Certificate, GloroNet, certify

__all__ = ["REJECT", "Certificate", "GloroNet", "certify"]
