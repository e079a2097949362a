"""Tables and figures of the chapter explanations/influence."""

__all__ = ["axioms", "figures", "moving"]
