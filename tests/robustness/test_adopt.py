"""Nets of one's own: the same function as a plain sequence, bounded, certified and confirmed."""

import copy
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18
from torchvision.transforms import Normalize

from thesis_repro import nets
from thesis_repro.robustness import GloroNet, adopt, certificate, certify, checker, lipschitz
from thesis_repro.robustness.gloro import EstimatedNet


def moved(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and gains of batch normalisation that are not those of a new layer."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (part.running_mean, part.weight, part.bias):
                with torch.no_grad():
                    value.copy_(0.5 + 0.3 * torch.randn(value.shape, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=generator))
    return module


class Small(nn.Module):
    """Functions, views, in-place steps and constants, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc1, self.fc2 = nn.Linear(4 * 5 * 5, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = 2 * (x - self.mean) / 0.7
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = x.view(x.size(0), -1)
        x = self.drop(self.fc1(x)).relu_()
        return self.fc2(F.dropout(x, 0.3, self.training))


class Blocks(nn.Module):
    """Sums in sums, a sum of three, the same layer twice, global averages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = torch.relu(x) + self.one(torch.relu(x))
        x = self.two(inner) + inner + self.one(x)
        return self.head(torch.relu(x).mean((2, 3)))


class Wide(nn.Module):
    """A forward that could be given more, and views one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(8, 3)

    def forward(
        self, pixels: Tensor, labels: Tensor | None = None, *, weigh: bool = False, **more: object
    ) -> Tensor:
        x = F.adaptive_max_pool2d(torch.relu(self.conv(pixels)), (2, 1)).squeeze(-1)
        logits = self.head(x.view(x.size(0), -1, 1).squeeze(-1))
        if labels is not None or weigh or more:  # decided before any value is known
            return F.cross_entropy(logits, labels)
        return logits


SEQUENCE = nn.Sequential(
    Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
    nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Identity(), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Dropout2d()), nn.Flatten()),
    parametrizations.spectral_norm(nn.Linear(16, 8)),
    nn.BatchNorm1d(8),
    nets.MinMax(),
    nn.Linear(8, 3),
)
OWN = {
    "as people write them": moved(Small()),
    "blocks": Blocks(),
    "wide": Wide(),
    "sequences": moved(SEQUENCE),
    "basic block": moved(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)),
    "bottleneck": moved(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3)),
}
SHAPE = (3, 10, 10)


@pytest.mark.parametrize("name", OWN)
def test_an_adopted_net_is_the_same_function_of_known_layers(name: str) -> None:
    module, shape = OWN[name].train(), (3, 32, 32) if "b" in name[:2] else SHAPE
    before = {key: value.clone() for key, value in module.state_dict().items()}
    body = adopt(module, shape)
    after = module.state_dict()
    assert module.training and all(torch.equal(before[k], after[k]) for k in before)
    x = torch.rand(5, *shape)
    torch.testing.assert_close(body(x), module.eval()(x), rtol=1e-3, atol=1e-4)
    kinds = {type(part) for part in body.modules()}
    assert not kinds & {nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Identity, Small, Wide}
    assert not any(getattr(part, "inplace", False) for part in body.modules())


@pytest.mark.parametrize("features", [5, 8])
def test_a_norm_of_channels_is_not_folded_into_a_layer_of_features(features: int) -> None:
    torch.manual_seed(0)
    rows = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(2), nn.Linear(36, features))
    head = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * features, 3))
    module, x = moved(nn.Sequential(rows, head)).eval(), torch.rand(20, 1, 8, 8)
    body = adopt(module, (1, 8, 8))
    assert [type(part) for part in body[2:4]] == [nn.Linear, nn.BatchNorm1d]
    torch.testing.assert_close(body(x), module(x))
    net = GloroNet(body, 1e-3, (1, 8, 8)).eval()
    jacobians = torch.func.vmap(torch.func.jacrev(lambda point: body[:-1](point[None])[0]))(x)
    assert torch.linalg.matrix_norm(jacobians.flatten(2), 2).max() <= net.bound().k_sub
    assert certify(net, x).certified.any()


@pytest.mark.parametrize("module", [Small(), SEQUENCE])
def test_constants_come_in_the_format_of_the_module(module: nn.Module) -> None:
    module = copy.deepcopy(moved(module)).double().eval()
    body = adopt(module, SHAPE)
    assert {v.dtype for v in body.state_dict().values()} == {torch.float64}
    x = torch.rand(5, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(body(x), module(x), rtol=1e-12, atol=1e-12)


def jacobian_norm(body: nn.Sequential, x: Tensor) -> float:
    """Of everything before the last layer, at one image."""
    found = torch.func.jacrev(body[:-1])(x[None].double())
    return float(torch.linalg.matrix_norm(found.detach().flatten(0, 1).flatten(1), 2))


def test_no_jacobian_is_above_the_bound_of_a_sum_of_branches() -> None:
    body = adopt(OWN["blocks"], (3, 6, 6))
    bound = GloroNet(body, 0.1, (3, 6, 6)).bound()
    slopes = [jacobian_norm(body.double(), torch.rand(3, 6, 6)) for _ in range(20)]
    assert 0.1 * bound.k_sub < max(slopes) <= bound.k_sub < np.inf


def test_the_bound_of_a_sum_of_linear_branches_is_the_sum_of_their_norms() -> None:
    first, second = nn.Linear(6, 4), nn.Linear(6, 4)
    layer = nets.Sum(first, nn.Sequential(nn.Identity(), second))
    norms = [
        float(torch.linalg.matrix_norm(part.weight.detach().double(), 2))
        for part in (first, second)
    ]
    assert lipschitz.upper_bound(layer, (6,)) == pytest.approx(sum(norms), rel=1e-9)
    with torch.no_grad():  # and it is reached
        second.weight.copy_(first.weight)
    found = lipschitz.upper_bound(layer, (6,))
    assert found == pytest.approx(2 * norms[0], rel=1e-9) and found >= 2 * norms[0] * (1 - 1e-12)


def test_a_sum_with_an_in_place_layer_is_refused() -> None:
    layer = nets.Sum(nn.ReLU(inplace=True), nn.Identity())
    with pytest.raises(lipschitz.UnknownLayer, match="in-place"):
        lipschitz.upper_bound(layer, (6,))
    with pytest.raises(ValueError, match="one shape"):
        nets.Sum(nn.Linear(2, 3), nn.Linear(2, 4))(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="two branches"):
        nets.Sum(nn.Linear(2, 3))


def test_the_estimate_of_a_sum_comes_near_its_bound_from_below() -> None:
    body = adopt(OWN["blocks"], (3, 6, 6))
    estimated = EstimatedNet(body, 0.1, (3, 6, 6), power_steps=300).k_sub()
    bound = GloroNet(body, 0.1, (3, 6, 6)).bound().k_sub
    assert 0.97 * bound < float(estimated) <= bound * (1 + 1e-5)
    estimated.backward()
    assert all(p.grad is not None for p in body[:-1].parameters() if p.ndim > 1)


def trained(module: nn.Module, x: Tensor, y: Tensor, steps: int = 30) -> nn.Module:
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module.eval()


class Pooled(nn.Module):
    """An ordinary net for digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 5)
        self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc(torch.flatten(x, 1))


