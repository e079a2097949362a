"""Whitening: features less the mean of their class, over their covariance within classes."""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from thesis_repro.data.images import labels as as_labels
from thesis_repro.data.images import tensor
from thesis_repro.lab import checks


@dataclass
class Whitening:
    """Centre features per class, and divide by their covariance within classes.

    The covariance S is pooled over classes and gets `ridge` times its mean eigenvalue on its
    diagonal. In the Gaussian case this is the weight 1/variance of the best attack; in a net it
    takes out the directions in which all points push the weights.

    Parameters
    ----------
    ridge : >= 0; stands for the random start of the weights, which is noise too

    Examples
    --------
    >>> features, labels = torch.rand(20, 3), torch.arange(20) % 2
    >>> Whitening().fit(features, labels, 2).transform(features, labels).shape
    torch.Size([20, 3])
    """

    ridge: float = 0.1
    means: Tensor = field(default_factory=lambda: torch.zeros(0))
    inverse: Tensor = field(default_factory=lambda: torch.zeros(0))

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Self:
        """Estimate from the adversary's points: features (n, ...), labels (n,).

        Raises
        ------
        ValueError
            If a class is absent, a feature is not finite, a label is none, or the covariance
            cannot be inverted.
        """
        features = tensor("features", features)
        labels = as_labels("labels", labels, features, classes)
        checks.finite("features", features)
        flat = features.flatten(1).double()
        count = torch.bincount(labels, minlength=classes)
        if (count == 0).any():
            absent = int((count == 0).nonzero()[0])
            raise ValueError(
                f"class {absent} is absent from the points that whitening is fitted on"
            )
        sums = torch.zeros(classes, flat.shape[1], dtype=torch.float64, device=flat.device)
        self.means = sums.index_add_(0, labels, flat) / count[:, None]
        centred = flat - self.means[labels]
        covariance = centred.T @ centred / len(flat)
        covariance.diagonal().add_(self.ridge * covariance.diagonal().mean())
        try:
            self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        except RuntimeError as error:
            raise ValueError(
                f"the covariance of {flat.shape[1]} features over {len(flat)} points is singular; "
                f"whitening needs ridge > 0 or more points"
            ) from error
        return self

    def transform(self, features: Tensor, labels: Tensor) -> Tensor:
        """S^-1 (h - class mean), shaped like the features (n, ...).

        Raises
        ------
        ValueError
            If it is not fitted, a feature is not finite, or a label is none.
        """
        if not len(self.means):
            raise ValueError("whitening needs to be fitted before it transforms")
        features = tensor("features", features)
        labels = as_labels("labels", labels, features, len(self.means))
        checks.finite("features", features)
        centred = features.flatten(1).double() - self.means[labels]
        return (centred @ self.inverse).to(features.dtype).reshape(features.shape)
