"""Tables and figures of the chapter robustness/gloro."""

__all__ = ["cifar10", "figures", "frontier", "schedule", "speed", "training", "vra"]
