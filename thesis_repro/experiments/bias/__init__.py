"""Tables and figures of the chapter weaknesses/bias."""

__all__ = ["deep", "figures", "moving", "remedies", "removal", "synthetic", "two_classes"]
