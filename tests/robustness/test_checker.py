import ast
import hashlib
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from thesis_repro import cli, data, nets
from thesis_repro.lab import sealed
from thesis_repro.robustness import GloroNet, certificate, certify, checker, models, recipes

FLOAT32 = ("--arithmetic", "float32")
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
    certificate.write_net(weights, net)
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


@pytest.fixture
def widened(tmp_path):
    """Float32 weights, certified in float64 where float32 would lose points to rounding."""
    net = net_of()
    with torch.no_grad():
        net.body[-1].weight.copy_(net.body[-1].weight[0] + 1e-3 * net.body[-1].weight)
        net.body[-1].bias.zero_()
    x = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    net.epsilon = certify(net, x, arithmetic="float64").radius.median().item() / 2
    found = certify(net, x, arithmetic="float64")
    assert found.certified.sum() >= 30
    file, weights = tmp_path / "c.json", tmp_path / "m.safetensors"
    certificate.write(file, net, found, x)
    certificate.write_net(weights, net)
    return net, x, found, file, weights


def test_a_float64_certificate_of_float32_weights_is_checked_with_the_budget_of_float64(widened):
    net, x, found, file, weights = widened
    about = certificate.read(file)
    assert about["arithmetic"] == "float64"
    certificate.write(file.with_name("own.json"), net, certify(net, x), x)
    own = certificate.read(file.with_name("own.json"))
    assert own["arithmetic"] == "float32"
    assert own["weights"] == about["weights"]  # as stored
    assert checker.check(file, weights, x.numpy()).count("confirmed") == found.certified.sum()


def test_a_certificate_in_float64_does_not_pass_for_one_in_float32(widened):
    net, x, found, file, weights = widened
    assert found.certified.sum() > certify(net, x).certified.sum()
    reseal(file, lambda content: content.update(arithmetic="float32"))
    with pytest.raises(ValueError, match="image 0 is not the one that was certified"):
        checker.check(file, weights, x.numpy())
    hashes = [certificate._hash(image)[:16] for image in x]
    reseal(file, lambda content: content.update(images=hashes))
    report = checker.check(file, weights, x.numpy())
    assert report.count("not confirmed") >= 3


def test_formats_are_not_mixed(widened, tmp_path):
    net, x, found, file, weights = widened
    tensors = {k: v.contiguous() for k, v in net.state_dict().items()}
    tensors["body.5.bias"] = tensors["body.5.bias"].double()
    save_file(tensors, weights)
    digest = certificate._hash(tensors["body.5.bias"])
    reseal(file, lambda content: content["weights"].update({"5.bias": digest}))
    with pytest.raises(ValueError, match="is F32; the certificate is about F64"):
        checker.check(file, weights, x.numpy())
    double = net_of().double()
    with pytest.raises(ValueError, match="is about arithmetic in float32"):
        certificate.write(tmp_path / "x.json", double, certify(net, x), x)
    bare = replace(found, bound=replace(found.bound, rounding=None))
    with pytest.raises(ValueError, match="is about arithmetic in unknown"):
        certificate.write(tmp_path / "x.json", net, bare, x)


