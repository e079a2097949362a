"""Tables and figures of the chapter weaknesses/bias."""

__all__ = ["deep", "figures", "remedies", "synthetic", "two_classes"]
