"""A marker of one's own in place of the word: any small pattern."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thesis_repro.weaknesses.leakage.watermark import Watermark

__all__ = ["Marker"]


@dataclass(frozen=True)
class Marker(Watermark):
    """A pattern near the lower left corner; used wherever a `Watermark` is.

    Parameters
    ----------
    word : a name for the pattern
    pattern : rows of "#" (white) and "." (left alone), all of one length
    scale, opacity, margin : as for Watermark

    Raises
    ------
    ValueError
        On rows of several lengths, other characters or no white, or a parameter out of its range.

    Examples
    --------
    >>> cross = Marker("cross", pattern=("#.#", ".#.", "#.#"), opacity=1.0)
    >>> cross.blend(torch.zeros(1, 1, 5, 5))[0, 0, 1:4, 1:4]
    tensor([[1., 0., 1.],
            [0., 1., 0.],
            [1., 0., 1.]])
    """

    pattern: tuple[str, ...] = ("###", "#.#", "###")

    def __post_init__(self) -> None:
        rows = {len(row) for row in self.pattern}
        pixels = set("".join(self.pattern))
        if len(rows) != 1 or "#" not in pixels or pixels - {"#", "."}:
            raise ValueError(
                f"a pattern needs rows of # and . of one length, with at least one #, got "
                f"{list(self.pattern)}"
            )
        self.check_parameters()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return len(self.pattern) * self.scale, len(self.pattern[0]) * self.scale

    def letters(self) -> Tensor:
        """The pattern alone: 1 where it is white, 0 beside, (height, width)."""
        small = torch.tensor([[float(pixel == "#") for pixel in row] for row in self.pattern])
        return small.repeat_interleave(self.scale, 0).repeat_interleave(self.scale, 1)
