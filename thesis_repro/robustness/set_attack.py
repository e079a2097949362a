"""An attack on guaranteed sets: push a label out of the set, or an outsider in."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from thesis_repro.data.images import images
from thesis_repro.robustness import attacks
from thesis_repro.robustness.gloro import GloroNet
from thesis_repro.robustness.outputs import Model, ask, check_search
from thesis_repro.robustness.relaxed import SetCertificate
from thesis_repro.robustness.structure import check_epsilon, check_given


def pgd_sets(
    model: Model,
    x: Tensor,
    inside: Tensor,
    epsilon: float | Tensor,
    steps: int,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD on the smallest logit inside a set minus the largest outside; as `attacks.pgd_l2`.

    Parameters
    ----------
    model : callable, images to logits (batch, classes)
    x : (n, ...) in [0, 1]
    inside : (n, classes) bool
        The set of each point, neither empty nor all classes.
    epsilon : radius > 0, one for all or (n,)
    steps, restarts : >= 1
    generator : for the random starts; seed 0 without it

    Returns
    -------
    (n, ...)
        For each point the first iterate at which the set is no longer on top, else the iterate
        that came nearest to it; within epsilon of x and in [0, 1].

    Raises
    ------
    ValueError
        On a mask of another shape, an empty or full set, steps or restarts below 1, epsilon <= 0
        or infinite, or pixels outside [0, 1].
    """
    x, radius, _ = check_search(model, x, epsilon, steps, restarts)
    inside = inside.to(x.device)
    sizes = inside.sum(1)
    if len(inside) != len(x) or not len(x) or not ((sizes > 0) & (sizes < inside.shape[1])).all():
        raise ValueError(
            f"need one set per image, neither empty nor full: got {len(inside)} sets of "
            f"{sizes.tolist()[:5]}… labels of {inside.shape[1]} for {len(x)} images"
        )

    def judge(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        margin = separation(logits, inside[rows])
        return margin, ~(margin > 0)  # NaN counts as fallen

    generator = generator or torch.Generator(x.device).manual_seed(0)
    return attacks.descend(model, x, judge, radius, steps, restarts, generator)


def separation(logits: Tensor, inside: Tensor) -> Tensor:
    """Smallest logit inside the set minus the largest outside; positive where the set is on top.

    logits (n, classes), inside (n, classes) bool to (n,); NaN where a logit is not finite.
    """
    weakest = logits.masked_fill(~inside, torch.inf).amin(1)
    gap = weakest - logits.masked_fill(inside, -torch.inf).amax(1)
    return torch.where(logits.isfinite().all(1), gap, torch.nan)


def break_sets(
    net: GloroNet,
    x: Tensor,
    certificate: SetCertificate,
    *,
    epsilon: float | None = None,
    steps: int,
    restarts: int,
    generator: torch.Generator | None = None,
    smallest: int | None = None,
) -> dict[str, Any]:
    """Attack every guaranteed set of every point; one success refutes the bound.

    A point with several guaranteed k is attacked once for each.

    Parameters
    ----------
    net : GloroNet
    x : (n, *input_shape) in [0, 1]
    certificate : what `relaxed.certify` said of x
    epsilon : the radius of the certificate; the net's own by default
    steps, restarts : of :func:`pgd_sets`
    smallest : attack only this many sets, those of the smallest margins

    Returns
    -------
    dict
        attacked (int), broken (int), smallest_margin (float; infinite where nothing is guaranteed).

    Raises
    ------
    ValueError
        If the certificate is of another number of images, or promises less than epsilon; as
        :func:`pgd_sets`.
    """
    check_given(net)
    x = images(x, net.input_shape, net.body)
    if len(x) != len(certificate.order):
        raise ValueError(f"a certificate of {len(certificate.order)} images is not of {len(x)}")
    rows, columns = certificate.guaranteed.nonzero(as_tuple=True)
    margins = certificate.margin[rows, columns]
    order = margins.argsort(stable=True)[:smallest]
    if not len(order):
        return {"attacked": 0, "broken": 0, "smallest_margin": float("inf")}
    rows, k = rows[order], columns[order] + 1
    inside = replace(certificate, order=certificate.order[rows]).sets(k)
    radius = check_epsilon(net.epsilon if epsilon is None else epsilon)
    if (promised := float(certificate.radii[rows, columns[order]].min())) < (1 - 1e-9) * radius:
        raise ValueError(
            f"the certificate promises a set up to {promised:.3g} alone, which is less than "
            f"epsilon={radius:.3g}: give the epsilon that it was made for"
        )
    found = pgd_sets(net.body, x[rows], inside, radius, steps, restarts, generator)
    after = ask(net.body, found)
    return {
        "attacked": len(order),
        "broken": int((~(separation(after, inside) > 0)).sum()),
        "smallest_margin": margins[order[0]].item(),
    }
