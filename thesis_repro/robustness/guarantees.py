"""What may be guaranteed of a point: sizes of sets of labels, and sets that belong together.

Defined in the chapter robustness/relaxed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
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
            If a size is not in [1, classes), where k = classes would be guaranteed everywhere, or
            an affinity set is empty, repeats a label, or names one that is not in [0, classes).
        """
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

    Examples
    --------
    >>> top(2).sizes
    (2,)
    """
    return Guarantee((k,))


def up_to(k: int) -> Guarantee:
    """Relaxed top-K robustness (RTK): top-k robustness for some k <= K.

    Examples
    --------
    >>> up_to(3).sizes
    (1, 2, 3)
    """
    return Guarantee(tuple(range(1, k + 1)) or (k,))


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
        If there is no set, a label is no whole number, or a name is none of the classes.

    Examples
    --------
    >>> within([("cat", "dog"), ("car",)], classes=("car", "cat", "dog")).affinity
    ((1, 2), (0,))
    """
    affinity = tuple(tuple(_index(label, classes) for label in chosen) for chosen in sets)
    if not affinity:
        raise ValueError("affinity needs at least one set of labels, got none")
    labels: list[object] = [label for chosen in affinity for label in chosen]
    for label in labels:
        if not isinstance(label, Integral):
            raise ValueError(f"affinity sets hold class indices, whole numbers; got {label!r}")
    affinity = tuple(tuple(sorted(map(int, chosen))) for chosen in affinity)
    largest = max(map(len, affinity))
    return Guarantee(tuple(range(1, largest + 1)), affinity)


def _index(label: Any, classes: Sequence[str]) -> Any:
    """The index of a class that is named; anything else as it is."""
    if not isinstance(label, str) or not classes:
        return label
    if label not in classes:
        raise ValueError(f"no class is called {label!r}; there are {', '.join(classes)}")
    return list(classes).index(label)
