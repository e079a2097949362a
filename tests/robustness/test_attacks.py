import pytest
import torch
from torch import nn

from thesis_repro.robustness import GloroNet, attacks, boundary, relaxed, set_attack, threats


def linear_model(seed=0, classes=3, pixels=16):
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(classes, pixels, generator=generator))
        model[1].bias.zero_()
    return model


def points(n=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64) * 0.2 + 0.4


def exact_radius(model, x, y):
    """Distance of each point to the nearest boundary of a linear classifier."""
    w = model[1].weight.detach()
    logits = model(x).detach()
    gaps = logits.gather(1, y[:, None]) - logits
    norms = (w[y][:, None] - w[None]).norm(dim=2)
    return (gaps / norms).nan_to_num(torch.inf).amin(1)


def test_on_a_linear_model_it_succeeds_exactly_where_it_can():
    model, x = linear_model(), points()
    y = model(x).argmax(1)
    radius = exact_radius(model, x, y)
    for factor, falls in ((1.02, True), (0.98, False)):
        found = attacks.pgd_l2(model, x, y, factor * radius, steps=30)
        assert ((model(found).argmax(1) != y) == falls).all()


def test_it_stays_in_the_ball_and_in_the_pixel_range():
    model, x = linear_model(), torch.rand(30, 1, 4, 4)
    y = torch.zeros(30, dtype=torch.int64)
    found = attacks.pgd_l2(model.float(), x, y, 0.7, steps=7, restarts=3)
    assert (found - x).flatten(1).norm(dim=1).max() <= 0.7
    assert found.min() >= 0 and found.max() <= 1


def test_targets_and_restarts_and_seed():
    model, x = linear_model(), points()
    y = model(x).argmax(1)
    target = (y + 1) % 3
    found = attacks.pgd_l2(model, x, y, 5.0, 20, targets=target)
    assert (model(found).argmax(1) != y).any()
    runs = [
        attacks.pgd_l2(model, x, y, 0.01, 5, 3, torch.Generator().manual_seed(seed))
        for seed in (5, 5)
    ]
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"restarts": 0}, "restarts=0"),
        ({"epsilon": 0.0}, "epsilon needs to be positive"),
        ({"y": torch.tensor([7, 0])}, r"y need to lie in \[0, 3\), got 7 in row 0"),
        ({"y": torch.tensor([0])}, "one label for each of 2 images"),
    ],
)
def test_bad_input(change, message):
    arguments = {"y": torch.tensor([0, 1]), "epsilon": 0.1, "steps": 2, "restarts": 1} | change
    with pytest.raises(ValueError, match=message):
        attacks.pgd_l2(linear_model(), points(2), **arguments)


def planted(scale):
    """A net whose body is linear in float32: its exact radius is known."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        body[1].weight.copy_(linear_model()[1].weight * scale)
        body[1].bias.zero_()
    return GloroNet(body, 0.05, (1, 4, 4))


def test_break_certificates_finds_a_planted_false_bound(monkeypatch):
    net, x = planted(1.0), points(200).float()
    honest = attacks.break_certificates(net, x, steps=20, restarts=2, nearest=2)
    assert honest["attacked"] > 20 and honest["broken"] == 0
    bound = net.bound()
    small = type(bound)(bound.k_sub / 2, bound.k_ij / 2, bound.layers)
    monkeypatch.setattr(net, "bound", lambda: small)
    assert attacks.break_certificates(net, x, steps=20, restarts=2)["broken"] > 0


def test_smallest_margins_first_and_nothing_to_attack():
    net, x = planted(1.0), points(200).float()
    some = attacks.break_certificates(net, x, steps=1, restarts=1, smallest=10)
    assert some["attacked"] == 10
    flat = planted(0.0)
    nothing = attacks.break_certificates(flat, x, steps=1, restarts=1)
    assert nothing["attacked"] == 0


class Faulty(nn.Module):
    """Logits that are right below a brightness and not finite above, or whose slope is not."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        bright = x.flatten(1).mean(1)
        margin = 0.5 - bright
        if self.kind == "slope":  # not a number at the start, as of a root at zero
            margin = margin + (x.flatten(1)[:, 0] - 0.25).abs().sqrt()
        if self.kind in ("nan", "inf"):
            margin = torch.where(bright > 0.3, float(self.kind), margin)
        if self.kind == "large":
            margin = 1e30 * margin
        return torch.stack([margin, torch.zeros_like(margin)], 1)


