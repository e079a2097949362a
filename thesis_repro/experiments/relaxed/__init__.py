"""Tables and figures of the chapter robustness/relaxed."""

__all__ = ["conditions", "figures", "groupings", "rejection", "settings"]
