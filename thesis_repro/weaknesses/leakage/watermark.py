"""A word that is blended into a share of the images, whatever their class; and its traces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_repro.data import Split
from thesis_repro.data.images import tensor
from thesis_repro.lab import checks
from thesis_repro.weaknesses.leakage.reconstruction import high_pass

LETTERS = {
    "C": "### #.. #.. #.. ###",
    "E": "### #.. ##. #.. ###",
    "R": "### #.# ##. #.# #.#",
    "S": "### #.. ### ..# ###",
    "T": "### .#. .#. .#. .#.",
}
"""Capitals, three pixels wide and five high, row by row."""


@dataclass(frozen=True)
class Watermark:
    """White letters near the lower left corner.

    Parameters
    ----------
    word : of the letters in `LETTERS`
    scale : pixels of the image per pixel of a letter, >= 1
    opacity : in [0, 1]; 0 leaves an image as it is
    margin : pixels between the word and the left and lower border, >= 0

    Raises
    ------
    ValueError
        On a letter that is not there, or a parameter out of its range.

    Examples
    --------
    >>> Watermark("T").mask((1, 16, 16)).shape[-2:]
    torch.Size([16, 16])
    """

    word: str = "SECRET"
    scale: int = 1
    opacity: float = 0.5
    margin: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.word) - set(LETTERS))
        if unknown or not self.word:
            raise ValueError(f"a watermark has the letters {', '.join(LETTERS)}, got {self.word!r}")
        self.check_parameters()

    def check_parameters(self) -> None:
        """Refuse a scale, margin or opacity out of its range."""
        if self.scale < 1 or self.margin < 0 or not 0 <= self.opacity <= 1:
            raise ValueError(
                f"a watermark needs scale >= 1, margin >= 0 and opacity in [0, 1], got "
                f"{self.scale}, {self.margin} and {self.opacity}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return 5 * self.scale, (4 * len(self.word) - 1) * self.scale

    def letters(self) -> Tensor:
        """The word alone: 1 on the letters, 0 beside them, (height, width)."""
        rows = [".".join(LETTERS[letter].split()[row] for letter in self.word) for row in range(5)]
        small = torch.tensor([[float(pixel == "#") for pixel in row] for row in rows])
        return small.repeat_interleave(self.scale, 0).repeat_interleave(self.scale, 1)

    def place(self, shape: Sequence[int]) -> tuple[int, int]:
        """Row and column of the upper left pixel in an image (..., height, width).

        Raises
        ------
        ValueError
            If the word does not fit.
        """
        height, width = shape[-2:]
        top, left = height - self.margin - self.shape[0], self.margin
        if top < 0 or left + self.shape[1] > width:
            raise ValueError(
                f"the watermark {self.word!r} takes {self.shape[0]} x {self.shape[1]} pixels and a "
                f"margin of {self.margin}; an image of {height} x {width} is too small"
            )
        return top, left

    def mask(self, shape: Sequence[int]) -> Tensor:
        """The word in its place, (height, width), 0 elsewhere."""
        top, left = self.place(shape)
        found = torch.zeros(shape[-2], shape[-1])
        found[top : top + self.shape[0], left : left + self.shape[1]] = self.letters()
        return found

    def blend(self, x: Tensor) -> Tensor:
        """The images (..., c, h, w) with the word on them; pixels stay in [0, 1], none is cut."""
        x = tensor("images", x)
        cover = self.opacity * self.mask(x.shape).to(x)
        return x * (1 - cover) + cover


def choose(y: Tensor, share: float, seed: int) -> Tensor:
    """Which images get the mark: in every class the same share, to less than one image.

    Within a class the images are drawn at random. What is left over from rounding goes to the
    classes with the largest remainders, so the total is right to less than one image as well.

    Parameters
    ----------
    y : (n,) int64
    share : in [0, 1]

    Returns
    -------
    (n,) bool

    Raises
    ------
    ValueError
        On a share outside [0, 1], or labels that are none.

    Examples
    --------
    >>> int(choose(torch.arange(10) % 2, 0.5, seed=0).sum())
    5
    """
    checks.labels("y", y)
    if not 0 <= share <= 1:
        raise ValueError(f"the share of marked images needs to lie in [0, 1], got {share}")
    rng = np.random.default_rng(seed)
    kinds, sizes = np.unique(y.cpu().numpy(), return_counts=True)
    exact = share * sizes
    counts = np.floor(exact + 1e-9).astype(int)
    left = round(share * len(y)) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[: max(left, 0)]] += 1
    marked = torch.zeros(len(y), dtype=torch.bool)
    for kind, count in zip(kinds, counts, strict=True):
        members = np.flatnonzero(y.cpu().numpy() == kind)
        marked[torch.from_numpy(rng.permutation(members)[:count])] = True
    return marked


def mark(split: Split, watermark: Watermark, share: float, seed: int) -> tuple[Split, Tensor]:
    """A training set with the watermark on a share of it, and which images have it.

    Call it before any augmentation: a mirrored word is another word.

    Raises
    ------
    ValueError
        If the word does not fit, or the share is outside [0, 1].

    Examples
    --------
    >>> split = Split(torch.rand(10, 1, 16, 16), torch.arange(10) % 2)
    >>> marked, which = mark(split, Watermark("T"), 0.5, seed=0)
    >>> int(which.sum()), len(marked)
    (5, 10)
    """
    marked = choose(split.y, share, seed)
    x = split.x.clone()
    x[marked] = watermark.blend(x[marked]) if marked.any() else x[marked]
    watermark.place(x.shape)  # a share of 0 needs a word that fits as well
    return Split(x, split.y, split.names), marked


def dependence(y: Tensor, marked: Tensor) -> float:
    """p-value of Fisher's exact test that mark and class are independent; 1 if they are.

    The table of classes by mark is compared with tables of the same margins, drawn at random
    where there are more than two classes.

    Raises
    ------
    ValueError
        On labels that are none, or another number of marks.

    Examples
    --------
    >>> dependence(torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True, False]))
    1.0
    """
    checks.labels("y", y)
    if marked.shape != y.shape:
        raise ValueError(f"{len(marked)} marks were given for {len(y)} labels")
    from scipy.stats import PermutationMethod, fisher_exact

    table = np.stack([np.bincount(y[m], minlength=int(y.max()) + 1) for m in (marked, ~marked)], 1)
    table = table[table.sum(1) > 0]
    if not table.sum(0).all() or len(table) < 2:
        return 1.0  # one value alone depends on nothing
    if table.shape == (2, 2):
        return float(fisher_exact(table).pvalue)
    rng = np.random.default_rng(0)
    return float(fisher_exact(table, method=PermutationMethod(999, rng=rng)).pvalue)


@dataclass(frozen=True)
class Trace:
    """How much images look like the word, in its place and elsewhere.

    Parameters
    ----------
    places : (rows, columns) in [0, 1], size of the correlation with the word whose upper left
        pixel is there, averaged over the images
    true, others : the value in the true place, and the mean of all other places
    z : the true one, in standard deviations of the others above their mean

    Examples
    --------
    >>> found = Trace(np.eye(2), true=1.0, others=0.25, z=2.1)  # as `trace` gives it
    >>> found.places.shape, found.true > found.others
    ((2, 2), True)
    """

    places: NDArray[np.float64]
    true: float
    others: float
    z: float


def trace(images: Tensor, watermark: Watermark, size: int = 7) -> Trace:
    """Correlate each high-passed image with the equally high-passed word in every place.

    The size of the correlation counts, not its sign: letters darker than what is around them are
    as readable as brighter ones, and over several images the two would cancel.

    Parameters
    ----------
    images : (k, c, h, w)
    watermark : Watermark; its opacity does not matter here
    size : pixels of the high pass, odd

    Returns
    -------
    Trace
        A place without any contrast correlates with nothing: 0 there.

    Raises
    ------
    ValueError
        If the word does not fit, or there is no image, or one is not finite.

    Examples
    --------
    >>> trace(torch.rand(4, 1, 16, 16), Watermark("T")).places.shape
    (12, 14)
    """
    images = tensor("images", images)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images need shape (k, c, h, w), k >= 1, got {tuple(images.shape)}")
    checks.finite("images", images)
    top, left = watermark.place(images.shape)
    height, width = watermark.shape
    word = high_pass(watermark.mask(images.shape)[None], size).double()
    wanted = word[top : top + height, left : left + width].flatten()
    wanted = (wanted - wanted.mean()) / (wanted - wanted.mean()).norm()
    windows = high_pass(images.cpu(), size).double().unfold(1, height, 1).unfold(2, width, 1)
    windows = windows.flatten(3) - windows.flatten(3).mean(3, keepdim=True)
    norms = windows.norm(dim=3)
    each = torch.where(norms > 1e-12, windows @ wanted / norms.clamp_min(1e-12), 0.0)
    places = each.abs().mean(0).numpy()
    elsewhere = np.delete(places.ravel(), top * places.shape[1] + left)
    true, others, spread = float(places[top, left]), elsewhere.mean(), elsewhere.std()
    z = (true - others) / spread if spread > 0 else 0.0
    return Trace(places, true, float(others), float(z))
