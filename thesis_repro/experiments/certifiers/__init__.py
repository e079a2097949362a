"""Tables and figures of the chapter robustness/certifiers."""

__all__ = ["capacity", "cost", "figures", "methods", "moving", "scaling"]
