"""Training on one's own data: what it leaves, that it resumes, and from where it can go on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from thesis_repro import data
from thesis_repro.lab import sealed
from thesis_repro.robustness import GloroNet, adopt, certify, load, own
from thesis_repro.robustness.recipes import Recipe
from thesis_repro.training import loop

RECIPE = Recipe("2c2f", 0.1, 0.12, epochs=3, epochs_paper=3, batch_size=16, lr=1e-2)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    centres = torch.rand(3, 1, 8, 8, generator=generator).round()
    noise = 0.05 * torch.randn(60, 1, 8, 8, generator=generator)
    return data.from_arrays((centres[y] + noise).clamp(0, 1), y, ["a", "b", "c"])


def test_it_leaves_weights_and_a_card_that_load_takes(digits: data.Dataset, tmp_path: Path) -> None:
    seen: list[float] = []
    out = str(tmp_path / "deep" / "own.safetensors")
    net = own.train(RECIPE, digits, out, on_epoch=lambda _, epoch: seen.append(epoch["epoch"]))
    assert seen == [1, 2, 3] and not net.training
    again, card = load(out), sealed.read(Path(out).with_suffix(".json"))
    assert torch.equal(again.head.weight, net.head.weight) and again.epsilon == 0.1
    found = certify(net, digits.test.x)
    right = found.labels == digits.test.y
    assert card["scores"]["vra"] == (right & found.certified).double().mean().item() > 0.5
    assert card["data_sha256"] == data.fingerprint(digits)
    assert card["class_names"] == ["a", "b", "c"] and len(card["history"]) == 3
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == [
        "own.json",
        "own.safetensors",
    ]


def test_a_training_that_was_stopped_goes_on(digits: data.Dataset, tmp_path: Path) -> None:
    whole = own.train(RECIPE, digits, tmp_path / "whole.safetensors")

    def stop(_: nn.Module, epoch: dict[str, float]) -> None:
        if epoch["epoch"] == 2:
            raise KeyboardInterrupt

    out = tmp_path / "own.safetensors"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            own.train(RECIPE, digits, out, on_epoch=stop)
    assert not out.exists() and (tmp_path / "own.checkpoint.safetensors").exists()
    later: list[float] = []
    net = own.train(RECIPE, digits, out, on_epoch=lambda _, epoch: later.append(epoch["epoch"]))
    assert later == [2, 3], "the first epoch was taken from the checkpoint"
    assert torch.equal(net.head.weight, whole.head.weight)


def test_it_goes_on_from_an_adopted_net_with_sums(digits: data.Dataset, tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(1, 4, 1, 2)
            self.head = nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((torch.relu(self.one(x)) + self.two(x)).flatten(1))

    torch.manual_seed(0)
    net = GloroNet(adopt(Block(), (1, 8, 8)), 0.1, (1, 8, 8))
    before = float((certify(net, digits.test.x).labels == digits.test.y).double().mean())
    out = tmp_path / "own.safetensors"
    tuned = own.train(replace(RECIPE, epochs=12), digits, out, start=net)
    found = certify(load(out), digits.test.x)
    assert before < 0.7 < float((found.certified & (found.labels == digits.test.y)).double().mean())
    assert torch.equal(load(out).head.weight, tuned.head.weight)
    more = own.train(RECIPE, digits, tmp_path / "more.safetensors", start=out)
    assert not torch.equal(more.head.weight, tuned.head.weight)


def test_what_does_not_fit_is_one_line(digits: data.Dataset, tmp_path: Path) -> None:
    other = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), 0.1, (1, 8, 8))
    for options, says in (
        ({"out": tmp_path / "own.pt"}, "need to go to a .safetensors file"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'; choose one of none"),
        ({"start": other}, "in 2 classes, the data has"),
    ):
        with pytest.raises(ValueError, match=says):
            own.train(RECIPE, digits, **{"out": tmp_path / "own.safetensors", **options})
    good = digits.test
    for bad, says in (  # which would be found, or not, after the last epoch
        (data.Split(255 * good.x, good.y), "pixels need to lie in"),
        (data.Split(good.x[:0], good.y[:0]), "n >= 1"),
        (data.Split(good.x, good.y[:3]), "one label for each"),
        (data.Split(good.x, good.y + 1), r"labels need to lie in \[0, 3\), got 3"),
    ):
        for part in ("train", "test"):
            with pytest.raises(ValueError, match=says):
                own.train(RECIPE, replace(digits, **{part: bad}), tmp_path / "own.safetensors")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_found_before_the_first_epoch(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(own.recipes, "fit", lambda *_, **__: started.append(1))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        own.train(RECIPE, digits, tmp_path / "folder.safetensors")
    monkeypatch.setattr(own.os, "access", lambda *_: False)  # as a user who may not write there
    with pytest.raises(PermissionError, match="nothing can be written in"):
        own.train(RECIPE, digits, tmp_path / "own.safetensors")
    assert not started
