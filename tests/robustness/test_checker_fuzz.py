"""Whatever is done to its files, the checker gives a verdict or one ValueError."""

import copy
import json
import random
import resource

import pytest
import torch
from torch import nn

from thesis_repro.lab import sealed
from thesis_repro.robustness import GloroNet, certificate, certify, checker

ODD = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31 - 1, 2**63, 10**30, 10**400, -(10**400)),
    *(0.0, -0.0, 1e-300, 1e308, 1.5, float("nan"), float("inf"), float("-inf")),
    *("", "x", "0", "\ud800", "Linear", "Conv2d", "MaxPool2d", "Residual", "Sequential", "float64"),
    *([], {}, [[]], [0], [1, 1], [10**6, 10**6], [3, 3], ["a", "b"], {"a": 1}, [None] * 30),
]
VERDICTS = {"confirmed", "not confirmed", "contradicted", ""}


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A folder, the images, and the valid certificate and weights as they were written."""
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)]
    rest = [nn.AvgPool2d(1), nn.Flatten(), nn.Sequential(nn.Linear(8, 4)), nn.Linear(4, 3)]
    net = GloroNet(nn.Sequential(*convolution, *rest), 0.01, (1, 4, 4)).eval()
    x = torch.rand(5, 1, 4, 4)
    folder = tmp_path_factory.mktemp("fuzz")
    certificate.write(folder / "good.json", net, certify(net, x), x)
    certificate.write_net(folder / "good.safetensors", net)
    report = checker.check(folder / "good.json", folder / "good.safetensors", x.numpy())
    assert report.count("confirmed") > 0
    assert report.count("contradicted") == 0
    return (
        folder,
        x.numpy(),
        sealed.read(folder / "good.json"),
        (folder / "good.safetensors").read_bytes(),
    )


def places(value, path=()):
    """Paths to all that a JSON value holds."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def altered(content, rng):
    """The same JSON with a few parts replaced, removed, doubled or renamed."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        known = list(places(content))
        if not known:
            break
        *path, key = rng.choice(known)
        holder = content
        for step in path:
            holder = holder[step]
        action = rng.random()
        if action < 0.65:
            other = rng.choice([*ODD, holder[key]])
            holder[key] = copy.deepcopy(other)
            if isinstance(other, int | float) and rng.random() < 0.3:
                holder[key] = other * 2
        elif action < 0.8:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[f"{key}x"] = holder.pop(key)
    return content


def spoilt(content, rng):
    """Bytes with a few of them changed, removed, doubled or cut off."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        at = rng.randrange(len(content)) if content else 0
        action = rng.random()
        if action < 0.6 and content:
            content[at] = rng.randrange(256)
        elif action < 0.75:
            del content[at : at + rng.randrange(1, 40)]
        elif action < 0.9:
            content[at:at] = content[at : at + rng.randrange(1, 40)]
        else:
            del content[at:]
    return bytes(content)


def sealed_text(content):
    """As a forger would write it: with a fresh seal, where that can be had."""
    try:
        return sealed._bytes({**content, "seal": sealed._seal(content)})
    except (ValueError, TypeError):
        return json.dumps(content).encode()


def header(content, rng):
    """A weights file whose header was altered, and its length as well at times."""
    length = int.from_bytes(content[:8], "little")
    about = altered(json.loads(content[8 : 8 + length]), rng)
    text = json.dumps(about).encode()
    if rng.random() < 0.1:
        text = b"[" * rng.choice([10, 100_000])
    stated = len(text)
    if rng.random() < 0.2:
        stated = rng.choice([0, 1, stated - 1, stated + 1, 2**31, 2**63, 2**64 - 1])
    return stated.to_bytes(8, "little") + text + content[8 + length :]


def mutation(about, weights, rng):
    """One mutated pair of files."""
    kind = rng.random()
    text = sealed_text(about)
    if kind < 0.5:
        return sealed_text(altered(about, rng)), weights
    if kind < 0.6:
        # the architecture, too, so that what follows is reached
        other = altered(about, rng)
        length = int.from_bytes(weights[:8], "little")
        head = json.loads(weights[8 : 8 + length])
        head.pop("__metadata__")
        plain = json.dumps(head).encode()
        return sealed_text(other), len(plain).to_bytes(8, "little") + plain + weights[8 + length :]
    if kind < 0.7:
        return spoilt(text, rng), weights
    if kind < 0.72:
        deep = rng.choice([b"[", b'{"a":']) * rng.choice([50, 900, 2000, 100_000])
        return rng.choice([deep, b'{"epsilon": ' + deep]), weights
    if kind < 0.9:
        return text, header(weights, rng)
    return text, spoilt(weights, rng)


def outcome(file, weights, x):
    """A report, or the error: of any kind."""
    try:
        return checker.check(file, weights, x)
    except Exception as error:  # what it may be is for the test to say
        return error


def judge(valid, count, seed):
    folder, x, about, weights = valid
    rng, reports = random.Random(seed), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        file, tensors = mutation(about, weights, rng)
        (folder / "c.json").write_bytes(file)
        (folder / "w.safetensors").write_bytes(tensors)
        found = outcome(folder / "c.json", folder / "w.safetensors", x)
        if isinstance(found, checker.Report):
            reports += 1
            assert len(found.verdicts) == 5
            assert set(found.verdicts) <= VERDICTS
        else:
            assert type(found) is ValueError, f"mutation {number}: {found!r}"
            assert "\n" not in str(found), f"mutation {number}: {found!r}"
            assert len(str(found)) < 500
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kibibytes < 2**19  # half a gibibyte
    assert 0.02 * count < reports < 0.5 * count


def test_mutated_files_end_in_a_verdict_or_one_line(valid):
    judge(valid, 300, 0)


@pytest.mark.slow
def test_ten_thousand_mutated_files_end_in_a_verdict_or_one_line(valid):
    judge(valid, 10_000, 1)