@pytest.mark.parametrize("kind", ["nan", "inf", "slope", "large", "small"])
def test_nothing_non_finite_leaves_an_attack(kind):
    x = torch.full((5, 1, 2, 2), 0.25)
    model, y = Faulty(kind), torch.zeros(5, dtype=torch.int64)
    found = attacks.pgd_l2(model, x, y, 0.3, steps=5, restarts=3)
    assert found.isfinite().all() and found.min() >= 0 and found.max() <= 1
    assert (found - x).flatten(1).norm(dim=1).max() <= 0.3
    there = model(found)
    if kind in ("nan", "inf"):  # such a point has fallen: no class can be read there
        assert not there.isfinite().all(1).any()
        _, distance = attacks.closest(model, x, y, torch.full((5,), 0.3), rounds=2)
        assert (distance <= 0.35).all()
    if kind == "large":  # gradients whose squares overflow still lead somewhere
        assert (found.flatten(1).mean(1) > 0.3).all()


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_radii_and_images_that_make_no_sense_are_refused(epsilon):
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="epsilon needs to be positive and finite, got"):
        attacks.pgd_l2(Faulty("none"), x, y, epsilon, 3)
    for image in (2 * x + 1, x * float("nan")):
        with pytest.raises(ValueError, match=r"pixels need to lie in \[0, 1\]"):
            attacks.pgd_l2(Faulty("none"), image, y, 0.1, 3)
    with pytest.raises(ValueError, match=r"targets need to lie in \[0, 2\)"):
        attacks.pgd_l2(Faulty("none"), x, y, 0.1, 3, targets=y + 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_net_in_half_precision_is_refused_in_one_line(dtype):
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).to(dtype).eval()
    x, y = torch.rand(5, 1, 6, 6).to(dtype), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match="a search needs float32 or float64, got b?float16"):
        attacks.pgd_l2(net, x, y, 0.1, 3)


def flat_net(epsilon):
    """A net of rows of 16 numbers, and the same one of images of 4 x 4 pixels."""
    head = linear_model()[1]
    rows = GloroNet(nn.Sequential(head), epsilon, (16,)).eval()
    return rows, GloroNet(nn.Sequential(nn.Flatten(), head), epsilon, (1, 4, 4)).eval()


@pytest.mark.parametrize("shape", [(16,), (4, 4), (2, 2, 4), (2, 2, 2, 2)])
def test_inputs_of_any_number_of_axes_are_attacked_as_images_are(shape):
    _, net = flat_net(0.05)
    body = nn.Sequential(nn.Flatten(), net.body[1])
    given, x = GloroNet(body, 0.05, shape).eval(), points(16)  # as many as a broadcast may meet
    other = x.view(16, *shape)
    y = net.body(x).argmax(1)
    about = {"steps": 7, "restarts": 3, "smallest": 10, "nearest": 2}
    assert attacks.break_certificates(given, other, **about) == attacks.break_certificates(
        net, x, **about
    )
    for radius in (0.1, 0.7):
        moved = [attacks.pgd_l2(net.body, v, y, radius, 9, 2) for v in (x, other)]
        assert torch.equal(moved[0].flatten(1), moved[1].flatten(1))
        assert (moved[0] - x).flatten(1).norm(dim=1).max() <= radius
    start = torch.full((16,), 0.05)
    nearest = [attacks.closest(body, v, y, start, rounds=20, steps=9) for v in (x, other)]
    assert torch.equal(nearest[0][1], nearest[1][1]) and nearest[0][1].isfinite().any()


def test_a_net_without_images_is_attacked_in_every_way():
    rows, pictures = flat_net(0.01)
    x = points(40).flatten(1)
    y = rows.body(x).argmax(1)
    found = attacks.break_certificates(rows, x, steps=5, restarts=2)
    assert found["attacked"] > 20 and found["broken"] == 0
    sets = relaxed.certify(rows, x, k=2)
    assert set_attack.break_sets(rows, x, sets, steps=5, restarts=2)["broken"] == 0
    for attack in (threats.linf, threats.l1):
        moved = [attack(net.body, v, y, 0.3, 9) for net, v in ((rows, x), (pictures, points(40)))]
        assert (
            torch.equal(moved[0], moved[1].flatten(1))
            and (rows.body(moved[0]).argmax(1) != y).any()
        )
    with torch.no_grad():
        rows.body[0].bias.copy_(-(rows.body[0].weight @ x.mean(0)))  # of both nets
    near = [
        boundary.search(net, v, pairs=20, generator=torch.Generator().manual_seed(2))
        for net, v in ((rows, x), (pictures, points(40)))
    ]
    assert near[0] == near[1] and near[0].certified > 0
    says = r"of images \(n, channels, height, width\), got shape \(40, 16\)"
    for attack in (
        lambda: threats.patch(rows.body, x, y, 2, 3, 1),
        lambda: threats.turned(rows.body, x, y, 9.0),
    ):
        with pytest.raises(ValueError, match=says):
            attack()
