"""Tables and figures of the chapter robustness/gloro."""

__all__ = [
    "attainable",
    "cifar10",
    "figures",
    "frontier",
    "losses",
    "moving",
    "overtrain",
    "schedule",
    "speed",
    "training",
    "vra",
]
