"""Tables and figures of the chapter explanations/influence."""

__all__ = ["axioms", "backgrounds", "figures", "moving"]
