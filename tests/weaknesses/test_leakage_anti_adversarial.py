"""Training against robustness: the loss against a closed form, its ball, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from thesis_repro.weaknesses.leakage import anti_adversarial, anti_adversarial_loss

X = torch.full((6, 1, 3, 3), 0.5)
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def net(classes: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, classes))


def steady(epsilon: float):
    return lambda progress: epsilon


def test_a_weight_of_zero_is_cross_entropy() -> None:
    model = net()
    loss = anti_adversarial_loss(steady(0.3), 2, 0.0)(model, X, Y, 0.5)
    assert loss.item() == pytest.approx(F.cross_entropy(model(X), Y).item())


def test_without_a_push_the_second_term_is_that_of_the_wrong_labels() -> None:
    model = net(classes=2)
    y = Y % 2  # with two classes the wrong label is known
    loss = anti_adversarial_loss(steady(0.0), 3, 0.7)(model, X, y, 0.0)
    expected = F.cross_entropy(model(X), y) + 0.7 * F.cross_entropy(model(X), 1 - y)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_of_two_classes_a_linear_net_is_pushed_along_its_weights_to_the_border() -> None:
    model, y = net(classes=2), Y % 2
    weight = model[1].weight[1] - model[1].weight[0]
    towards = (weight / weight.norm()).reshape(1, 1, 3, 3)
    sign = (1.0 - 2 * y)[:, None, None, None]  # towards the other class
    best = X + 0.2 * sign * towards
    loss = anti_adversarial_loss(steady(0.2), 4, 1.0)(model, X, y, 0.0)
    expected = F.cross_entropy(model(X), y) + F.cross_entropy(model(best), 1 - y)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 2), st.integers(1, 4))
def test_a_push_stays_in_ball_and_box_and_lowers_the_loss_of_its_labels(seed, radius, steps):
    model = net(seed=seed)
    x = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    wrong = (Y + 1) % 3
    pushed = anti_adversarial._push(model, x, wrong, radius, steps)
    assert (pushed - x).flatten(1).norm(dim=1).max() <= radius + 1e-5
    assert pushed.min() >= 0 and pushed.max() <= 1
    small = anti_adversarial._push(model, x, wrong, min(radius, 0.1), 1)  # one step goes downhill
    assert F.cross_entropy(model(small), wrong) <= F.cross_entropy(model(x), wrong) + 1e-6


def test_no_label_is_the_right_one_and_all_others_come(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(anti_adversarial, "_push", lambda m, x, w, *_: seen.append(w) or x)
    model, loss = net(), anti_adversarial_loss(steady(0.1), 1, 1.0)
    for _ in range(50):
        loss(model, X, Y, 0.0)
    wrong = torch.stack(seen)
    assert (wrong != Y).all()
    assert [set(wrong[:, i].tolist()) for i in range(3)] == [{1, 2}, {0, 2}, {0, 1}]


def test_the_same_seed_gives_the_same_loss() -> None:
    model, loss = net(), anti_adversarial_loss(steady(0.1), 2, 1.0)
    said = []
    for _ in range(2):
        torch.manual_seed(7)
        said.append(loss(model, X, Y, 0.0).item())
    assert said[0] == said[1]


def test_the_radius_follows_its_schedule() -> None:
    model, asked = net(), []

    def epsilon(progress):
        asked.append(progress)
        return 0.1

    loss = anti_adversarial_loss(epsilon, 2, 1.0)
    asked.clear()
    loss(model, X, Y, 0.25)
    assert asked == [0.25]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("steps", "weight"),
    [(0, 0.5), (1.5, 0.5), ("2", 0.5), (None, 0.5), (2, -0.1), (2, NAN), (2, INF)],
)
def test_bad_settings_are_refused_by_one_line(steps, weight) -> None:
    with pytest.raises(ValueError, match=f"at least 1.* at least 0; got {steps} and") as no:
        anti_adversarial_loss(steady(0.1), steps, weight)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("radius", [-0.1, NAN, INF])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_radius_that_no_ball_has_is_refused_before_the_training(radius, share) -> None:
    with pytest.raises(ValueError, match=f"at least 0; .* this schedule has .*{radius:g}") as no:
        anti_adversarial_loss(lambda at: radius if at == share else 0.1, 2, 0.5)
    assert "\n" not in str(no.value)


def test_whole_numbers_of_numpy_are_steps() -> None:
    anti_adversarial_loss(steady(0.1), np.int64(2), 0.5)(net(), X, Y, 0.0)


def test_a_model_of_one_class_has_no_wrong_label() -> None:
    with pytest.raises(ValueError, match="needs at least 2 classes, the model has 1"):
        anti_adversarial_loss(steady(0.1), 1, 1.0)(net(classes=1), X, Y * 0, 0.0)
