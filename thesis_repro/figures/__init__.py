"""What figures share: their palette, those that were recorded, and the picture of all claims.

A chapter's own lie in `experiments/<chapter>/figures.py`, one function a figure, each returns a
matplotlib Figure; nothing else imports matplotlib. Colours are those of Okabe and Ito, told apart
with every common form of colour blindness; line styles and markers repeat what colour says.
"""

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "ORANGE",
    "PALETTE",
    "PINK",
    "RED",
    "REJECTED",
    "SKY",
    "YELLOW",
    "evidence",
    "moving",
    "narrow",
    "not_run",
    "recorded",
]

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK)
REJECTED = "#BBBBBB"
"""Grey: the colour of the bottom class."""

matplotlib.rcParams.update(
    {
        "figure.dpi": 100,
        "savefig.dpi": 150,
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=PALETTE),
        "legend.frameon": False,
    }
)


def not_run() -> Figure:
    """In place of a figure whose cells the store does not have: a paper run, not computed here."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 1))
    axis.text(0.5, 0.5, "not run", ha="center", va="center", transform=axis.transAxes)
    axis.set_axis_off()
    return figure