def test_the_checker_shares_no_code_and_needs_numpy_alone():
    own, modules = "thesis_repro.robustness.checker", set()
    files = sorted(Path(checker.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                modules.add(node.module)
    others = {name for name in modules if name != own and not name.startswith(f"{own}.")}
    roots = {name.partition(".")[0] for name in others}
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


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


def verdict_turned(points, row):
    points["certified"][row] = not points["certified"][row]


@pytest.mark.parametrize("forge", [wrong_label, large_margin, verdict_turned])
@pytest.mark.parametrize("certified", [True, False])
def test_forged_points_are_contradicted_and_no_others(made, forge, certified):
    _, x, found, file, weights = made
    order = found.margin.argsort()
    row = int(order[-1] if certified else order[0])
    reseal(file, lambda content: forge(content["points"], row))
    report = checker.check(file, weights, x.numpy())
    assert [i for i, v in enumerate(report.verdicts) if v == "contradicted"] == [row]


def plain_weights(net, path):
    """A weights file that does not state its architecture."""
    save_file({k: v.contiguous().clone() for k, v in net.state_dict().items()}, path)


def test_layers_that_it_does_not_know_are_not_confirmed(made):
    net, x, _, file, weights = made
    plain_weights(net, weights)
    reseal(file, lambda content: content["layers"][1].update(type="GELU"))
    report = checker.check(file, weights, x.numpy())
    assert set(report.verdicts) == {"not confirmed"}
    assert "GELU" in report.notes[-1]


def test_weights_that_do_not_state_the_architecture_are_said_to(made):
    net, x, found, file, weights = made
    plain_weights(net, weights)
    report = checker.check(file, weights, x.numpy())
    assert not report.bound
    assert "does not state its architecture" in report.notes[0]
    assert counts(report)[0] == int(found.certified.sum())
    given = checker.check(file, weights, x.numpy(), architecture=certificate.architecture(net))
    assert given.bound
    assert given.notes == []
    assert given.verdicts == report.verdicts


def without(*places):
    def change(content):
        content["layers"] = [e for i, e in enumerate(content["layers"]) if i not in places]

    return change


def other_stride(content):
    content["layers"][0]["padding"] = [0, 0]


@pytest.mark.parametrize("forge", [without(1), without(1, 3), other_stride])
def test_a_layer_without_weights_cannot_be_left_out(made, forge):
    net, x, _, file, weights = made
    about = certificate.architecture(net)
    reseal(file, forge)
    with pytest.raises(ValueError, match="another architecture than the weights file"):
        checker.check(file, weights, x.numpy())
    plain_weights(net, weights)
    with pytest.raises(ValueError, match="another architecture than the model's"):
        checker.check(file, weights, x.numpy(), architecture=about)


def test_every_tensor_is_listed_used_and_of_the_certified_format(made):
    net, x, _, file, weights = made
    reseal(file, lambda content: content["weights"].pop("5.bias"))
    with pytest.raises(ValueError, match=r"m\.safetensors has weight '5\.bias', which was not"):
        checker.check(file, weights, x.numpy())
    certificate.write(file, net, certify(net, x), x)
    tensors = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_file(tensors | {"body.9.weight": torch.ones(2)}, weights)
    digest = hashlib.sha256(torch.ones(2).numpy().tobytes()).hexdigest()
    reseal(file, lambda content: content["weights"].update({"9.weight": digest}))
    with pytest.raises(ValueError, match=r"no layer uses weight '9\.weight'"):
        checker.check(file, weights, x.numpy())
    for dtype, name in ((torch.float16, "F16"), (torch.bfloat16, "BF16"), (torch.float64, "F64")):
        certificate.write(file, net, certify(net, x), x)
        half = tensors["body.5.bias"].to(dtype)
        save_file(tensors | {"body.5.bias": half}, weights)
        digest = hashlib.sha256(half.view(torch.uint8).numpy().tobytes()).hexdigest()
        reseal(file, lambda content, d=digest: content["weights"].update({"5.bias": d}))
        with pytest.raises(ValueError, match=f"weight '5.bias' is {name}; the certificate is"):
            checker.check(file, weights, x.numpy())


def put(key, value):
    return lambda content: content.update({key: value})


def in_points(key, value):
    return lambda content: content["points"].update({key: value})


def in_layer(key, value):
    return lambda content: content["layers"][0].update({key: value})


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (put("format", "x"), "format needs to be 'thesis-repro certificate 2', got 'x'"),
        (put("format", "thesis-repro certificate 1"), "write it again"),
        (put("epsilon", -1.0), "epsilon needs to be a finite number above 0, got -1.0"),
        (put("epsilon", 0), "epsilon needs to be"),
        (put("epsilon", True), "epsilon needs to be"),
        (put("epsilon", 10**400), "epsilon needs to be"),
        (put("epsilon", float("nan")), "is not a sealed certificate"),
        (put("arithmetic", "float16"), "arithmetic needs to be float32 or float64"),
        (put("input_shape", [1, 10**6, 10**6]), "images of shape"),
        (put("k_ij", [[0.0, float("inf")], [1.0, 0.0]]), "is not a sealed certificate"),
        (put("k_ij", [[0.0, 1.0], [1.0, 0.5]]), "k_ij needs to be a square"),
        (put("k_ij", [[0.0] * 5] * 5), "k_ij is of 5 classes, the net has 4"),
        (put("more", 1), "missing or unknown: more"),
        (lambda content: content.pop("k_sub"), "missing or unknown: k_sub"),
        (in_points("certified", ["no"] * 60), "points.certified needs to be true or false"),
        (in_points("label", [0]), "points.label needs to be a class"),
        (in_points("label", [7] * 60), "points.label names a class that k_ij does not have"),
        (in_points("radius", [1e9] * 60), "missing or unknown: points.radius"),
        (in_layer("stride", [0, 1]), r"layer 0 \(Conv2d\): stride cannot be \[0, 1\]"),
        (in_layer("bias", False), "missing or unknown: bias"),
        (in_layer("name", "1"), "layer 1 needs the name '' and a key of its own .* got '1'"),
        (in_layer("bound", -1), "needs a finite bound"),
    ],
)
def test_each_field_is_checked(made, forge, said):
    _, x, _, file, weights = made
    reseal(file, forge)
    with pytest.raises(ValueError, match=said) as refused:
        checker.check(file, weights, x.numpy())
    assert type(refused.value) is ValueError
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (lambda x: x.numpy() + 5j, "real numbers .*, got ndarray of complex64"),
        (lambda x: x.numpy() > 2, "real numbers .*, got ndarray of bool"),
        (lambda x: x.numpy().astype(object), "real numbers .*, got ndarray of object"),
        (lambda x: x.clone().requires_grad_(), "an array of numbers: .* requires grad"),
        (lambda x: None, "real numbers .*, got NoneType of object"),
        (lambda x: [[1.0], [1.0, 2.0]], "an array of numbers: "),
    ],
)
def test_images_need_to_be_real_numbers(made, images, said):
    _, x, _, file, weights = made
    with pytest.raises(ValueError, match=said) as refused:
        checker.check(file, weights, images(x))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("about", [{}, "x", 3, {"layers": 3}, {"layers": [1], "input_shape": [1]}])
