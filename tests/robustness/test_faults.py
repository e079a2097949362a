"""Each known fault is planted by patching; the check that is named for it must then fail."""

import dataclasses
import importlib.util
import inspect
import sys
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from thesis_repro import nets, training
from thesis_repro.data import Dataset, Split
from thesis_repro.lab import cells
from thesis_repro.lab.cells import Cell, CellError, Result, compute
from thesis_repro.lab.store import Store
from thesis_repro.robustness import (
    attacks,
    certify,
    certifying,
    layers,
    lipschitz,
    operators,
    outputs,
    proof,
    recipes,
    rounding,
    rules,
    structure,
)
from thesis_repro.robustness.certifiers import smoothing
from thesis_repro.robustness.faults import FAULTS, Fault

TESTS = Path(__file__).resolve().parents[1]
FROM_LOGITS = certifying.from_logits


def masked_by_value(logits, used, epsilon, norms=None):
    top = logits.amax(1, keepdim=True)
    constants = used.k_ij[logits.argmax(1)]
    margin = torch.where(logits == top, torch.inf, top - logits - epsilon * constants).amin(1)
    radius = torch.where(logits == top, torch.inf, (top - logits) / constants).amin(1)
    honest = FROM_LOGITS(logits, used, epsilon, norms)
    return dataclasses.replace(honest, margin=margin, radius=radius, certified=margin > 0)


def second_logit_alone(logits, used, epsilon, norms=None):
    best = logits.topk(2, 1)
    constants = used.k_ij[best.indices[:, 0], best.indices[:, 1]]
    radius = (best.values[:, 0] - best.values[:, 1]) / constants
    honest = FROM_LOGITS(logits, used, epsilon, norms)
    return dataclasses.replace(honest, radius=radius, certified=radius > epsilon)


def comparison_alone(logits, used, epsilon, norms=None):
    return FROM_LOGITS(logits.nan_to_num(), used, epsilon, norms)


def with_constant(x, fallback=None):
    return x / (x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1)) + 1e-9)


def iterated(conv, steps, stop=0.0):
    """Power iteration on one group of a convolution, from below."""
    x = torch.randn(1, conv.weight.shape[1], *conv.size, dtype=torch.float64)
    x = x / x.norm()
    for _ in range(steps):
        before, y = x, conv(x)
        x = nn.functional.conv_transpose2d(y, conv.weight, None, conv.stride, conv.padding)
        x = nn.functional.pad(x, (0, conv.size[1] - x.shape[3], 0, conv.size[0] - x.shape[2]))
        x = x / x.norm()
        if (x - before).norm() ** 2 < stop:
            break
    return conv(x).norm().item()


class Lenient(dict):
    def get(self, key, default=None):
        return super().get(key, rules._one)


@contextmanager
def as_it_is(net):
    training_before = net.training
    net.eval()
    yield
    net.train(training_before)


def best_on_test(recipe, dataset, **options):
    net, history = TRAIN(recipe, dataset, **options)
    certify(net, dataset.test.x)
    return net, history


TRAIN = recipes.train
BUDGET = rounding.Rounding.budget


def unlimited(self, norms, top):
    fixed, slope, room = BUDGET(self, norms, top)
    return fixed, slope, torch.full_like(room, torch.inf)


PARTS = rounding.Rounding.parts


def without_error_at_x(self, norms, top):
    here, ball, slope, room = PARTS(self, norms, top)
    return (here if self.at is self.ball else 0 * here), ball, slope, room


def either(logits, used, epsilon, norms=None):
    """Points that are proved for the float32 net or for the float64 net."""
    found = FROM_LOGITS(logits, used, epsilon, norms)
    other = dataclasses.replace(used, rounding=used.rounding.widened)
    proved = FROM_LOGITS(logits, other, epsilon, norms).certified
    return dataclasses.replace(found, certified=found.certified | proved)


def exact_eps(layer):
    inverse = 1 / (layer.running_var.double() + layer.eps).sqrt()
    return layer.weight.detach().double() * inverse, layer.running_mean.double(), inverse


def divided(direction, length):
    norm = direction.flatten(1).norm(dim=1).clamp_min(1e-30)
    return direction * (length / norm)[:, None, None, None]


def swallowing(cell, running):
    try:
        return cell.function(cell.config)
    except Exception:
        return Result({"verdict": "undecidable"})


