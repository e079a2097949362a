"""Tables and figures of the chapter weaknesses/membership."""

__all__ = [
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
]
