"""Whoever asks a net for outputs asks it in eval mode, and gives modes and buffers back."""

import copy
import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

from thesis_repro import nets, robustness
from thesis_repro.robustness import (
    GloroNet,
    arithmetic,
    attacks,
    batches,
    boundary,
    certificate,
    certifiers,
    certifying,
    estimates,
    forward,
    layer_rounding,
    layers,
    lipschitz,
    outputs,
    paths,
    products,
    relaxed,
    rounding,
    rules,
    set_attack,
    structure,
    threats,
    tightness,
    transformations,
)
from thesis_repro.robustness.certifiers import bcp, dual, lines
from thesis_repro.robustness.certifiers.smoothing import Smooth

SHAPE = (1, 6, 6)
NAMES = {"net", "model", "body", "layer", "head", "branch", "chain", "conv"}
"""How a parameter that is a net, or a part of one, is called in this package."""


def body():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nets.Residual(nn.BatchNorm2d(4), nn.Dropout(0.3)),
        nn.Flatten(),
        nn.Dropout(0.9),
        nn.Linear(144, 3),
    )
    for module in layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return layers


def plain_body():
    """Layers that BCP and KW know; none depends on its mode, but each has one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def net():
    return GloroNet(body(), 0.01, SHAPE)


def plain_net():
    return plain_body()


def relaxed_net():
    return relaxed.RelaxedNet(body(), 0.01, SHAPE, relaxed.up_to(2))


def seeded():
    return torch.Generator().manual_seed(3)


X = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1))
FADING = transformations.brightness(-5, 5)
ASSERTED = paths.Proved(
    torch.zeros(12, dtype=torch.int64),
    -torch.ones(12, dtype=torch.float64),
    torch.ones(12, dtype=torch.float64),
    paths.Balls(*[torch.zeros(0)] * 4),
)
Y = torch.arange(12) % 3


def sets_broken(n):
    found = relaxed.certify(n, X, k=2)
    return set_attack.break_sets(n, X, found, steps=3, restarts=2, generator=seeded())


def written(n, tmp_path):
    found = certifying.certify(n, X)
    certificate.write(tmp_path / "c.json", n, found, X)
    return (tmp_path / "c.json").read_text()


def net_written(n, tmp_path):
    return certificate.write_net(tmp_path / "n.safetensors", n).read_bytes()


def inside(context):
    def outputs_there(n):
        with context(n), torch.no_grad():
            return n(X)

    return outputs_there


def bcp_region(n):
    chain = certifiers.parts(n, X, 0.1, bcp.KNOWN)[:-1]
    with torch.no_grad():
        return bcp.region(chain, bcp.prepare(n, SHAPE), X, 0.1)


def dual_slopes(n):
    with torch.no_grad():
        return dual.relaxed(dual._chain(n, X, 0.1, 2.0), dual.Ball(X, 0.1, 2.0))


def hulls(n):
    with torch.no_grad():
        hull = lines.hull_of(lines.Ball(X, 0.1, 2.0)).through(n[0], SHAPE, 2.0)
        return hull.through(n[3], (2, 2, 2), 2.0).through(n[4], (8,), 2.0)


def inner_inputs(n):
    return [(name, shape) for name, _, shape in layers.named_layers(n, SHAPE)]


ONE_OF = torch.tensor([[True, False, False]]).expand(12, 3)

CASES = {
    "attacks.break_certificates": (
        net,
        lambda n: attacks.break_certificates(n, X, steps=3, restarts=2),
    ),
    "attacks.closest": (
        body,
        lambda n: attacks.closest(n, X, Y, torch.full((12,), 0.1), rounds=2, steps=5),
    ),
    "attacks.descend": (
        body,
        lambda n: attacks.descend(
            n, X, lambda z, _: (z[:, 0], z[:, 0] < 0), torch.full((12,), 0.1), 3, 1, seeded()
        ),
    ),
    "attacks.pgd_l2": (body, lambda n: attacks.pgd_l2(n, X, Y, 0.5, 4, 2)),
    "batches.size": (body, lambda n: batches.size(n, X.repeat(2, 1, 1, 1))),
    "boundary.search": (net, lambda n: boundary.search(n, X, pairs=9, generator=seeded())),
    "certifiers.bcp.certify": (plain_net, lambda n: bcp.certify(n, X, 0.05)),
    "certifiers.bcp.margins": (plain_net, lambda n: bcp.margins(n, X, 0.05)),
    "certifiers.bcp.prepare": (plain_net, lambda n: bcp.prepare(n, SHAPE).layers["0"].rows),
    "certifiers.bcp.region": (plain_net, bcp_region),
    "certifiers.dual.certify": (plain_net, lambda n: dual.certify(n, X, 0.05)),
    "certifiers.dual.lower": (plain_net, lambda n: dual.lower(n, X, 0.05, torch.eye(3))),
    "certifiers.dual.margins": (plain_net, lambda n: dual.margins(n, X, 0.05)),
    "certifiers.dual.relaxed": (plain_net, dual_slopes),
    "certifiers.dual.sent": (plain_net, lambda n: dual.sent(n, X, 0.05)),
    "certifiers.lines.Hull.through": (plain_net, hulls),
    "certifiers.full_precision": (body, inside(certifiers.full_precision)),
    "certifiers.normalised": (plain_net, lambda n: certifiers.normalised(n).exponent),
    "certifiers.parts": (
        plain_net,
        lambda n: [p[2] for p in certifiers.parts(n, X, 1.0, bcp.KNOWN)],
    ),
    "certifiers.Normalised.lost": (
        plain_net,
        lambda n: certifiers.normalised(n).lost(certifiers.parts(n, X, 1.0, bcp.KNOWN), 1.0),
    ),
    "certifiers.Normalised.parts": (
        plain_net,
        lambda n: len(certifiers.normalised(n).parts(certifiers.parts(n, X, 1.0, bcp.KNOWN))),
    ),
    "certifiers.smoothing.Smooth.certify": (
        body,
        lambda n: Smooth(n, 3, 0.1).certify(X[0], 20, 20, 0.1, 7, seeded()),
    ),
    "certifiers.smoothing.Smooth.counts": (
        body,
        lambda n: Smooth(n, 3, 0.1).counts(X[0], 50, 7, seeded()),
    ),
    "certifiers.smoothing.Smooth.predict": (
        body,
        lambda n: Smooth(n, 3, 0.1).predict(X[0], 50, 0.1, 7, seeded()),
    ),
    "certifying.bound": (body, lambda n: certifying.bound(n, SHAPE).k_ij),
    "certifying.certify": (net, lambda n: certifying.certify(n, X)),
    "certifying.in_batches": (
        net,
        lambda n: certifying.in_batches(n, X, 5, lambda logits, norms: (logits, norms)),
    ),
    "certifying.closer": (net, lambda n: certifying.closer(n, n.bound())),
    "certifying.ready": (net, lambda n: certifying.ready(n, X, 0.1)),
    "certifying.measure": (net, lambda n: certifying.measure(n, X, 0.1)),
    "certificate.architecture": (net, certificate.architecture),
    "certificate.packed": (net, certificate.packed),
    "certificate.write": (net, written),
    "certificate.write_net": (net, net_written),
    "arithmetic.evaluated": (body, inside(arithmetic.evaluated)),
    "arithmetic.exact": (body, inside(arithmetic.exact)),
    "estimates.factors": (body, lambda n: estimates.factors(n[:-1], SHAPE)),
    "forward.part_pass": (body, lambda n: forward.part_pass(n, X)),
    "gloro.GloroNet.bound": (net, lambda n: n.bound()),
    "gloro.GloroNet.predict": (net, lambda n: n.predict(X)),
    "lipschitz.layer_bound": (body, lambda n: lipschitz.layer_bound("", n, SHAPE)),
    "lipschitz.upper_bound": (body, lambda n: lipschitz.upper_bound(n, SHAPE)),
    "lipschitz.estimate": (body, lambda n: lipschitz.estimate(n[0], SHAPE, 3)),
    "paths.certify_path": (net, lambda n: paths.certify_path(n, X, FADING).low),
    "paths.broken": (
        net,
        lambda n: paths.broken(n, X, FADING, ASSERTED, 3),
    ),
    "outputs.ask": (body, lambda n: outputs.ask(n, X, 5)),
    "threats.l1": (body, lambda n: threats.l1(n, X, Y, 2.0, 3)),
    "threats.linf": (body, lambda n: threats.linf(n, X, Y, 0.1, 3)),
    "threats.patch": (body, lambda n: threats.patch(n, X, Y, 2, 3, 2)),
    "threats.turned": (body, lambda n: threats.turned(n, X, Y, 20.0, 5)),
    "tightness.steepest": (net, lambda n: tightness.steepest(n, X, steps=3)),
    "relaxed.RelaxedNet.predict": (relaxed_net, lambda n: n.predict(X)),
    "products.through": (body, lambda n: products.through(n, X).detach()),
    "relaxed.certify": (net, lambda n: relaxed.certify(n, X, k=2)),
    "layer_rounding.errors": (
        body,
        lambda n: layer_rounding.errors(n, SHAPE, 1.0, [torch.float32, torch.float64]),
    ),
    "rounding.analyse": (body, lambda n: rounding.analyse(n, SHAPE, [1.0] * 8, n[-1]).distances),
    "rules.fixed": (body, lambda n: rules.fixed("", n[2], (4, 6, 6))),
    "rules.bound_of": (body, lambda n: rules.bound_of("", n, SHAPE, "auto", 0.1)),
    "set_attack.break_sets": (net, sets_broken),
    "set_attack.pgd_sets": (body, lambda n: set_attack.pgd_sets(n, X, ONE_OF, 0.5, 4, 2)),
    "structure.Snapshot.matches": (
        body,
        lambda n: structure.snapshot(n, SHAPE).matches(n, SHAPE),
    ),
    "layers.check_shape": (body, lambda n: layers.check_shape("", n, SHAPE)),
    "layers.named_layers": (body, inner_inputs),
}

IN_TRAINING = {
    "attainable.ByDistance.certified": "distances from points: no mode changes them",
    "attainable.ByDistance.forward": "distances from points: no mode changes them",
    "interchange.to_onnx": "exports a copy in eval mode",
    "batched.agrees": "compares two estimates for training; reads weights",
    "batched.power": "an estimate for training; reads weights",
    "gloro.EstimatedNet.iterate_at_once": "chooses how an estimate for training is made",
    "estimates.product": "an estimate for training; reads weights",
    "gloro.EstimatedNet.bottom": "of given logits, by the estimate",
    "gloro.EstimatedNet.forward": "what is trained: its answer depends on the mode by definition",
    "gloro.EstimatedNet.k_ij": "an estimate for training; reads weights",
    "gloro.EstimatedNet.k_sub": "an estimate for training; reads weights",
    "gloro.GloroNet.k_ij": "an estimate in training, the bound in eval mode",
    "recipes.fit": "trains, and gives the net in eval mode",
    "relaxed.EstimatedRelaxedNet.bottom": "as that of EstimatedNet",
}
READ_WEIGHTS = {
    "structure.check_given",
    "outputs.check_search",
    "lanczos.converged",
    "lanczos.linear_layers",
    "lanczos.operator_norm",
    "certifiers.backward.bounds",
    "certifiers.backward.chosen_units",
    "certifiers.backward.correlated",
    "certifiers.backward.every_unit",
    "certifiers.compared",
    "certifiers.projections.estimated",
    "certifiers.row_lengths",
    "certifiers.windows.Window.through",
    "certifiers.windows.bounds",
    "certifiers.windows.fit",
    "certifiers.windows.together",
    "models.save",
    "models.write",
    "own.check_fits",
    "forward.absolute_of",
    "rounding.classes_of",
    "rounding.dense_from",
    "rounding.head_rows",
    "forward.rounds",
    "rules.batch_norm_terms",
    "rules.linear_residual",
    "rules.merged",
    "structure.check_certifiable",
    "structure.check_net",
    "structure.described",
    "structure.check_unmodified",
    "structure.check_windows",
    "structure.precision",
    "structure.snapshot",
    "structure.tensors",
    "layers.adjoint_map",
    "layers.zero_padded",
    "layers.convolutions",
    "layers.linear_map",
    "layers.padding_of",
    "layers.linear_head",
    "layers.reweighted",
    "layers.head_weight",
}
"""These call no module; the source is looked at."""


def callables():
    """Name and function of all that is public in the package, methods included."""
    for found in pkgutil.walk_packages(robustness.__path__, "thesis_repro.robustness."):
        module = importlib.import_module(found.name)
        stem = found.name.removeprefix("thesis_repro.robustness.")
        if stem.startswith("checker"):
            continue  # numpy alone: it takes no module
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != found.name:
                continue
            if inspect.isfunction(value):
                yield f"{stem}.{name}", inspect.unwrap(value), None
            elif inspect.isclass(value):
                for inner, method in vars(value).items():
                    if inspect.isfunction(method) and not inner.startswith("_"):
                        yield f"{stem}.{name}.{inner}", method, value


def taking_nets():
    for name, function, owner in callables():
        given = {
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if "Convolution" not in str(parameter.annotation)  # numbers, no module
        }
        if given & NAMES or (owner and (issubclass(owner, nn.Module) or owner is Smooth)):
            yield name, function


def test_every_public_function_that_takes_a_net_is_tried():
    found = {name for name, _ in taking_nets()}
    covered = set(CASES) | set(IN_TRAINING) | READ_WEIGHTS
    assert found - covered == set(), "say how each of these asks a net: add a case"
    assert covered - found == set()


def test_those_that_only_read_weights_call_no_module():
    for name, function in taking_nets():
        if name in READ_WEIGHTS:
            source = inspect.getsource(function)
            for called in NAMES & set(inspect.signature(function).parameters):
                assert f"{called}(" not in source.partition("\n")[2], name


def state(model):
    return (
        [module.training for module in model.modules()],
        [(name, value.clone()) for name, value in model.named_buffers()],
        [(name, value.detach().clone()) for name, value in model.named_parameters()],
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("name", CASES)
def test_the_mode_is_eval_inside_and_all_is_as_before(name, tmp_path):
    make, ask = CASES[name]
    model = make()
    given = (tmp_path,) if ask in (written, net_written) else ()
    expected = ask(copy.deepcopy(model).eval(), *given)
    model.train()
    frozen = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d | nn.ReLU))
    frozen.eval()
    before = state(model)
    found = ask(model, *given)
    assert same(before, state(model))
    assert not frozen.training and model.training
    assert same(expected, found)


def test_modes_come_back_after_an_error():
    model = body().train()
    model[1].eval()
    with pytest.raises(RuntimeError, match="asked"), arithmetic.exact(model):
        raise RuntimeError("asked")
    assert [part.training for part in model] == [True, False] + [True] * 7


def test_a_callable_that_is_no_module_is_asked_as_it_is():
    model = body().eval()
    found = attacks.pgd_l2(lambda x: model(x), X, Y, 0.5, 4, 2)
    assert torch.equal(found, attacks.pgd_l2(model, X, Y, 0.5, 4, 2))
