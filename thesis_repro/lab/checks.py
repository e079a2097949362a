"""Refuse numbers that cannot be ranked, where they enter.

NaN is neither above nor below any number, and yet sorts as the largest: a ranking that is handed
one puts it first and says nothing.
"""

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHOLE = "iub"  # kinds of numpy's dtypes that hold whole numbers
ROUNDED = 1e-6
"""How far rounding may put a probability outside [0, 1]."""


def finite(name: str, values: Any) -> None:
    """Refuse NaN and infinity.

    Parameters
    ----------
    name : of the argument, for the message
    values : number, array or tensor; its first axis has the rows

    Raises
    ------
    ValueError
        Naming the argument, the first row that is not finite, and how many values are not.
    """
    found = values.detach() if hasattr(values, "detach") else np.asarray(values, float)
    good = found.isfinite() if hasattr(found, "isfinite") else np.isfinite(found)
    if good.all():
        return
    bad = np.argwhere(~_array(good))
    at = tuple(bad[0].tolist())
    if not at:
        raise ValueError(f"{name}: got {float(found)}, a finite number is needed")
    place = f" (at {list(at)})" if len(at) > 1 else ""
    raise ValueError(
        f"{name}: got {float(found[at])} in row {at[0]}{place}, finite numbers are needed; "
        f"{len(bad)} of {len(_array(good).ravel())} are not"
    )


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least so much, as an int; True is none.

    Raises
    ------
    ValueError
        Naming the argument, on anything else.

    Examples
    --------
    >>> whole("batch_size", np.int64(5))
    5
    """
    try:
        found = index(value)
    except TypeError:
        found = least - 1
    if found < least or isinstance(value, bool):
        raise ValueError(f"{name} needs to be a whole number of at least {least}, got {value!r}")
    return found


def labels(name: str, values: Any, classes: int | None = None) -> None:
    """Refuse what is no index of a class.

    Parameters
    ----------
    name : of the argument, for the message
    values : (n,) array or tensor of whole numbers, n >= 1
    classes : the labels lie in [0, classes); without it, in [0, ...)

    Raises
    ------
    ValueError
        Naming the argument and the first row whose label is out of range, or the type of labels
        that are no whole numbers; or if there are none.
    """
    found = _array(values)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"{name} need shape (n,) with n >= 1, got {found.shape}")
    if found.dtype.kind not in _WHOLE:
        raise ValueError(f"{name} need to be whole numbers, got {found.dtype}")
    bad = np.flatnonzero((found < 0) | (found >= (np.inf if classes is None else classes)))
    if len(bad):
        upper = "..." if classes is None else classes
        raise ValueError(
            f"{name} need to lie in [0, {upper}), got {found[bad[0]]} in row {bad[0]}; "
            f"{len(bad)} of {len(found)} do not"
        )


def truth(name: str, values: Any) -> NDArray[np.bool_]:
    """Yes or no for each point, as an array of bool.

    Parameters
    ----------
    name : of the argument, for the message
    values : array or tensor of True and False, or of 1 and 0

    Raises
    ------
    ValueError
        Naming the argument, on anything else: every other number would count as True.

    Examples
    --------
    >>> truth("member", [1, 0])
    array([ True, False])
    >>> truth("claimed", [0.3, 0.9])
    Traceback (most recent call last):
    ValueError: claimed: got 0.3, only True and False, or 1 and 0, say yes or no
    """
    found = _array(values)
    if found.dtype == np.bool_:
        return found
    if found.dtype.kind == "f":
        finite(name, found)
    if found.size and (found.dtype.kind not in "iuf" or not np.isin(found, (0, 1)).all()):
        odd = next(one for one in found.ravel().tolist() if one not in (0, 1) or found.dtype == "O")
        raise ValueError(f"{name}: got {odd!r}, only True and False, or 1 and 0, say yes or no")
    return np.asarray(found, bool)


def shares(name: str, values: Any) -> None:
    """Refuse what is no probability, as logits and percentages are not.

    Raises
    ------
    ValueError
        Naming the argument, on a number that is not finite, or outside [0, 1].
    """
    finite(name, values)
    found = _array(values)
    if found.size and not (found.min() >= -ROUNDED and found.max() <= 1 + ROUNDED):
        raise ValueError(
            f"{name} need to lie in [0, 1], got values from {found.min():.3g} to {found.max():.3g}"
        )


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)
