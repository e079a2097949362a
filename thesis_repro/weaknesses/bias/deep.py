"""The remedies for a hidden layer: units take the place of features, influence that of weights."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from thesis_repro.data.images import fitting, tensor
from thesis_repro.explanations.experts import masked
from thesis_repro.explanations.influence import comparative, empirical, internal_influence
from thesis_repro.explanations.modules import evaluating, untouched
from thesis_repro.explanations.slicing import Cut
from thesis_repro.lab.checks import finite
from thesis_repro.weaknesses.bias.masks import Mask, search_experts, search_linear_experts


def unit_influence(
    model: nn.Module, x: Tensor, slice: str, batch_size: int = 256
) -> NDArray[np.float64]:
    """Influence of each unit of a layer on "class 1 and not class 0", over the images x.

    The distribution of interest is x as a whole, so x should be the training set. A feature map
    counts as one unit: the mean over its positions.

    Parameters
    ----------
    model : nn.Module with two logits, in eval mode
    x : (n, c, h, w)
    slice : dotted name of the layer

    Returns
    -------
    (units,) float64; positive speaks for class 1

    Raises
    ------
    ValueError
        If the model has other than two classes, or as `internal_influence` does; on nn.Linear that
        gives tokens.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    >>> with torch.no_grad():
    ...     _ = net[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]]))
    >>> unit_influence(net, torch.rand(3, 1, 2, 2), "0")
    array([-1.,  2.,  0.,  0.])
    """
    x = _two_classes(model, x)
    found = internal_influence(
        model, x[:1], slice, comparative(1, 0), empirical([x]), batch_size=batch_size
    )
    Cut(model, slice).check_units(found)
    found = found[0].double().cpu()
    return found.flatten(1).mean(1).numpy() if found.ndim > 1 else found.numpy()


def _two_classes(model: nn.Module, x: Tensor) -> Tensor:
    x = tensor("images", x, model)
    if not len(x):
        raise ValueError("no images were given")
    finite("x", x)
    evaluating(model)  # before the first pass, which would move running statistics
    with fitting(x), torch.no_grad():
        shape = tuple(model(x[:1]).shape[1:])
    if shape != (2,):
        raise ValueError(f"bias needs a model with two logits, got outputs of shape {shape}")
    return x


class HiddenLayer:
    """One layer of a two-class net, with its activations on a set of images computed once.

    Parameters
    ----------
    model : nn.Module with two logits, in eval mode
    slice : dotted name of the layer whose units are masked
    x : (n, c, h, w)

    Raises
    ------
    ValueError
        If the model has other than two classes or is in training mode, there is no such layer, or
        an image or an activation is not finite; on nn.Linear that gives tokens.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    >>> layer = HiddenLayer(net, "0", torch.rand(3, 1, 2, 2))
    >>> layer.units, layer.scores().shape
    (4, (3,))
    >>> layer.scores(np.zeros(4, bool))  # no unit is left
    array([0., 0., 0.])
    """

    def __init__(self, model: nn.Module, slice: str, x: Tensor, batch_size: int = 256) -> None:
        x = _two_classes(model, x)
        self.cut = Cut(model, slice)
        self.x, self.batch_size = x, batch_size
        self.z = self.cut.activations(x, batch_size)
        self.cut.check_units(self.z)
        finite(f"the activations of {slice!r}", self.z)

    @property
    def units(self) -> int:
        """Number of units: channels of a convolution, units of a dense layer."""
        return self.z.shape[1]

    def scores(self, mask: Mask | None = None) -> NDArray[np.float64]:
        """Logit 1 less logit 0 of each image, (n,), with the units outside the mask at zero.

        The stored activations are never changed, so masks do not accumulate.

        Raises
        ------
        ValueError
            If the mask has another length than the layer has units, or a logit is not finite.
        """
        z = self.z if mask is None else masked(self.z, torch.from_numpy(mask))
        logits = self.cut.output(z, self.x, self.batch_size)
        finite("the model's logits", logits)
        return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()

    def all_scores(self, masks: Mask) -> NDArray[np.float64]:
        """Scores (k, n) under each of the masks (k, units), k >= 1.

        Raises
        ------
        ValueError
            As :meth:`scores`, and without a mask.
        """
        if not len(masks):
            raise ValueError("scores need at least one mask, got none")
        return np.stack([self.scores(mask) for mask in masks])

    def experts(self, influence: ArrayLike, labels: ArrayLike) -> tuple[int, int]:
        """The (alpha, beta) with the least bias on these images, of all pairs of counts.

        As :func:`search_experts`; by prefix sums where all that follows is one linear layer.

        Parameters
        ----------
        influence : (units,)
        labels : (n,) of 0 and 1

        Raises
        ------
        ValueError
            As :func:`search_experts`.
        """
        rest = self.cut.after
        last = rest[0] if isinstance(rest, nn.Sequential) and len(rest) == 1 else None
        if type(last) is not nn.Linear or not untouched(last) or self.z.ndim != 2:
            return search_experts(influence, labels, self.all_scores)
        weights = last.weight.detach().double().diff(dim=0)[0]
        offset = 0.0 if last.bias is None else float(last.bias.detach().double().diff())
        contributions = (self.z.double() * weights).cpu().numpy()
        return search_linear_experts(influence, labels, contributions, offset)
