"""Tables and figures of the chapter weaknesses/leakage."""

__all__ = [
    "converse",
    "dose",
    "figures",
    "hypothesis",
    "instances",
    "models",
    "moving",
    "paired",
    "property",
    "watermark",
]