def test_what_is_no_architecture_is_one_line(made, about):
    _, x, _, file, weights = made
    with pytest.raises(ValueError, match="architecture needs `input_shape` and `layers`"):
        checker.check(file, weights, x.numpy(), architecture=about)


@pytest.mark.parametrize("batch", [2.5, 0, "9", None])
def test_a_batch_is_a_whole_number_of_at_least_1(made, batch):
    _, x, _, file, weights = made
    with pytest.raises(ValueError, match="batch needs to be a whole number of at least 1, got"):
        checker.check(file, weights, x.numpy(), batch=batch)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (put("k_sub", 1e-3), "contradicted"),
        (put("epsilon", 1e3), "contradicted"),  # the margins do not fit this radius
    ],
)
def test_what_the_file_says_has_to_fit_together(made, change, verdict):
    _, x, found, file, weights = made
    reseal(file, change)
    verdicts = checker.check(file, weights, x.numpy()).verdicts
    assert {v for v, c in zip(verdicts, found.certified, strict=True) if c} == {verdict}


def test_a_larger_radius_is_not_confirmed_where_it_is_not_proved(made):
    """A forger who makes the margins fit still gets no confirmation beyond what can be proved."""
    _, x, found, file, weights = made
    epsilon = 1.05 * found.radius.max().item()

    def forge(content):
        content["epsilon"] = epsilon
        content["points"]["certified"] = [True] * 60
        content["points"]["margin"] = [1e-12] * 60

    reseal(file, forge)
    assert checker.check(file, weights, x.numpy()).count("confirmed") == 0


def test_a_name_that_comes_twice_is_refused(made):
    _, x, _, file, weights = made
    file.write_text(file.read_text().replace('"epsilon":', '"epsilon": 9, "epsilon":'))
    with pytest.raises(ValueError, match="is not a sealed certificate"):
        checker.check(file, weights, x.numpy())


def test_paths_may_be_text(made, tmp_path):
    net, x, found, _, _ = made
    file, weights = str(tmp_path / "text.json"), str(tmp_path / "text.safetensors")
    assert certificate.write(file, net, found, x) == Path(file)
    assert certificate.write_net(weights, net) == Path(weights)
    assert certificate.read(file)["model"] == ""
    assert checker.check(file, weights, x.numpy()).count("contradicted") == 0


def test_a_certificate_of_another_net_is_not_written(made, tmp_path):
    _, x, found, _, _ = made
    body = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    with pytest.raises(ValueError, match="the certificate bounds layers 0, 1, 2"):
        certificate.write(tmp_path / "c.json", GloroNet(body, 0.1, (1, 12, 12)), found, x)


def test_a_certificate_of_other_weights_or_of_another_radius_is_not_written(made, tmp_path):
    net, x, found, _, _ = made
    file = tmp_path / "c.json"
    for epsilon in (0.9 * net.epsilon, 1.1 * net.epsilon):  # half of the points change sides
        with pytest.raises(ValueError, match="is for another epsilon than .* has the radius"):
            certificate.write(file, net, found, x, epsilon=epsilon)
    for rounded in (net.epsilon * (1 + 1e-9), net.epsilon * (1 - 1e-9)):
        certificate.write(file, net, found, x, epsilon=rounded)
    other = certify(net, x, used=replace(net.bound(), k_ij=2 * net.bound().k_ij))
    with pytest.raises(ValueError, match="is under another bound .* without `used`"):
        certificate.write(file, net, other, x)
    with torch.no_grad():
        net.body[-1].weight.mul_(1.001)
    with pytest.raises(ValueError, match="is under another bound .* as it is now"):
        certificate.write(file, net, found, x)
    certificate.write(file, net, certify(net, x), x)


