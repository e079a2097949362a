import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from thesis_repro import nets
from thesis_repro.lab import sealed
from thesis_repro.robustness import GloroNet, certificate, certify, checker, models, recipes

KINDS = ("confirmed", "not confirmed", "contradicted", "")


def net_of(seed=0, epsilon=0.05, shape=(1, 12, 12), activation="minmax"):
    generator = torch.Generator().manual_seed(seed)
    body = nets.cnn_2c2f(activation, in_shape=shape, classes=4, generator=generator)
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.05, generator=generator)
    return GloroNet(body, epsilon, shape).eval()


@pytest.fixture
def made(tmp_path):
    """A net, its images, its certificate file and its weights file."""
    net = net_of()
    x = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    net.epsilon = certify(net, x).radius.median().item()  # so that half of them are certified
    found = certify(net, x)
    assert 5 < found.certified.sum() < 60
    file, weights = tmp_path / "c.json", tmp_path / "m.safetensors"
    certificate.write(file, net, found, x, model="m", data="random")
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights)
    return net, x, found, file, weights


def counts(report):
    return [report.count(kind) for kind in KINDS]


def reseal(file, change):
    """A forger's edit: the content changes and gets a fresh seal."""
    content = sealed.read(file)
    change(content)
    sealed.write(file, content)


def test_an_honest_certificate_is_confirmed(made):
    _, x, found, file, weights = made
    report = checker.check(file, weights, x.numpy())
    claimed = int(found.certified.sum())
    confirmed, unconfirmed, contradicted, silent = counts(report)
    assert contradicted == 0
    assert silent == 60 - claimed
    assert confirmed + unconfirmed == claimed
    assert confirmed >= 0.9 * claimed
    assert report.notes == []


@pytest.mark.parametrize("activation", ["minmax", "relu"])
def test_double_precision_and_both_activations(tmp_path, activation):
    net = net_of(1, activation=activation).double()
    x = torch.rand(40, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    file, weights = tmp_path / "c.json", tmp_path / "m.safetensors"
    net.epsilon = certify(net, x).radius.median().item()
    found = certify(net, x)
    certificate.write(file, net, found, x)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights)
    report = checker.check(file, weights, x.numpy())
    assert counts(report)[2] == 0
    assert counts(report)[0] >= 0.95 * int(found.certified.sum()) > 0


def test_the_checker_shares_no_code_and_needs_numpy_and_scipy_alone():
    tree = ast.parse(Path(checker.__file__).read_text())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    assert modules - set(sys.stdlib_module_names) == {"numpy", "scipy"}


def test_altered_files_weights_and_images_are_named(made):
    _, x, _, file, weights = made
    images = x.numpy().copy()
    images[17, 0, 3, 3] += 1e-6
    with pytest.raises(ValueError, match="image 17 is not the one"):
        checker.check(file, weights, images)
    with pytest.raises(ValueError, match="of 60 images, got 59"):
        checker.check(file, weights, x.numpy()[:59])
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + bytes([good[-4] ^ 1]) + good[-3:])
    changed = models.unpack(weights.read_bytes())
    names = [k for k, v in models.unpack(good).items() if not torch.equal(v, changed[k])]
    if names[0].startswith("body."):
        with pytest.raises(ValueError, match=f"weight '{names[0][5:]}' is not the one"):
            checker.check(file, weights, x.numpy())
    tensors = models.unpack(good)
    tensors["body.2.weight"][0, 0, 0, 0] += 1e-6
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"weight '2\.weight' is not the one"):
        checker.check(file, weights, x.numpy())
    del tensors["body.5.bias"]
    save_file(tensors, weights)
    tensors["body.2.weight"] = models.unpack(good)["body.2.weight"]
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"m\.safetensors has no weight '5\.bias'"):
        checker.check(file, weights, x.numpy())
    file.write_text(file.read_text().replace('"certified": [\n   false', '"certified": [\n   true'))
    content = file.read_text()
    file.write_text(content.replace('"k_sub": ', '"k_sub": 0'))
    with pytest.raises(ValueError, match=r"c\.json (was altered|is not a sealed)"):
        checker.check(file, weights, x.numpy())
    with pytest.raises(ValueError, match=r"c\.json was altered"):
        certificate.read(file)


def test_a_certificate_for_another_net_is_refused(made, tmp_path):
    _, x, _, file, _ = made
    other = tmp_path / "other.safetensors"
    save_file({k: v.contiguous() for k, v in net_of(5).state_dict().items()}, other)
    with pytest.raises(ValueError, match=r"weight '0\.bias' is not the one"):
        checker.check(file, other, x.numpy())


