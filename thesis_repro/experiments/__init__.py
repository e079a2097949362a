"""One file per table, named as the table: `a-b-c` is `TABLE` in `a/b_c.py`."""

__all__ = [
    "arc",
    "bias",
    "certifiers",
    "commit_models",
    "evidence",
    "experts",
    "gloro",
    "influence",
    "leakage",
    "lipschitz",
    "membership",
    "nets",
    "relaxed",
]
