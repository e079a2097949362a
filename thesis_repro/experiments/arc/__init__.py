"""Tables and figures of the chapter arc/arc."""

__all__ = [
    "calibration",
    "figures",
    "judged",
    "paths",
    "rejection",
    "soundness",
    "threats",
    "trainings",
    "universe",
]
