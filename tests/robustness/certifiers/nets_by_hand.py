"""Small nets, and what is true of them by brute force."""

import itertools

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import nn

CUT = 1e-5
"""Relative: how far outside the ball an answer of the cutting planes may lie."""


def random_net(seed, sizes=(3, 4, 3), dtype=torch.float64):
    """A dense ReLU net with random weights and biases, in float64."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(fan_out, fan_in, generator=generator, dtype=dtype))
            layer.bias.copy_(0.5 * torch.randn(fan_out, generator=generator, dtype=dtype))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights(net):
    return [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in net
        if isinstance(layer, nn.Linear)
    ]


def patterns(net):
    """For each pattern of a two-layer net: half-spaces (A, b) with A x <= b, and x -> C x + d."""
    (w1, b1), (w2, b2) = weights(net)
    for pattern in itertools.product((0.0, 1.0), repeat=len(b1)):
        on = np.array(pattern)
        sign = np.where(on == 1, -1.0, 1.0)  # on: -(w x + b) <= 0
        yield sign[:, None] * w1, -sign * b1, w2 @ (on[:, None] * w1), w2 @ (on * b1) + b2


def exact_distance(net, x):
    """The L2 distance from x to the nearest point with another label: the exact radius.

    For each activation pattern and each rival, the nearest point of a polyhedron.
    """
    own = int(net(x).argmax())
    x = x.detach().double().numpy().ravel()
    best = np.inf
    for a, b, c, d in patterns(net):
        for rival in range(len(d)):
            if rival != own:
                faces = np.vstack([a, (c[own] - c[rival])[None]])
                offsets = np.append(b, d[rival] - d[own])
                best = min(best, _distance_to(faces, offsets, x))
    return best


def _distance_to(a, b, x):
    """min ||z - x|| with a z <= b, infinite if there is no such z.

    Least distance programming by non-negative least squares (Lawson and Hanson 1974, chapter 23).
    """
    g, h = -a, a @ x - b  # g y >= h for y = z - x
    target = np.append(np.zeros(len(x)), 1.0)
    system = np.vstack([g.T, h])
    u, left = nnls(system, target, maxiter=1000)
    if left < 1e-9:
        return np.inf
    residual = system @ u - target
    return float(np.linalg.norm(residual[:-1] / residual[-1]))


def _over_ball(cost, a, b, bounds, x, epsilon):
    """min cost.p with a p <= b, bounds, and the first coordinates of p within epsilon of x.

    The ball is cut from outside: a tangent plane where the last answer left it, until none does.
    Returns infinity if nothing is feasible.
    """
    inputs = len(x)
    for _ in range(200):
        solved = linprog(cost, a, b, bounds=bounds)
        if solved.status != 0:
            return np.inf
        away = solved.x[:inputs] - x
        length = np.linalg.norm(away)
        if length <= epsilon * (1 + CUT):
            return solved.fun
        normal = away / length
        a = np.vstack([a, np.append(normal, np.zeros(a.shape[1] - inputs))])
        b = np.append(b, normal @ x + epsilon)
    raise AssertionError("the cuts do not converge")


def exact_minimum(net, x, epsilon, c):
    """min of c.f over the L2 ball, over all activation patterns (linear on each)."""
    x = x.detach().double().numpy().ravel()
    box = [*zip(x - epsilon, x + epsilon, strict=True)]
    return min(
        _over_ball(c @ slope, a, b, box, x, epsilon) + c @ constant
        for a, b, slope, constant in patterns(net)
    )


def pre_activations(net, x, epsilon, norm):
    """Exact bounds of the first layer over the ball."""
    (w1, b1), _ = weights(net)
    x = x.detach().double().numpy().ravel()
    reach = epsilon * np.linalg.norm(w1, 2 if norm == 2 else 1, axis=1)
    return w1 @ x + b1 - reach, w1 @ x + b1 + reach


def triangle_minimum(net, x, epsilon, c, norm):
    """min of c.f over the triangle relaxation of a two-layer net, bounds exact.

    Variables: inputs z, then outputs v with v >= 0, v >= w z + b, v <= u (w z + b - l) / (u - l).
    """
    (w1, b1), (w2, b2) = weights(net)
    low, high = pre_activations(net, x, epsilon, norm)
    x = x.detach().double().numpy().ravel()
    inputs, hidden = w1.shape[1], len(b1)
    rows, ends = [], []
    for unit in range(hidden):
        row = np.zeros(inputs + hidden)
        if high[unit] <= 0:
            row[inputs + unit] = 1.0
            rows.append(row), ends.append(0.0)
            continue
        row[:inputs], row[inputs + unit] = w1[unit], -1.0
        rows.append(row.copy()), ends.append(-b1[unit])
        slope = 1.0 if low[unit] >= 0 else high[unit] / (high[unit] - low[unit])
        offset = 0.0 if low[unit] >= 0 else low[unit]
        row[:inputs], row[inputs + unit] = -slope * w1[unit], 1.0
        rows.append(row), ends.append(slope * (b1[unit] - offset))
    a, b = np.array(rows), np.array(ends)
    cost = np.concatenate([np.zeros(inputs), c @ w2])
    box = [*zip(x - epsilon, x + epsilon, strict=True), *[(0.0, None)] * hidden]
    if norm == 2:
        return _over_ball(cost, a, b, box, x, epsilon) + c @ b2
    return linprog(cost, a, b, bounds=box).fun + c @ b2


def fixed_slope_minimum(net, x, epsilon, c, norm):
    """min of c.f when each open ReLU lies between its two parallel lines: unit by unit, by hand."""
    (w1, b1), (w2, b2) = weights(net)
    low, high = pre_activations(net, x, epsilon, norm)
    x = x.detach().double().numpy().ravel()
    linear, constant = np.zeros_like(x), float(c @ b2)
    for unit, weight in enumerate(c @ w2):
        if high[unit] <= 0:
            continue
        slope, lift = 1.0, 0.0
        if low[unit] < 0:
            slope = high[unit] / (high[unit] - low[unit])
            lift = -slope * low[unit] if weight < 0 else 0.0
        linear += weight * slope * w1[unit]
        constant += weight * (slope * b1[unit] + lift)
    return constant + linear @ x - epsilon * np.linalg.norm(linear, 2 if norm == 2 else 1)
