"""Tables and figures of the chapter explanations/experts."""

__all__ = ["compression", "faithfulness", "figures", "planted", "slices"]
