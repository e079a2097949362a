"""The calibrated attack on a net of one's own: a planted leak is found, bad input is one line."""

import math

import pytest
import torch
from torch import nn

from thesis_repro.weaknesses.membership import CalibratedAttack, auc
from thesis_repro.weaknesses.membership.own import Train

CLASSES, SIZE = 2, 6


def points(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, SIZE, generator=generator)
    return x, torch.randint(CLASSES, (n,), generator=generator)


def train(x: torch.Tensor, y: torch.Tensor, seed: int) -> nn.Sequential:
    """Labels are noise, so whatever the net knows of them it remembers."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def fitted() -> CalibratedAttack:
    return CalibratedAttack(train, ["0", "2"], shadows=4).fit(*points(160, 0))


def test_members_of_a_net_that_remembers_are_found(fitted: CalibratedAttack) -> None:
    x, y = points(80, 1)
    target = train(x[:40], y[:40], 7)
    assert auc(fitted.score(target, x, y), (torch.arange(80) < 40).numpy()) > 0.7


def test_no_threshold_is_given_for_a_precision_that_was_never_reached(
    fitted: CalibratedAttack,
) -> None:
    assert math.isinf(fitted.threshold_for(0.999, least=300))


def test_points_that_every_other_shadow_saw_teach_nothing(fitted: CalibratedAttack) -> None:
    # nobody says what is usual of the one point in eight that the other three contain
    assert len(fitted.scores_) == len(fitted.member_) < 4 * 120
    assert 2 * fitted.member_.sum() == len(fitted.member_)


@pytest.mark.parametrize("whole", [True, False])
def test_shadows_that_share_weights_are_refused(whole: bool) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, CLASSES)).eval()

    def again(x: torch.Tensor, y: torch.Tensor, seed: int) -> nn.Sequential:
        return net if whole else nn.Sequential(*net, nn.Identity()).eval()

    with pytest.raises(ValueError, match="train needs to make a new net in each call"):
        CalibratedAttack(again, ["0"], shadows=4).fit(*points(40, 0))


def test_what_does_not_fit_is_one_line(fitted: CalibratedAttack) -> None:
    x, y = points(20, 2)
    bad = x.clone()
    bad[3, 1] = math.nan
    target, own = train(x, y, 8), nn.Linear(SIZE, CLASSES)

    def short(x: torch.Tensor, y: torch.Tensor) -> nn.Sequential:
        return target

    def gives(logits: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(SIZE, 3), nn.ReLU(), nn.Linear(3, logits)).eval()

    rare = (torch.arange(16) == 3).long()

    def fit(train: Train) -> CalibratedAttack:
        return CalibratedAttack(train, ["0"], shadows=4).fit(x, y)

    for says, call in (
        ("at least 4 shadows", lambda: CalibratedAttack(train, ["0"], shadows=3)),
        ("at least 16 points", lambda: CalibratedAttack(train, ["0"]).fit(x[:10], y[:10])),
        (
            "class 1 has none of the 4 points",
            lambda: CalibratedAttack(train, ["0"]).fit(x[:16], rare),
        ),
        ("needs to be fitted", lambda: CalibratedAttack(train, ["0"]).score(target, x, y)),
        (r"x: got nan in row 3", lambda: fitted.score(target, bad, y)),
        (r"x: got nan in row 3", lambda: CalibratedAttack(train, ["0"]).fit(bad, y)),
        (r"is in training mode", lambda: fitted.score(target.train(), x, y)),
        (r"train\(x, y, seed\); short: too many", lambda: CalibratedAttack(short, ["0"])),
        (r"got Linear: nn.Sequential\(net\) makes", lambda: fit(lambda x, y, seed: own)),
        (r"each of the 2 classes or more, .* \(1,\)", lambda: fit(lambda x, y, seed: gives(1))),
        (r"gives 5 logits, the shadows .* gave 2", lambda: fitted.score(gives(5), x, y)),
        (r"of the 2 classes or more, .* \(1,\)", lambda: fitted.score(gives(1), x, y)),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
