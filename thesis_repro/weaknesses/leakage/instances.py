"""Does a reconstruction look like an image that was trained on? Held-out images are the control."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_repro.data.images import tensor
from thesis_repro.lab.checks import finite

Floats = NDArray[np.float64]


def distances(images: Tensor, pool: Tensor) -> Tensor:
    """Distance of each image from each image of the pool, blind to brightness and contrast.

    Every image is brought to mean 0 and norm 1 first, so the distance is sqrt(2 - 2 correlation).

    Parameters
    ----------
    images : (k, c, h, w)
    pool : (n, c, h, w)

    Returns
    -------
    (k, n) float64, in [0, 2]; sqrt(2) where one of the two has no contrast

    Raises
    ------
    ValueError
        If an image is not finite, or the shapes of images differ.

    Examples
    --------
    >>> distances(torch.rand(2, 1, 8, 8), torch.rand(5, 1, 8, 8)).shape
    torch.Size([2, 5])
    """
    images, pool = tensor("images", images), tensor("the pool", pool)
    finite("images", images)
    finite("pool", pool)
    if images.shape[1:] != pool.shape[1:]:
        raise ValueError(
            f"images of shape {tuple(images.shape[1:])} are not like those of the pool, "
            f"{tuple(pool.shape[1:])}"
        )
    one, other = (_standard(x) for x in (images, pool))
    return (2 - 2 * one @ other.T).clamp_min(0).sqrt()


def _standard(x: Tensor) -> Tensor:
    flat = x.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    norm: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp_min(1e-12)


@dataclass(frozen=True)
class Nearest:
    """Nearest training and nearest held-out image of each reconstruction.

    Parameters
    ----------
    member, other : (k,) distances
    ratio : mean of `member` over mean of `other`; below 1 where training images are nearer
    p : share of random memberships (the true one among them) with as small a difference
    null : (draws,) the differences of mean distances, member less other, at random memberships
    """

    member: Floats
    other: Floats
    ratio: float
    p: float
    null: Floats

    @property
    def difference(self) -> float:
        """Mean distance to the nearest training image less that to the nearest held-out one."""
        return float(self.member.mean() - self.other.mean())


def nearest(
    members: Sequence[Tensor], others: Sequence[Tensor], draws: int = 999, seed: int = 0
) -> Nearest:
    """Compare nearest distances, and ask chance how often it does as well.

    If a reconstruction knows nothing of who was trained on, the names "member" and "other" can be
    dealt out anew among the images of its class. The test does that `draws` times.

    Parameters
    ----------
    members : one (n,) per reconstruction: its distances from training images of its class
    others : the same for held-out images; as many, since the nearest of more images is nearer
    draws : random memberships, >= 1
    seed : int; models that are :func:`pooled` need one each, or their chances go together

    Raises
    ------
    ValueError
        If there is no reconstruction, a side is empty, the sides differ in size, or a distance is
        not finite.

    References
    ----------
    The protocol is ours. The p-value counts the true membership as one of those drawn, so it is
    never zero.

    Examples
    --------
    >>> found = nearest([torch.tensor([0.1, 0.9])], [torch.tensor([0.5, 0.8])], draws=99)
    >>> round(found.difference, 4)
    -0.4
    """
    if not len(members) or len(members) != len(others) or draws < 1:
        raise ValueError(
            f"a comparison needs draws >= 1 and both sides for each reconstruction, got {draws} "
            f"draws, {len(members)} and {len(others)}"
        )
    rng = np.random.default_rng(seed)
    near, far, null = [], [], np.zeros(draws)
    for i, (mine, theirs) in enumerate(zip(members, others, strict=True)):
        finite(f"members of reconstruction {i}", mine)
        finite(f"others of reconstruction {i}", theirs)
        n = len(mine)
        if not n or n != len(theirs):
            raise ValueError(
                f"nearest distances need as many training as held-out images, at least 1, got "
                f"{n} and {len(theirs)}"
            )
        both = torch.cat([mine, theirs]).double().cpu().numpy()
        near.append(both[:n].min())
        far.append(both[n:].min())
        # the nearest of a random half: the smallest rank that falls into it
        order = np.sort(both)
        side = rng.permuted(np.tile(np.arange(2 * n) < n, (draws, 1)), axis=1)
        null += (order[side.argmax(1)] - order[(~side).argmax(1)]) / len(members)
    member, other = np.array(near), np.array(far)
    found = member.mean() - other.mean()
    p = (1 + int((null <= found + 1e-12).sum())) / (1 + draws)
    return Nearest(member, other, float(member.mean() / other.mean()), p, null)


def identified(found: Nearest) -> Floats:
    """Of each reconstruction: whether the nearest image of its class is one that was trained on.

    The nearest among training and as many held-out images, n of each; the mean is the
    identification rate. Without a leak it is one half, however many images there are. Which of the
    n training images is the right one is not asked.

    Returns
    -------
    (k,) float64: 1 where it is a training image, 0 where it is held out, 1/2 for a tie

    Raises
    ------
    ValueError
        If a distance is not finite.

    Examples
    --------
    >>> sides = [torch.tensor([0.1, 0.9])] * 2, [torch.tensor([0.5]).expand(2), torch.zeros(2)]
    >>> identified(nearest(*sides, draws=9)).tolist()
    [1.0, 0.0]
    """
    for name in SIDES:
        finite(name, getattr(found, name))
    return (1 + np.sign(found.other - found.member)) / 2


def pooled(found: Sequence[Nearest]) -> Nearest:
    """Several models as one: their reconstructions together, their chances added up.

    Each of them was compared with a seed of its own; with one seed for all the p-value is too near
    to one half.

    Raises
    ------
    ValueError
        If there is no model, or a distance is not finite.
    """
    if not len(found):
        raise ValueError("models are pooled from at least one comparison, got none")
    for i, one in enumerate(found):
        for name in (*SIDES, "null"):
            finite(f"{name} of comparison {i}", getattr(one, name))
    member, other = (np.concatenate([getattr(f, side) for f in found]) for side in SIDES)
    sizes = np.array([len(f.member) for f in found], float)
    null = sum(f.null * size for f, size in zip(found, sizes, strict=True)) / sizes.sum()
    gap = member.mean() - other.mean()
    p = (1 + int((null <= gap + 1e-12).sum())) / (1 + len(null))
    return Nearest(member, other, float(member.mean() / other.mean()), p, np.asarray(null))


SIDES = ("member", "other")