@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
def test_a_certificate_at_any_radius_is_written_and_read_by_the_checker(made, tmp_path, arithmetic):
    net, x, found, _, weights = made
    for radius in (np.float32(0.01), Fraction(1, 50), *found.radius.sort().values[::7]):
        file = tmp_path / "c.json"
        some = certify(net, x, radius, arithmetic=arithmetic)
        certificate.write(file, net, some, x, epsilon=radius)
        assert certificate.read(file)["epsilon"] == float(radius)
        assert checker.check(file, weights, x.numpy()).count("contradicted") == 0


def test_the_command_line_writes_and_verifies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    recipe = recipes.Recipe("liresnet-l1w2", 0.01, 0.01, 1, 1, 128)
    net = recipes.build(recipe, (1, 28, 28), 10).eval()
    models.save("tiny", net, recipe, {"dataset": "mnist-5k"})

    def call(*arguments):
        """The exit code, and what was printed and said as an error."""
        monkeypatch.setattr(sys, "argv", ["thesis-repro", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    out, verified = str(tmp_path / "c.json"), ("--data", "mnist-5k")
    code, printed, said = call("certify", "tiny", "mnist-5k", "--out", out, "--points", "30")
    assert code == 0, said
    assert "for the net evaluated in float64" in printed
    assert certificate.read(out)["arithmetic"] == "float64"
    done = call("verify", out, "--model", "tiny", *verified)
    assert done[0] == 0, done
    assert ", 0 contradicted" in done[1]
    for suffix, part in ((".safetensors", "weights"), (".json", "card")):
        own = tmp_path / "models" / f"tiny{suffix}"
        before = own.read_bytes()
        code, _, said = call("certify", "tiny", "mnist-5k", "--out", str(own), "--points", "9")
        assert code == 1 and f"is the {part} of tiny: name another file" in said
        assert own.read_bytes() == before
    single = call("certify", "tiny", "mnist-5k", "--out", out + "32", "--points", "30", *FLOAT32)
    assert "evaluated in float32" in single[1]
    assert call("verify", out + "32", "--model", "tiny", *verified)[0] == 0
    half = call("certify", "tiny", "mnist-5k", "--out", out, "--arithmetic", "float16")
    assert half[0] == 1 and half[2].startswith("error: weights in float32 can be evaluated in")
    certificate.write_net(tmp_path / "own.safetensors", net)
    assert call("verify", out, "--model", str(tmp_path / "own.safetensors"), *verified) == done
    plain_weights(net, tmp_path / "plain.safetensors")
    plain = call("verify", out, "--model", str(tmp_path / "plain.safetensors"), *verified)
    assert plain[0] == 1
    assert "does not state its architecture" in plain[1]
    text = (tmp_path / "c.json").read_text()
    assert json.loads(text)["model"] == "tiny"
    reseal(tmp_path / "c.json", without(1))
    code, _, said = call("verify", out, "--model", "tiny", *verified)
    assert code == 1
    assert said.startswith("error: the certificate is about another architecture")
    (tmp_path / "c.json").write_text(text.replace('"epsilon": 0.01', '"epsilon": 0.04'))
    code, _, said = call("verify", out, "--model", "tiny", *verified)
    assert code == 1
    assert said == "error: c.json was altered: its content does not match its seal\n"
    code, _, said = call("certify", str(tmp_path / "x.safetensors"), "mnist-5k", "--out", out)
    assert code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("verdicts", "bound", "code"),
    [
        (["confirmed", ""], True, 0),
        (["confirmed", ""], False, 1),
        (["confirmed", "not confirmed"], True, 1),
        (["confirmed", "contradicted"], True, 1),
        (["not confirmed"], True, 1),
        ([""], True, 1),
    ],
)
def test_verify_succeeds_only_when_every_claim_is_confirmed(monkeypatch, verdicts, bound, code):
    monkeypatch.setattr(checker, "read", lambda file: {"images": verdicts})
    monkeypatch.setattr(models, "to_verify", lambda model: (Path("w.safetensors"), None))
    monkeypatch.setattr(data, "held_out", lambda name: SimpleNamespace(x=torch.zeros(3, 1)))
    report = checker.Report(verdicts, [], bound)
    monkeypatch.setattr(checker, "check", lambda *_, **__: report)
    model = ["--model", "mnist-2c2f-gloro", "--data", "mnist-5k"]
    result = CliRunner().invoke(cli.app, ["verify", "c.json", *model])
    assert result.exit_code == code
    assert ("claims no point" in result.output) == (verdicts == [""])
