"""Norms of linear layers by Lanczos iteration in float64: what proven bounds are measured against.

Close from below, so they prove nothing; a proven bound that lies little above one is tight.
"""

import math

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from thesis_repro.robustness import lipschitz
from thesis_repro.robustness.gloro import GloroNet


def operator_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The norm of a linear layer for inputs of `shape`, by Lanczos iteration in float64.

    At most the true norm, up to rounding, and below it by a relative 1e-8 or so: no proof.

    Raises
    ------
    scipy.sparse.linalg.ArpackNoConvergence
        If it does not converge.
    """
    size = math.prod(shape)

    def gram(vector: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(vector)).view(1, *shape)
        with torch.no_grad():
            y = lipschitz.adjoint_map(layer, lipschitz.linear_map(layer, x), shape)
        return y.flatten().numpy()

    operator = LinearOperator((size, size), matvec=gram, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    found = eigsh(operator, k=1, v0=start, tol=1e-8, return_eigenvectors=False)
    return math.sqrt(float(found[0]))


def linear_layers(net: GloroNet) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Layers with weights before the last, each with the shape of its input."""
    chain = list(lipschitz.named_layers(net.body, net.input_shape))[:-1]
    return [(layer, shape) for _, layer, shape in chain if hasattr(layer, "weight")]


def converged(net: GloroNet) -> float:
    """The product of the layers' norms before the last: the limit of power iteration, for K."""
    return math.prod(operator_norm(layer, shape) for layer, shape in linear_layers(net))
