"""The commands for nets: adopt, train, certify, verify, and what other programs read."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

nets_app = typer.Typer()

AnyData = Annotated[
    str,
    typer.Argument(
        help="A set's name, folder:PATH with a folder for each class (folder:PATH@32x32 resizes "
        "the pictures), or an .npz."
    ),
]
Weights = Annotated[
    str,
    typer.Argument(help="A committed model, or a .safetensors file: with its card, or `adopt`ed."),
]
Radius = Annotated[
    str | None, typer.Option(help="L2 radius, as 0.1 or 36/255; default: that of the net's card.")
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


def _radius(text: str) -> float:
    """A number, or a fraction as papers give it."""
    spelt = text.replace(" ", "")
    try:  # of a fraction both parts are whole: none has an exponent, which may be of any size
        value = float(Fraction(spelt) if "/" in spelt else spelt)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"epsilon needs to be a positive number, as 0.1 or 36/255, got {text!r}")
    return value


@nets_app.command()
def model(
    name: Annotated[str, typer.Argument(help="For instance mnist-2c2f-gloro.")],
    device: Device = "cpu",
) -> None:
    """Train a model, attack every point it certifies, and commit it under results/models/."""
    from thesis_repro.experiments import commit_models

    card = commit_models.commit(name, device)
    print(f"{name}: {card['scores']}, attacked {card['gate']}")


@nets_app.command()
def adopt(
    source: Annotated[
        str,
        typer.Argument(help="FILE.py:NAME, a net with its weights, or a function that gives it."),
    ],
    out: Annotated[Path, typer.Option(help="Where the weights go: a .safetensors file.")],
    shape: Annotated[str, typer.Option(help="Of one image: channels,height,width.")],
) -> None:
    """Write a net of one's own as weights that state their layers; `certify` takes them."""
    from thesis_repro.robustness import GloroNet, certificate
    from thesis_repro.robustness import adopt as adopted

    sizes = _shape(shape)
    net = GloroNet(adopted(_named(source), sizes), 1.0, sizes)  # the radius is asked for later
    path = certificate.write_net(out, net)
    kinds = ", ".join(type(layer).__name__ for layer in net.body)
    print(f"{path}: {kinds}; K {net.bound().k_sub:.4g} before the last layer")


def _shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise ValueError(f"a shape is three whole numbers, as 1,28,28, got {text!r}") from None
    return channels, height, width


def _named(source: str) -> nn.Module:
    """What a Python file of the user defines under a name; called if it is a function."""
    from torch import nn

    file, _, name = source.rpartition(":")
    weights = file or source
    if Path(weights).suffix in (".pt", ".pth", ".ckpt", ".bin"):
        raise ValueError(
            f"{weights} holds weights and no layers: write a mine.py that makes the net and loads "
            f"them (the page Use it on your own net shows how), and give mine.py:net"
        )
    if not file.endswith(".py") or not name:
        raise ValueError(f"name a net as FILE.py:NAME, got {source!r}")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"{file}: there is no such file")
    try:
        net = _made(path, name)
    except Exception as error:
        line = _line(error, str(path))
        if line is None:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{file}, line {line}: {said}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{source} gives {type(net).__name__}; a torch.nn.Module is needed")
    return net


def _made(path: Path, name: str) -> object:
    """What the file defines; what it imports may lie beside it."""
    import inspect
    import runpy
    import sys

    sys.path.insert(0, str(path.parent))
    try:
        defined = runpy.run_path(str(path))
        if name not in defined:
            raise ValueError(f"{path.name} defines no {name!r}")
        found = defined[name]
        return found() if inspect.isfunction(found) or inspect.isclass(found) else found
    finally:
        sys.path.remove(str(path.parent))


def _line(error: Exception, file: str) -> int | None:
    """The last line of a file that an error passed through; None where it passed through none."""
    import traceback

    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    steps = traceback.extract_tb(error.__traceback__)
    return next((step.lineno for step in reversed(steps) if step.filename == file), None)


