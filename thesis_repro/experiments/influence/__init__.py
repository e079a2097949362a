"""Tables and figures of the chapter explanations/influence."""

__all__ = ["axioms", "backgrounds", "faces", "figures", "moving"]