PLANTS = {
    "ties": (certifying, "from_logits", masked_by_value),
    "normalisation": (lipschitz, "_unit", with_constant),
    "power iteration": (operators, "norm", lambda conv, *_: (iterated(conv, 10), "fast")),
    "stop rule": (operators, "norm", lambda conv, *_: (iterated(conv, 500, 1e-5), "fast")),
    "unknown layer": (rules, "RULES", Lenient(rules.RULES)),
    "max-pooling": (rules, "RULES", {**rules.RULES, nn.MaxPool2d: rules._one}),
    "residual sum": (
        rules,
        "RULES",
        {**rules.RULES, nets.Residual: lambda layer, *rest: rules._sequence(layer.branch, *rest)},
    ),
    "reshaped kernel": (
        operators,
        "norm",
        lambda conv, *_: (torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item(), "fast"),
    ),
    "layer above 1": (nets.minmax, "_kernels", (lambda x: 1.05 * x, None)),
    "autocast": (certifying, "exact", as_it_is),
    "rounding": (rounding, "analyse", lambda *_: None),
    "input scaling": (rules, "RULES", {**rules.RULES, nets.Scale: rules._one}),
    "second logit": (certifying, "from_logits", second_logit_alone),
    "NaN": (certifying, "from_logits", comparison_alone),
    "crash": (cells, "_call", swallowing),
    "checkpoint": (recipes, "train", best_on_test),
    "shuffling": (torch, "randperm", lambda n, generator=None: torch.arange(n)),
    "schedule": (
        training,
        "decay_after",
        lambda start, end, after=0.5: training.linear(start, end, 1.0),
    ),
    "stale bound": (structure, "described", lambda layer: []),
    "hooks": (structure, "check_unmodified", lambda name, layer: None),
    "broadcasting": (layers, "_fits", lambda layer, before, after: True),
    "vanishing squares": (proof, "scale_of", torch.ones_like),
    "overflow": (rounding.Rounding, "budget", unlimited),
    "filter": (rounding.Rounding, "parts", without_error_at_x),
    "closer look": (rounding.Rounding, "refining", property(lambda self: self.widened)),
    "two functions": (certifying, "from_logits", either),
    "eps": (rules, "batch_norm_terms", exact_eps),
    "transforms": (torch.backends.nnpack, "set_flags", lambda enabled: (True,)),
    "training mode": (outputs, "exact", lambda net, conventional: nullcontext()),
    "frozen layers": (certifying, "exact", as_it_is),
    "pixel scale": (smoothing, "check_images", lambda x, shape: None),
    "NaN attack": (attacks, "_scale", divided),
}


@dataclasses.dataclass(frozen=True)
class Nothing:
    seed: int = 0


def broken_cell(config: Nothing) -> Result:
    raise ZeroDivisionError("a crash")


def check_that_a_crash_is_an_error(tmp_path):
    with pytest.raises(CellError, match="ZeroDivisionError: a crash"):
        compute(Cell(broken_cell, Nothing()), Store(tmp_path))


class Trap:
    def __getattr__(self, name):
        raise AssertionError("training read the test set")


def check_that_training_never_reads_the_test_set():
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset("made up", Split(x, torch.arange(16) % 4), Trap(), ("a", "b", "c", "d"))
    recipe = recipes.Recipe("2c2f", 0.1, 0.1, 1, 1, 8)
    _, history = recipes.train(recipe, data)
    assert len(history) == 1


def check_that_decay_after_half_waits_for_half():
    schedule = training.decay_after(1e-3, 1e-6)
    assert schedule(0.25) == schedule(0.5) == pytest.approx(1e-3)
    assert schedule(1.0) == pytest.approx(1e-6)


@cache
def module(file):
    spec = importlib.util.spec_from_file_location(f"checks_{Path(file).stem}", TESTS / file)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # cells look their module up by name
    spec.loader.exec_module(loaded)
    return loaded


def run(fault: Fault, tmp_path):
    file, _, name = fault.check.partition("::")
    function = getattr(module(file), name)
    if "tmp_path" in inspect.signature(function).parameters:
        return function(*fault.arguments, tmp_path)
    return function(*fault.arguments)


CAUGHT = []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault, tmp_path, monkeypatch):
    run(fault, tmp_path / "honest")  # the check passes on the code as it is
    monkeypatch.setattr(*PLANTS[fault.name])
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        run(fault, tmp_path / "planted")
    CAUGHT.append(fault.name)


def test_every_fault_of_the_list_has_a_plant_and_was_caught():
    assert list(PLANTS) == [fault.name for fault in FAULTS]
    if CAUGHT:  # in the same process; a lone run of this test has nothing to count
        print(f"planted faults caught: {len(CAUGHT)} of {len(FAULTS)}")