@pytest.mark.parametrize("name", ["pooled", "blocks"])
def test_points_of_an_adopted_net_are_confirmed_by_the_checker(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape = (1, 28, 28) if name == "pooled" else (3, 8, 8)
    centres = torch.rand(3, *shape).round()
    y = torch.arange(60) % 3
    x = (centres[y] + 0.1 * torch.randn(60, *shape)).clamp(0, 1)
    module = trained(Pooled() if name == "pooled" else Blocks(), x, y)
    net = GloroNet(adopt(module, shape), 0.003, shape)
    found = certify(net, x, arithmetic="float64")
    assert found.certified.sum() > 20
    weights = certificate.write_net(str(tmp_path / "own.safetensors"), net)
    file = certificate.write(str(tmp_path / "own.json"), net, found, x)
    report = checker.check(str(file), str(weights), x.numpy())
    assert (report.notes, report.bound) == ([], True)
    assert report.count(checker.CONFIRMED) == report.claims == int(found.certified.sum())


class If(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else x.flatten(1) + 1  # the line that is named


class Calls(nn.Module):
    def __init__(self, step) -> None:
        super().__init__()
        self.step, self.head = step, nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.step(x))


class Gives(Calls):
    """What `made` makes of the logits and the images."""

    def __init__(self, made) -> None:
        super().__init__(lambda x: x.flatten(1))
        self.made = made

    def forward(self, x: Tensor) -> object:
        return self.made(super().forward(x), x)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 1), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.head(self.attention(x, x, x)[0].flatten(1))


