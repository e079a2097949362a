"""Part II: certified robustness by Lipschitz bounds."""

from thesis_repro.robustness.adopt import adopt
from thesis_repro.robustness.gloro import REJECT, Certificate, GloroNet, certify
from thesis_repro.robustness.models import load

__all__ = ["REJECT", "Certificate", "GloroNet", "adopt", "certify", "load"]