@nets_app.command()
def train(
    data: AnyData,
    epsilon: Annotated[str, typer.Option(help="L2 radius to certify, as 0.1 or 36/255.")],
    out: Annotated[Path, typer.Option(help="Where the weights go: a .safetensors file.")],
    net: Annotated[
        str, typer.Option(help="2c2f, 4c3f, 6c2f, 8c2f, or as liresnet-l6w64.")
    ] = "2c2f",
    start: Annotated[
        Path | None, typer.Option("--from", help="Go on from this net, as `adopt` writes it.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 256,
    train_epsilon: Annotated[
        str | None, typer.Option(help="Radius of the loss; default: a tenth more than epsilon.")
    ] = None,
    objective: Annotated[str, typer.Option(help="trades, cross-entropy or emma.")] = "trades",
    augment: Annotated[str, typer.Option(help="none or crop-flip.")] = "none",
    lr: Annotated[float, typer.Option(help="Rate of Adam at the start.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "cpu",
    minutes: Annotated[
        float | None, typer.Option(help="End before; give it again to go on.")
    ] = None,
) -> None:
    """Train a net to be certified by the GloRo loss; goes on where it was stopped."""
    from thesis_repro import data as sets
    from thesis_repro.lab import timebox
    from thesis_repro.robustness import own
    from thesis_repro.robustness.recipes import Recipe

    radius = _radius(epsilon)
    _check_apart({"the net to go on from": start}, out)
    wider = 1.1 * radius if train_epsilon is None else _radius(train_epsilon)
    about = (net, radius, wider, epochs, epochs, batch, seed)
    recipe = Recipe(*about, objective=objective, lr=lr, device=device, graph=device != "cpu")
    dataset = sets.load_any(data)
    print(f"{dataset.name}: {len(dataset.train):,} images in {len(dataset.classes)} classes")

    say = partial(_say_epoch, epochs)
    try:
        with timebox.limited(minutes):
            own.train(recipe, dataset, out, start=start, augment=augment, on_epoch=say)
    except timebox.Stop:
        raise timebox.Unfinished(f"{out} is not whole yet; give the command again") from None
    _say_scores(out, radius)


def _say_epoch(epochs: int, _: object, epoch: dict[str, float]) -> None:
    number, loss, seconds = (epoch[key] for key in ("epoch", "loss", "seconds"))
    print(f"epoch {number:.0f} of {epochs}: loss {loss:.4f}, {seconds:.1f} s", flush=True)


def _say_scores(out: Path, radius: float) -> None:
    from thesis_repro.robustness import models

    scores = models.card(out)["scores"]
    print(
        f"{out}: on {scores['points']:,} test images {scores['clean']:.2%} right, "
        f"{scores['vra']:.2%} right and certified at {radius:.4g}"
    )


def _files(model: str) -> dict[str, Path | None]:
    from thesis_repro.robustness import models

    path = Path(model) if model.endswith(".safetensors") else models.weights_file(model)
    return {f"the weights of {model}": path, f"the card of {model}": models.card_of(path)}


def _check_apart(read: dict[str, Path | None], *written: Path | None) -> None:
    """Refuse to write over what is read, or over what is written as well."""
    taken = {path.expanduser().resolve(): what for what, path in read.items() if path}
    for path in filter(None, written):
        where = path.expanduser().resolve()
        if where in taken:
            raise ValueError(f"{path} is {taken[where]}: name another file")
        taken[where] = "named twice"


@nets_app.command()
def certify(
    model: Weights,
    data: AnyData,
    out: Annotated[Path, typer.Option(help="Where the certificate file goes.")],
    epsilon: Radius = None,
    points: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    arithmetic: Annotated[
        str, typer.Option(help="float64 (weights widened; certifies more) or float32.")
    ] = "float64",
    csv: Annotated[Path | None, typer.Option(help="The points as a CSV file, too.")] = None,
) -> None:
    """Certify the test images of a data set and write a file that others can verify."""
    from thesis_repro import data as sets
    from thesis_repro.robustness import certificate, interchange, models, own
    from thesis_repro.robustness import certify as certify_all

    radius = None if epsilon is None else _radius(epsilon)
    _check_apart(_files(model) | {"the data": Path(data)}, out, csv)
    net, dataset = models.load(model, radius), sets.load_any(data)
    own.check_fits(net, dataset)
    x, y = dataset.test.x[:points], dataset.test.y[:points]
    found = certify_all(net, x, radius, arithmetic=arithmetic)
    certificate.write(out, net, found, x, epsilon=radius, model=model, data=data)
    if csv is not None:
        files = dataset.test.names[:points]
        interchange.to_csv(csv, found, y, classes=dataset.classes, files=files)
    right = found.labels == y
    certified, both = int(found.certified.sum()), int((found.certified & right).sum())
    print(
        f"{out}: {certified:,} of {len(x):,} points certified, {both:,} of them right; "
        f"{int(right.sum()):,} right in all; for the net evaluated in {found.arithmetic}"
    )


@nets_app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A certificate file.")],
    model: Annotated[
        str,
        typer.Option(
            help="A committed model, or a .safetensors file (with its card, or stating its layers)."
        ),
    ],
    data: Annotated[str, typer.Option(help="The data whose test images were certified.")],
) -> None:
    """Check a certificate file with code that shares nothing with the certifier.

    The exit code is 0 if the file claims something and every claim is confirmed.
    """
    from thesis_repro import data as sets
    from thesis_repro.robustness import checker, models

    weights, architecture = models.to_verify(model)
    points = len(checker.read(file)["images"])
    images = sets.load_any(data).test.x[:points].numpy()
    report = checker.check(file, weights, images, architecture=architecture)
    for note in report.notes:
        print(note)
    verdicts = (checker.CONFIRMED, checker.UNCONFIRMED, checker.CONTRADICTED)
    print(", ".join(f"{report.count(verdict):,} {verdict}" for verdict in verdicts))
    if not report.claims:
        print("the file claims no point to be certified")
    confirmed = 0 < report.count(checker.CONFIRMED) == report.claims
    raise typer.Exit(0 if confirmed and report.bound else 1)


@nets_app.command()
def onnx(
    model: Weights,
    out: Annotated[Path, typer.Option(help="Where the ONNX file goes.")],
) -> None:
    """Write a net as ONNX, for other runtimes; needs the packages onnx and onnxscript."""
    from thesis_repro.robustness import interchange, models

    _check_apart(_files(model), out)
    net = models.load(model, 1.0)
    print(interchange.to_onnx(out, net.body, net.input_shape))
