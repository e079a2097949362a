"""Quantities of interest: the behaviour of a net that is explained, as one number per input."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import index as whole
from typing import SupportsIndex

from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Maps outputs (n, ...) to one differentiable number per row, (n,)."""

REDUCTIONS = ("max", "mean")


@dataclass(frozen=True)
class Quantity:
    """A score of the output of one module, which runs once in a forward pass.

    score : (n, ...) to (n,)
    module : dotted name of the module whose output is scored; "" for the model's own output
    name : for captions

    Examples
    --------
    >>> import torch
    >>> both = Quantity(lambda output: output[:, 0] + output[:, 1], name="both")
    >>> both(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([3.])
    """

    score: Score
    module: str = ""
    name: str = "quantity"

    def __call__(self, output: Tensor) -> Tensor:
        """Score an output.

        Raises
        ------
        ValueError
            Unless the score is one number per row.
        """
        value = self.score(output)
        if value.shape != output.shape[:1]:
            raise ValueError(
                f"{self.name} needs to give one number per row, shape {tuple(output.shape[:1])}, "
                f"got {tuple(value.shape)}"
            )
        return value


def as_quantity(given: "Quantity | Score") -> Quantity:
    """A plain callable scores the model's output.

    Raises
    ------
    ValueError
        If it is neither a Quantity nor callable.
    """
    if isinstance(given, Quantity):
        return given
    if not callable(given):
        raise ValueError(
            f"a quantity is needed, such as class_score(3), or a callable (n, classes) -> (n,), "
            f"got {type(given).__name__}"
        )
    return Quantity(given, name=getattr(given, "__name__", "quantity"))


def class_score(c: SupportsIndex) -> Quantity:
    """The logit of class c: "why c?".

    Raises
    ------
    ValueError
        If c is no whole number, more than one, or when scored, no class.

    Examples
    --------
    >>> import torch
    >>> class_score(2)(torch.tensor([[0.1, 0.2, 0.7]]))
    tensor([0.7000])
    """
    wanted = [class_index(c)]
    return Quantity(lambda output: _columns(output, wanted)[:, 0], name=f"class {c}")


def class_index(c: SupportsIndex, classes: int | None = None) -> int:
    """The index of one class, the same for all points.

    Raises
    ------
    ValueError
        If c is no whole number, more than one, or not in [0, classes).

    Examples
    --------
    >>> import torch
    >>> class_index(torch.tensor(2), classes=3)
    2
    """
    wanted = _indices(c)
    if len(wanted) != 1:
        raise ValueError(
            f"the question is of one class, the same for all points, got {len(wanted)}: explain "
            f"the points of each class by themselves, or ask for max_class()"
        )
    if classes is not None and not 0 <= wanted[0] < classes:
        raise ValueError(f"class {wanted[0]} is asked for, the net has {classes} classes")
    return wanted[0]


def check_logits(output: Tensor) -> None:
    """Refuse outputs of which no class can be the largest.

    Raises
    ------
    ValueError
        Unless they are (n, classes) with two classes or more.

    Examples
    --------
    >>> import torch
    >>> check_logits(torch.zeros(5, 1))
    Traceback (most recent call last):
    ValueError: the model needs to give a logit for each of two classes or more, (n, classes), got \
(5, 1)
    """
    if output.ndim != 2 or output.shape[1] < 2:
        raise ValueError(
            f"the model needs to give a logit for each of two classes or more, (n, classes), got "
            f"{tuple(output.shape)}"
        )


def comparative(
    a: SupportsIndex | Sequence[SupportsIndex], b: SupportsIndex | Sequence[SupportsIndex]
) -> Quantity:
    """Mean logit of the classes a less that of the classes b: "why a and not b?".

    Raises
    ------
    ValueError
        If a side is empty, or holds no whole number, or when scored, no class.

    Examples
    --------
    >>> import torch
    >>> comparative(0, 2)(torch.tensor([[5.0, 1.0, 2.0]]))
    tensor([3.])
    """
    wanted, against = _indices(a), _indices(b)
    if not wanted or not against:
        raise ValueError("a comparative quantity needs at least one class on each side")

    def score(output: Tensor) -> Tensor:
        return _columns(output, wanted).mean(1) - _columns(output, against).mean(1)

    return Quantity(score, name=f"class {a} and not {b}")


def max_class() -> Quantity:
    """The largest logit of each row, whichever class has it there.

    Raises
    ------
    ValueError
        When scored, if the output is not (n, classes).

    Examples
    --------
    >>> import torch
    >>> max_class()(torch.tensor([[0.1, 0.2, 0.7], [0.9, 0.0, 0.1]]))
    tensor([0.7000, 0.9000])
    """

    def score(output: Tensor) -> Tensor:
        if output.ndim != 2 or not output.shape[1]:
            raise ValueError(f"top class needs logits (n, classes), got {tuple(output.shape)}")
        return output.max(1).values

    return Quantity(score, name="top class")


def unit(
    module: str, index: SupportsIndex | Sequence[SupportsIndex], over: str = "max"
) -> Quantity:
    """The activation of an internal unit.

    Parameters
    ----------
    module : dotted name
    index : channel (or unit of a dense layer), or the position (channel, row, column)
    over : "max" or "mean", how a channel becomes one number

    Raises
    ------
    ValueError
        On an unknown reduction, an index that is no whole number, or when scored, on one outside
        the layer.

    Examples
    --------
    >>> import torch
    >>> unit("features.1", 0)(torch.tensor([[[[1.0, 4.0]], [[0.0, 2.0]]]]))
    tensor([4.])
    """
    if over not in REDUCTIONS:
        raise ValueError(f"unknown reduction {over!r}; choose one of {', '.join(REDUCTIONS)}")
    where = _indices(index)

    def score(output: Tensor) -> Tensor:
        sizes = output.shape[1:]
        if len(where) > len(sizes) or any(
            not -n <= i < n for i, n in zip(where, sizes, strict=False)
        ):
            raise ValueError(f"no unit {index} in {module!r}, whose output is {tuple(sizes)}")
        value = output
        for i in where:
            value = value[:, i]
        if value.ndim == 1:
            return value
        return value.flatten(1).max(1).values if over == "max" else value.flatten(1).mean(1)

    return Quantity(score, module, f"unit {index} of {module}")


def _indices(given: SupportsIndex | Sequence[SupportsIndex]) -> list[int]:
    several = isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0  # not a scalar tensor
    parts: Iterable[SupportsIndex] = given if several else [given]  # type: ignore[assignment, list-item]
    try:
        return [_whole(i) for i in parts]
    except TypeError:
        raise ValueError(f"an index needs to be a whole number, got {given!r}") from None


def _whole(given: SupportsIndex) -> int:
    if str(getattr(given, "dtype", type(given).__name__)).endswith("bool"):
        raise TypeError("of a mask: True is no index")
    return whole(given)


def _columns(output: Tensor, classes: list[int]) -> Tensor:
    m = output.shape[1] if output.ndim == 2 else 0
    bad = [c for c in classes if not 0 <= c < m]
    if bad:
        raise ValueError(f"class {bad[0]} is asked for, the output has shape {tuple(output.shape)}")
    return output[:, classes]
