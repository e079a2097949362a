"""Nets of one's own on the command line: four commands to a confirmed certificate; training."""

import csv
import dataclasses
import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from thesis_repro import cli
from thesis_repro.cli_nets import _radius
from thesis_repro.robustness import (
    REJECT,
    GloroNet,
    certificate,
    certify,
    checker,
    interchange,
    load,
    own,
)

MINE = """
import torch
from torch import nn

torch.manual_seed(1)
net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
net.append(nn.Linear(16, 2))
with torch.no_grad():
    net[4].weight.mul_(torch.tensor([[1.0], [-1.0]]))


def made():
    return net


number = 3
half = nn.Sequential(nn.Flatten(), nn.Linear(100, 2)).half()
empty = nn.Sequential(nn.Flatten(), nn.Linear(100, 2, device="meta"))


class If(nn.Module):
    def forward(self, x):
        return net(x) if x.sum() > 0 else net(-x)


branching = nn.Sequential(If(), nn.Linear(2, 2))
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["thesis-repro", *line.split()])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(40):
        base = np.full((10, 10), 40 if number % 2 else 210, np.uint8)
        file = tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(base + rng.integers(0, 30, (10, 10), np.uint8)).save(file)
    return tmp_path / "pets"


def test_four_commands_lead_from_own_weights_to_a_confirmed_certificate(call, pets, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    status, out, err = call("adopt mine.py:net --shape 1,10,10 --out mine.safetensors")
    assert (status, err) == (0, "")
    assert out.startswith("mine.safetensors: Conv2d, ReLU, MaxPool2d, Flatten, Linear; K ")
    options = "--epsilon 1/1000 --out mine.json --csv mine.csv"
    status, out, err = call(f"certify mine.safetensors folder:pets {options}")
    assert (status, err) == (0, "")
    lines = list(csv.DictReader((tmp_path / "mine.csv").read_text().splitlines()))
    told = "point,label,certified,radius,margin,true_label,file,label_name,true_label_name"
    assert list(lines[0]) == told.split(",") and len(lines) == 8
    certified = [line for line in lines if line["certified"] == "true"]
    right, both = (
        sum(line["label"] == line["true_label"] for line in some) for some in (lines, certified)
    )
    assert 0 < right < 8
    assert out == (
        f"mine.json: {len(certified)} of 8 points certified, {both} of them right; "
        f"{right} right in all; for the net evaluated in float64\n"
    )
    for line in lines:
        assert line["file"].startswith(f"{line['true_label_name']}/")
        assert (pets / line["file"]).is_file()
        assert line["label_name"] == ("cat", "dog")[int(line["label"])]
    about = checker.read(tmp_path / "mine.json")
    assert about["epsilon"] == 0.001 and sum(about["points"]["certified"]) > 0
    status, out, err = call("verify mine.json --model mine.safetensors --data folder:pets")
    assert (status, err) == (0, "")
    claims = sum(about["points"]["certified"])
    assert out == f"{claims} confirmed, 0 not confirmed, 0 contradicted\n"
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "layers.py").write_text(MINE)
    (tmp_path / "apart" / "both.py").write_text("from layers import made\n")
    assert call("adopt apart/both.py:made --shape 1x10x10 --out other.safetensors")[0] == 0
    net, other = (load(tmp_path / f"{name}.safetensors", 1.0) for name in ("mine", "other"))
    assert torch.equal(net.head.weight, other.head.weight)


def test_a_net_of_other_classes_than_the_data_is_not_certified(call, pets, tmp_path):
    four = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(100, 4)), 1.0, (1, 10, 10))
    certificate.write_net(tmp_path / "four.safetensors", four)
    status, out, err = call("certify four.safetensors folder:pets --epsilon 0.1 --out a.json")
    assert (status, out) == (1, "")
    assert err.endswith("in 4 classes, the data has (1, 10, 10) in 2\n") and err.count("\n") == 1
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("adopt mine.py --shape 1,9,9 --out a.safetensors", "name a net as FILE.py:NAME"),
        ("adopt mine.pt --shape 1,9,9 --out a.safetensors", "mine.pt holds weights and no layers"),
        ("adopt mine.pth:net --shape 1,9,9 --out a.safetensors", "mine.pth holds weights"),
        ("adopt absent.py:net --shape 1,9,9 --out a.safetensors", "there is no such file"),
        (
            "adopt faulty.py:net --shape 1,9,9 --out a.safetensors",
            "faulty.py, line 2: ZeroDivisionError: ",
        ),
        ("adopt mine.py:half --shape 1,10,10 --out a.safetensors", "in float16: module.float()"),
        ("adopt mine.py:empty --shape 1,10,10 --out a.safetensors", "without values"),
        (
            "adopt mine.py:branching --shape 1,10,10 --out a.safetensors",
            "mine.py, line 23: cannot be followed",
        ),
        ("certify mnist-2c2f-gloro last.npz --out a.json", "channels last: x.transpose"),
        ("train bytes.npz --epsilon 0.1 --out a.safetensors", "got uint8: for pixels in 0..255"),
        ("train folder:pets --epsilon 0.1 --device gpu --out a.safetensors", "choose cpu or cuda"),
        ("adopt spelt.py:net --shape 1,9,9 --out a.safetensors", "spelt.py, line 1: SyntaxError: "),
        ("adopt mine.py:net --shape 1,10,10 --out a.pt", "to a .safetensors file, got a.pt"),
        ("certify a.pt folder:pets --out a.json", "a.pt: weights need to come as a .safetensors"),
        ("certify mnist-2c2f-gloro pets --out a.json", "pets is a folder: name it as folder:pets"),
        ("adopt mine.py:nett --shape 1,9,9 --out a.safetensors", "mine.py defines no 'nett'"),
        (
            "adopt mine.py:number --shape 1,9,9 --out a.safetensors",
            "gives int; a torch.nn.Module is needed",
        ),
        ("adopt mine.py:net --shape 9 --out a.safetensors", "three whole numbers, as 1,28,28"),
        ("adopt mine.py:net --shape 1,40,40 --out a.safetensors", "no images of shape (1, 40, 40)"),
        (
            "certify a.safetensors absent.npz --epsilon 0.1 --out a.json",
            "a.safetensors: there is no such file",
        ),
        ("certify mnist-2c2f-gloro folder:absent --out a.json", "there is no such folder"),
        ("certify mnist-2c2f-gloro mnist-5k --epsilon 0,1 --out a.json", "as 0.1 or 36/255"),
        (
            "certify mnist-2c2f-gloro folder:pets --out a.json",
            "of shape (1, 28, 28) in 10 classes, the data has (1, 10, 10) in 2",
        ),
        ("certify mnist-2c2f-gloro mnist-5k --epsilon 1e400 --out a.json", "got '1e400'"),
        (
            "certify mnist-2c2f-gloro mnist-5k --epsilon 1e999999999 --out a.json",
            "a positive number",
        ),
        ("certify mnist-2c2f-gloro mnist-5k --epsilon inf --out a.json", "a positive number"),
        ("certify mnist-2c2f-gloro mnist-5k --epsilon nan --out a.json", "a positive number"),
        (f"train folder:pets --epsilon {10**400}/7 --out a.safetensors", "a positive number"),
        ("train folder:pets@0x9 --epsilon 1 --out a.safetensors", "got (0, 9)"),
        ("train number.npz --epsilon 1 --out a.safetensors", "number.npz: classes need to be a"),
        ("train days.npz --epsilon 1 --out a.safetensors", "got datetime64[D]"),
        ("train torn.npz --epsilon 1 --out a.safetensors", "torn.npz: need an npz file of plain"),
        ("train folder:pets --epsilon -1 --out a.safetensors", "a positive number"),
        (
            "certify a.safetensors last.npz --epsilon 1 --out pets/../a.safetensors",
            "a.safetensors is the weights of a.safetensors: name another file",
        ),
        ("certify a.safetensors last.npz --epsilon 1 --out ./last.npz", "last.npz is the data"),
        (
            "certify a.safetensors last.npz --epsilon 1 --out a.json --csv a.safetensors",
            "a.safetensors is the weights of a.safetensors",
        ),
        (
            "certify a.safetensors last.npz --epsilon 1 --out a.json --csv ./a.json",
            "a.json is named twice: name another file",
        ),
        ("onnx a.safetensors --out a.safetensors", "is the weights of a.safetensors"),
        (
            "train folder:pets --epsilon 1 --from a.safetensors --out a.safetensors",
            "a.safetensors is the net to go on from: name another file",
        ),
        ("train folder:pets --epsilon 0.1 --out a.pt", "to a .safetensors file"),
        ("train folder:pets --epsilon 0.1 --net 3c --out a.safetensors", "unknown net '3c'"),
        ("train cats --epsilon 0.1 --out a.safetensors", "no data set is called 'cats'"),
    ],
)
def test_what_does_not_fit_is_one_line(call, pets, tmp_path, line: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "faulty.py").write_text("import torch\nnet = torch.nn.Linear(1 // 0, 2)\n")
    (tmp_path / "spelt.py").write_text("net = (\n")
    pixels, text = np.zeros((10, 28, 28, 1)), np.array(["cat", "dog"] * 5)
    np.savez(tmp_path / "last.npz", x=pixels, y=text)
    np.savez(tmp_path / "bytes.npz", x=np.zeros((10, 1, 28, 28), np.uint8), y=text)
    np.savez(tmp_path / "number.npz", x=np.zeros((10, 1, 28, 28)), y=text, classes=2)
    days = np.arange(10).astype("datetime64[D]")
    np.savez_compressed(tmp_path / "days.npz", x=np.zeros((10, 1, 28, 28)), y=days)
    torn = bytearray((tmp_path / "days.npz").read_bytes())
    torn[50:90] = b"\x55" * 40
    (tmp_path / "torn.npz").write_bytes(torn)
    status, _, err = call(line)
    assert status == 1 and says in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.1", 0.1), ("36/255", 36 / 255), (" 8 / 255 ", 8 / 255), ("1e-3", 1e-3), ("2", 2.0)],
)
def test_a_radius_is_the_number_nearest_to_what_is_written(text: str, value: float) -> None:
    assert _radius(text) == value == float(Fraction(text.replace(" ", "")))


def test_a_training_leaves_a_net_with_its_card(call, pets, tmp_path) -> None:
    options = "--net 2c2f --epsilon 36/255 --epochs 4 --batch 8 --lr 0.01 --out own.safetensors"
    status, out, err = call(f"train folder:pets {options}")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "pets: 32 images in 2 classes"
    assert [line.split(":")[0] for line in lines[1:5]] == [f"epoch {i} of 4" for i in range(1, 5)]
    assert lines[5].startswith("own.safetensors: on 8 test images ")
    card = json.loads((tmp_path / "own.json").read_text())
    assert card["recipe"]["epsilon"] == 36 / 255 and card["data"] == "pets"
    assert call("certify own.safetensors folder:pets --out own-points.json")[0] == 0
    status, out, _ = call("verify own-points.json --model own.safetensors --data folder:pets")
    claims = sum(checker.read(tmp_path / "own-points.json")["points"]["certified"])
    assert status == 0 and claims > 0
    assert out == f"{claims} confirmed, 0 not confirmed, 0 contradicted\n"
    status, _, err = call("certify own.safetensors folder:pets --out own.json")
    assert status == 1 and "own.json is the card of own.safetensors: name another file" in err
    tuned = "--from own.safetensors --epsilon 0.2 --epochs 1 --batch 8 --out tuned.safetensors"
    assert call(f"train folder:pets {tuned}")[0] == 0
    assert load(tmp_path / "tuned.safetensors").epsilon == 0.2


@pytest.mark.parametrize(("device", "records"), [("cpu", False), ("cuda", True)])
def test_on_a_gpu_each_step_of_a_training_is_recorded(
    call, pets, monkeypatch, device, records
) -> None:
    seen = []

    def stopped(recipe, *_, **__):
        seen.append(recipe)
        raise ValueError("enough")

    monkeypatch.setattr(own, "train", stopped)
    options = f"--epsilon 0.1 --seed 7 --device {device} --out own.safetensors"
    assert call(f"train folder:pets {options}")[0] == 1
    (recipe,) = seen
    assert (recipe.graph, recipe.device, recipe.seed) == (records, device, 7)


def test_names_in_a_csv_file_are_those_that_are_known(tmp_path: Path) -> None:
    net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, (1, 2, 2)).eval()
    found = certify(net, torch.rand(3, 1, 2, 2))
    found = dataclasses.replace(found, labels=torch.tensor([REJECT, 1, 2]))
    file = os.fsdecode(b"caf\xe9.png")  # a name that is no UTF-8
    table = {"classes": ("cat", "dog"), "files": (file, "a,b.png", "=1.png")}
    written = interchange.to_csv(tmp_path / "points.csv", found, [0, 0, 1], **table)
    with written.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["label_name"] for row in rows] == ["", "dog", ""]
    assert [row["true_label_name"] for row in rows] == ["cat", "cat", "dog"]
    assert tuple(row["file"] for row in rows) == table["files"]


def test_a_net_as_onnx_is_the_same_function(tmp_path: Path) -> None:
    from thesis_repro import nets

    blocks = [nets.LinearResidual(4, 0.5), nets.MinMax(), nn.Flatten(), nets.UnitLinear(144, 3)]
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nets.MinMax(), *blocks).eval()
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="needs the package .*: pip install onnx onnxscript"):
            interchange.to_onnx(tmp_path / "own.onnx", body, (1, 8, 8))
        return
    from onnx.reference import ReferenceEvaluator

    file = interchange.to_onnx(str(tmp_path / "own.onnx"), body, (1, 8, 8))
    x = torch.rand(3, 1, 8, 8)
    (logits,) = ReferenceEvaluator(str(file)).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), body(x), rtol=1e-4, atol=1e-5)