class Masked(Calls):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x * mask)


class Named(Calls):
    def forward(self, *, pixels: Tensor) -> Tensor:
        return super().forward(pixels)


Pair = namedtuple("Pair", "logits images")


def headed(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 2))


def pruned() -> nn.Sequential:
    net = headed(nn.Conv2d(3, 3, 1))
    for held in ("bias", "weight", "weight"):
        prune.random_unstructured(net[0], held, 0.3)
    return net


HOOKED = headed(nn.ReLU())
HOOKED[0].register_forward_hook(lambda *about: None)
NORMED = headed(nn.utils.weight_norm(nn.Conv2d(3, 3, 1)))
KEPT = Calls(nn.Flatten())
KEPT.last = torch.ones(2, requires_grad=True) * 2
LOCKED = headed(nn.ReLU())
LOCKED[0].lock = threading.Lock()
HERE = r"test_adopt\.py, line \d+: "


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (headed().half(), r"weights in float16: module.float\(\)"),
        (headed(nn.Conv2d(3, 3, 1).double()), r"float32 and float64: module.float\(\)"),
        (headed(nn.Conv2d(3, 3, 1, device="meta")), r"device meta \(0.weight\): model.to_empty"),
        (nn.DataParallel(headed()), "DataParallel is around a module: adopt that, module.module"),
        (nn.ReLU(), "weights in no format"),
        (nn.Flatten, "takes an nn.Module, got type"),
        (nn.Sequential(If(), nn.Linear(12, 2)), HERE + "cannot be followed .* without `if`"),
        (headed(nn.GELU()), "layer '0': GELU: no Lipschitz .*; train with nn.ReLU or nets.MinMax"),
        (
            headed(nn.GroupNorm(1, 3)),
            "layer '0': GroupNorm: no .* this layer; train with nn.BatchNorm2d",
        ),
        (nn.Sequential(*headed(), nn.Softmax(1)), "layer '2': Softmax: .* the net needs to give"),
        (headed(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")), "layer '0': .*'reflect'"),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, 2)),
            "adaptive pooling of 2 pixels to 3",
        ),
        (headed(nn.BatchNorm2d(3, track_running_stats=False)), "mixes"),
        (HOOKED, r"layer '0' \(ReLU\) has a hook"),
        (NORMED, r"layer '0' \(Conv2d\) has a hook.* of torch.nn.utils.parametrizations"),
        (
            pruned(),
            r"layer '0' \(Conv2d\) is pruned .*: prune.remove\(layer, 'bias'\) and .*'weight'",
        ),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), r"layer '1' \(LazyLinear\) .* run the net"),
        (KEPT, "'last' of Calls cannot be copied .* that does not hold it"),
        (LOCKED, r"'lock' of layer '0' \(ReLU\) cannot be copied .* that does not hold it"),
        (nets.Scale(2.0), "ends in Scale; .* nn.Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.ReLU()), "ends in ReLU; .* nn.Linear"),
        (Gives(lambda logits, x: (logits, x)), "several outputs"),
        (Gives(lambda logits, x: {"logits": logits}), r"several outputs; .* whose forward\(x\)"),
        (Gives(Pair), "several outputs"),
        (Gives(lambda logits, x: logits.squeeze()), r"shape \(2,\) for 1 images; .* x.flatten"),
        (Masked(nn.Flatten()), "Masked.forward cannot .* alone .*'mask'"),
        (Named(nn.Flatten()), "Named.forward cannot .* alone"),
        (Attends(), "layer 'attention': no bound is known for a step that gives 2 values"),
        (Calls(lambda x: x.flatten(1).chunk(1, 1)[0]), HERE + "no bound .* gives 1 values"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), "one logit,.* one for each class"),
        (torch.compile(headed()), "OptimizedModule is around .*: adopt that, module._orig_mod"),
        (torch.jit.script(headed()), "ScriptModule has no forward to follow"),
        (Calls(lambda x: torch.cat([x, x], 1)[:, :3].flatten(1)), HERE),
        (Calls(lambda x: (x * x).flatten(1)), HERE + "no bound .* joined by mul"),
        (Calls(lambda x: x.view(-1, 3, 4).relu().flatten(1)), HERE + "view makes .* x.flatten"),
        (Calls(lambda x: torch.sin(x.flatten(1))), HERE + "sin: no Lipschitz"),
        (Calls(lambda x: (1 / x).flatten(1)), HERE + "truediv in this form"),
        (Calls(lambda x: F.dropout(x.flatten(1))), HERE + "dropout: no"),
        (nn.Sequential(nn.Flatten(), nn.Linear(11, 2)), r"takes no images of shape \(3, 2, 2\)"),
    ],
)
def test_what_cannot_be_adopted_is_one_line_with_place_and_remedy(module, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        adopt(module, (3, 2, 2))
    assert "\n" not in str(error.value)


def test_a_remedy_that_is_named_helps() -> None:
    plain, lazy = pruned(), nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    for held in ("bias", "weight"):
        prune.remove(plain[0], held)
    x = torch.rand(2, 3, 2, 2)
    for module in (plain, lazy):
        wanted = module(x)
        torch.testing.assert_close(adopt(module, (3, 2, 2))(x), wanted)


def test_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from thesis_repro.robustness import steps

    monkeypatch.setitem(steps.MODULES, nn.ReLU, lambda layer, shape: [])
    module = headed(nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(ValueError, match="another function than the module"):
        adopt(module, (3, 2, 2))


def steepest(part: nn.Sequential, x: Tensor, steps: int) -> float:
    """The largest Jacobian norm that a search finds: power iteration in v, ascent in x."""
    v, largest = torch.randn_like(x), 0.0
    for _ in range(steps):
        x = x.detach().requires_grad_()
        v = v / v.norm()
        out, moved = torch.func.jvp(part, (x,), (v,))
        length = moved.norm()
        (up,) = torch.autograd.grad(length, x, retain_graph=True)
        (v,) = torch.autograd.grad(out, x, moved.detach())
        largest = max(largest, float(length.detach()))
        x = (x + 0.5 * up / up.norm().clamp_min(1e-12)).clamp(0, 1)
    return largest


def test_the_search_finds_the_norm_of_a_linear_net() -> None:
    layer = nn.Linear(12, 5).double()
    found = steepest(nn.Sequential(nn.Flatten(), layer), torch.rand(1, 3, 2, 2).double(), 200)
    assert found == pytest.approx(float(torch.linalg.matrix_norm(layer.weight, 2)), rel=1e-6)


@pytest.mark.slow
def test_the_bound_of_a_torchvision_resnet18_is_finite_and_above_every_jacobian() -> None:
    torch.manual_seed(0)
    body = adopt(moved(resnet18(num_classes=10)), (3, 32, 32))
    bound = GloroNet(body, 36 / 255, (3, 32, 32)).bound()
    starts = torch.rand(3, 1, 3, 32, 32).double()
    found = max(steepest(body[:-1].double(), x, 20) for x in starts)
    print(f"bound {bound.k_sub:.3g}, largest Jacobian norm found {found:.3g}")
    assert 0 < found <= bound.k_sub < np.inf