def smaller_layer(content):
    content["layers"][2]["bound"] *= 0.9


def smaller_k(content):
    content["k_ij"] = [[0.5 * v for v in row] for row in content["k_ij"]]


@pytest.mark.parametrize("forge", [smaller_layer, smaller_k])
def test_a_bound_that_is_too_small_contradicts_every_point(made, forge):
    _, x, _, file, weights = made
    reseal(file, forge)
    report = checker.check(file, weights, x.numpy())
    assert report.count("contradicted") == 60
    assert report.notes


def wrong_label(points, row):
    points["label"][row] = (points["label"][row] + 1) % 4


def large_margin(points, row):
    points["margin"][row] += 10


def large_radius(points, row):
    points["radius"][row] = points["radius"][row] * 3 + 1


def verdict_turned(points, row):
    points["certified"][row] = not points["certified"][row]


@pytest.mark.parametrize("forge", [wrong_label, large_margin, large_radius, verdict_turned])
@pytest.mark.parametrize("certified", [True, False])
def test_forged_points_are_contradicted_and_no_others(made, forge, certified):
    _, x, found, file, weights = made
    order = found.margin.argsort()
    row = int(order[-1] if certified else order[0])
    reseal(file, lambda content: forge(content["points"], row))
    report = checker.check(file, weights, x.numpy())
    assert [i for i, v in enumerate(report.verdicts) if v == "contradicted"] == [row]


def test_layers_that_it_does_not_know_are_not_confirmed(made):
    _, x, _, file, weights = made
    reseal(file, lambda content: content["layers"][1].update(type="GELU"))
    report = checker.check(file, weights, x.numpy())
    assert set(report.verdicts) == {"not confirmed"}
    assert "GELU" in report.notes[0]


def test_norms_from_both_sides():
    generator = np.random.default_rng(0)
    for shape in ((30, 50), (50, 30), (8, 8)):
        matrix = generator.standard_normal(shape)
        true = np.linalg.norm(matrix, 2)
        for scale in (1e-30, 1.0, 1e30):
            above = checker.norm_above(scale * matrix)
            assert scale * true <= above <= scale * true * 1.003
            assert 0.9 * scale * true < checker.norm_below(scale * matrix) <= scale * true
    assert checker.norm_above(np.zeros((3, 2))) == checker.norm_below(np.zeros((3, 2))) == 0


@pytest.mark.parametrize("stride", [1, 2])
def test_its_torus_is_never_below_its_matrix(stride, monkeypatch):
    weight = np.random.default_rng(0).standard_normal((3, 2, 4, 3))
    entry = {
        "name": "0",
        "type": "Conv2d",
        "stride": [stride, 1],
        "padding": [1, 2],
        "dilation": [1, 2],
    }
    tensors = {"0.weight": weight, "0.bias": np.ones(3)}
    small = checker.Layer(entry, tensors)
    small.measure((2, 11, 9), 2.0**-24)
    upper, _, absolute = checker.Layer(entry, tensors)._on_a_torus((2, 11, 9))
    assert small.lower <= small.upper <= upper <= 1.15 * small.upper
    assert small.absolute <= absolute * 1.001


def test_the_command_line_writes_and_verifies(tmp_path, monkeypatch, root):
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    recipe = recipes.Recipe("2c2f", 0.05, 0.05, 1, 1, 128)
    net = recipes.build(recipe, (1, 28, 28), 10).eval()
    models.save("tiny", net, recipe, {"dataset": "mnist-5k"})
    env = {"PATH": "", "THESIS_REPRO_RESULTS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "thesis_repro.cli"]

    def call(*arguments):
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=env, cwd=root, check=False
        )

    out = str(tmp_path / "c.json")
    made = call("certify", "tiny", "mnist-5k", "--out", out, "--points", "30")
    assert made.returncode == 0, made.stderr
    assert "of 30 points certified" in made.stdout
    done = call("verify", out, "--model", "tiny", "--data", "mnist-5k")
    assert done.returncode == 0, done.stderr
    assert ", 0 contradicted" in done.stdout
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"epsilon": 0.05', '"epsilon": 0.04'))
    spoilt = call("verify", out, "--model", "tiny", "--data", "mnist-5k")
    assert spoilt.returncode == 1
    assert spoilt.stderr == "error: c.json was altered: its content does not match its seal\n"
    nothing = call("certify", str(tmp_path / "x.safetensors"), "mnist-5k", "--out", out)
    assert nothing.stderr.startswith("error: ")
    assert nothing.stderr.count("\n") == 1
    assert json.loads(text)["model"] == "tiny"
