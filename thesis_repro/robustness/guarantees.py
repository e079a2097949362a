"""What may be guaranteed of a point: sizes of sets of labels, and sets that belong together.

Defined in the chapter robustness/relaxed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from operator import index
from typing import Any


@dataclass(frozen=True)
class Guarantee:
    """Which sets of top labels may be guaranteed; made by `top`, `up_to` or `within`.

    sizes : how many labels a set may have, ascending
    affinity : a set needs to lie inside one of these; empty: any set will do

    Examples
    --------
    >>> up_to(2).check(10)  # a guarantee for ten classes
    >>> Guarantee((1, 3))
    Guarantee(sizes=(1, 3), affinity=())
    """

    sizes: tuple[int, ...]
    affinity: tuple[tuple[int, ...], ...] = ()

    def check(self, classes: int) -> None:
        """Refuse sizes and labels that a net of so many classes does not have.

        Raises
        ------
        ValueError
            If sizes are no whole numbers that ascend, at least one; if one is not in
            [1, classes), where k = classes would be guaranteed everywhere; or if an affinity set
            is empty, repeats a label, or names one that is not in [0, classes).
        """
        sizes = list(self.sizes) if isinstance(self.sizes, Sequence) else []
        whole = all(isinstance(size, Integral) for size in sizes)
        if not sizes or not whole or sizes != sorted(set(sizes)):
            raise ValueError(
                f"sizes need to be whole numbers that ascend, at least one, as (1, 3); got "
                f"{self.sizes!r}"
            )
        for chosen in self.affinity:
            unknown = [label for label in chosen if not 0 <= label < classes]
            if not chosen or unknown or len(set(chosen)) < len(chosen):
                raise ValueError(
                    f"an affinity set needs different labels in [0, {classes}), at least one, "
                    f"got {sorted(chosen)}"
                )
        for size in self.sizes:
            if not 1 <= size < classes:
                what = "an affinity set" if self.affinity else "k"
                raise ValueError(
                    f"{what} needs 1 to {classes - 1} labels of {classes} classes, got {size}"
                )


def top(k: int) -> Guarantee:
    """Top-k robustness: the set of the k largest logits stays the same.

    Raises
    ------
    ValueError
        If k is no whole number.

    Examples
    --------
    >>> top(2).sizes
    (2,)
    """
    return Guarantee((_whole(k),))


def up_to(k: int) -> Guarantee:
    """Relaxed top-K robustness (RTK): top-k robustness for some k <= K.

    Raises
    ------
    ValueError
        If k is no whole number.

    Examples
    --------
    >>> up_to(3).sizes
    (1, 2, 3)
    """
    size = _whole(k)
    return Guarantee(tuple(range(1, size + 1)) or (size,))


def _whole(k: object) -> int:
    try:
        return index(k)  # type: ignore[arg-type]  # whatever stands for a whole number
    except TypeError:
        raise ValueError(f"k is how many labels, a whole number of at least 1; got {k!r}") from None


def within(
    sets: Iterable[Iterable[int]] | Iterable[Iterable[str]], classes: Sequence[str] = ()
) -> Guarantee:
    """Affinity robustness: top-k robustness for some k with its set inside one of `sets`.

    A class that is in no set is never guaranteed, not even alone: give it a set of its own.

    Parameters
    ----------
    sets : each of class indices, or of names of classes, as ("cat", "dog")
    classes : all names in the order of the net's logits, as `classes` of a `Dataset` has them;
        where the sets are of names

    Raises
    ------
    ValueError
        If there is no set, a set is a single label, a label is no whole number, or a name is none
        of the classes.

    Examples
    --------
    >>> within([("cat", "dog"), ("car",)], classes=("car", "cat", "dog")).affinity
    ((1, 2), (0,))
    """
    affinity = tuple(tuple(_index(label, classes) for label in _labels(one)) for one in _sets(sets))
    if not affinity:
        raise ValueError("affinity needs at least one set of labels, got none")
    affinity = tuple(tuple(sorted(chosen)) for chosen in affinity)
    largest = max(map(len, affinity))
    return Guarantee(tuple(range(1, largest + 1)), affinity)


def _sets(sets: Any) -> tuple[Any, ...]:
    """The sets, of what can be gone through."""
    if isinstance(sets, str) or not isinstance(sets, Iterable):
        raise ValueError(f"affinity is a list of sets of labels, as [(0, 2), (1,)]; got {sets!r}")
    return tuple(sets)


def _labels(chosen: Any) -> tuple[Any, ...]:
    """The labels of one set, of what can be gone through."""
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise ValueError(f"an affinity set is a set of labels, as (0, 2); got {chosen!r} alone")
    return tuple(chosen)


def _index(label: Any, classes: Sequence[str]) -> int:
    """The index of a class that is given by its name, or by its index."""
    if not isinstance(label, str) or not classes:
        try:
            return index(label)
        except TypeError:
            raise ValueError(
                f"affinity sets hold class indices, whole numbers; got {label!r}"
            ) from None
    if label not in classes:
        raise ValueError(f"no class is called {label!r}; there are {', '.join(classes)}")
    return list(classes).index(label)
