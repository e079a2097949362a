"""Tables and figures of the chapter weaknesses/leakage."""

__all__ = ["figures", "hypothesis", "instances", "models", "paired", "property", "watermark"]
