"""Tables and figures of the chapter robustness/lipschitz."""

__all__ = ["checker", "figures", "soundness", "tightness"]
