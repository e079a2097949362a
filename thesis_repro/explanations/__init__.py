"""Part I: what a net uses. Internal influence, its special cases, and expert units."""

__all__ = [
    "axioms",
    "distributions",
    "experts",
    "faithfulness",
    "hooks",
    "imagenet",
    "influence",
    "modules",
    "quantities",
    "rankings",
    "receptive",
    "rivals",
    "slicing",
    "subjects",
]
