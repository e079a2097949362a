"""Tables and figures of the chapter robustness/certifiers."""

__all__ = ["cost", "figures", "methods", "scaling"]
