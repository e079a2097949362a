"""How experiments run and what they leave behind; knows nothing of the thesis."""

__all__ = [
    "cells",
    "checks",
    "cluster",
    "code",
    "engine",
    "estimates",
    "memory",
    "places",
    "profiles",
    "provenance",
    "reach",
    "scopes",
    "sealed",
    "statements",
    "store",
    "threads",
    "timebox",
    "timing",
    "transfer",
    "workers",
]
