"""RS: randomized smoothing. Ask a net about many noisy copies, and certify what most of them say.

Defined in the chapter robustness/certifiers. The smoothed classifier answers with the class that
the net gives most often to x plus Gaussian noise. Its certificates hold with probability at least
1 - alpha each, over the noise that was drawn.

References
----------
Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized smoothing".
"""

import math
from collections.abc import Callable

import torch
from scipy.stats import beta, binomtest, norm
from torch import Tensor, nn

from thesis_repro.data.images import fitting, tensor
from thesis_repro.robustness.certifiers import full_precision, sliced
from thesis_repro.robustness.certifying import check_images

ABSTAIN = -1
"""The class where the samples do not suffice to name one."""


class Smooth:
    """A classifier made of another one and noise.

    Parameters
    ----------
    model : maps (batch, *shape) to scores (batch, >= num_classes); any normalisation is inside
        it, so that the noise is in units of pixels. A module is asked in eval mode.
    num_classes : classes that count
    sigma : standard deviation of the noise, > 0, in units of pixels; noisy images are not clipped

    Raises
    ------
    ValueError
        If sigma is not positive and finite or num_classes is below 2.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], num_classes: int, sigma: float) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma needs to be positive and finite, got {sigma}")
        if num_classes < 2:
            raise ValueError(f"num_classes needs to be at least 2, got {num_classes}")
        self.model = model
        self.num_classes = num_classes
        self.sigma = float(sigma)

    def predict(
        self,
        x: Tensor,
        n: int,
        alpha: float,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> int:
        """The smoothed class of one image (*shape), or ABSTAIN; wrong with probability <= alpha.

        Source: Cohen et al. 2019, Predict: a two-sided test that the two top counts are equal.
        """
        _check(alpha, n=n)
        counts = self.counts(x, n, batch_size, generator)
        top, second = counts.topk(2).values.tolist()
        sure = top > 0 and binomtest(top, top + second).pvalue <= alpha
        return int(counts.argmax()) if sure else ABSTAIN

    def certify(
        self,
        x: Tensor,
        n0: int,
        n: int,
        alpha: float,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> tuple[int, float]:
        """The smoothed class of one image and an L2 radius within which it stays.

        Parameters
        ----------
        x : (*shape), one image, pixels in [0, 1]
        n0 : samples that choose the class, >= 1
        n : other samples, that bound its probability, >= 1
        alpha : probability, in (0, 1), with which the answer may be wrong
        batch_size : noisy copies at a time; memory grows with it, not with n
        generator : of the noise, on the device of x

        Returns
        -------
        (class, radius) : (ABSTAIN, 0.0) if the bound of the probability is not above 1/2

        Raises
        ------
        ValueError
            If n0, n or batch_size is below 1, alpha outside (0, 1), a pixel outside [0, 1], the
            image no floating-point one, or the model gives fewer scores than num_classes.

        References
        ----------
        Cohen et al. 2019, Certify (section 3.2.2), with theorem 1 for p_B = 1 - p_A.
        """
        _check(alpha, n0=n0, n=n)
        chosen = int(self.counts(x, n0, batch_size, generator).argmax())
        hits = int(self.counts(x, n, batch_size, generator)[chosen])
        radius = certified_radius(hits, n, alpha, self.sigma)
        return (chosen, radius) if radius > 0 else (ABSTAIN, 0.0)

    def counts(
        self, x: Tensor, n: int, batch_size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """How often each class comes up among n noisy copies of x: (num_classes,) int64.

        A copy on which a score is NaN or infinite counts for no class.

        Raises
        ------
        ValueError
            As :meth:`certify`, of the image and of the model's scores.
        """
        x = tensor("images", x, self.model)
        check_images(x[None], tuple(x.shape))

        def work(part: slice) -> Tensor:
            size = (part.stop - part.start, *x.shape)
            noisy = torch.randn(size, generator=generator, device=x.device, dtype=x.dtype)
            with fitting(noisy):
                scores = self.model(noisy.mul_(self.sigma).add_(x))
            if scores.ndim != 2 or scores.shape[1] < self.num_classes:
                raise ValueError(
                    f"the model needs to give (batch, >= {self.num_classes}) scores, got "
                    f"{tuple(scores.shape)}"
                )
            scores = scores[:, : self.num_classes]
            said = scores.argmax(1)[scores.isfinite().all(1)]
            return torch.bincount(said, minlength=self.num_classes)

        total = torch.zeros(self.num_classes, dtype=torch.int64, device=x.device)
        if isinstance(self.model, nn.Module):
            with full_precision(self.model):
                return sum(sliced(n, batch_size, work), total)
        with torch.no_grad():
            return sum(sliced(n, batch_size, work), total)


def certified_radius(hits: int, n: int, alpha: float, sigma: float) -> float:
    """sigma Phi^-1(p), p the one-sided Clopper-Pearson bound at 1 - alpha; 0 if p <= 1/2."""
    low = float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0
    return float(sigma * norm.ppf(low)) if low > 0.5 else 0.0


def _check(alpha: float, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} needs to be at least 1, got {size}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha needs to lie in (0, 1), got {alpha}")
