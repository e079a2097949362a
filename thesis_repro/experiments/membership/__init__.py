"""Tables and figures of the chapter weaknesses/membership."""

__all__ = [
    "audit",
    "audit_cells",
    "calibrated",
    "contests",
    "dp",
    "figures",
    "low_fpr",
    "mnist",
    "moving",
    "point",
    "rates",
    "search",
    "sets",
    "smoothing",
    "two_sided",
    "victims",
]
