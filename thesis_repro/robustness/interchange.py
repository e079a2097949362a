"""Certificates and nets for other programs: CSV and ONNX."""

import copy
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thesis_repro.data.images import labels
from thesis_repro.lab.store import write_atomic
from thesis_repro.nets import MinMax
from thesis_repro.robustness.margins import Certificate

__all__ = ["to_csv", "to_onnx"]


def to_csv(
    path: Path | str,
    certificate: Certificate,
    y: Any = None,
    *,
    classes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> Path:
    """Write what is known of each point as one line of a CSV file.

    Columns: point, label (-1 where a logit is not finite), certified (true or false), radius and
    margin with all digits; with labels `true_label`, with files `file`, and with names of classes
    `label_name` and, with labels, `true_label_name`. A label that no name is known for, as -1, has
    an empty one. It is for reading on: what others can check is the file of `certificate.write`.

    Parameters
    ----------
    certificate : of n points
    y : (n,) true labels, optional
    classes : names of the classes in the order of the logits, as `data.Dataset` has them
    files : of each point the file that it was read from, as `names` of a `data.Split` has them

    Raises
    ------
    ValueError
        If the labels are no whole numbers, or there are not as many labels or files as points.

    Examples
    --------
    >>> import tempfile
    >>> from thesis_repro.robustness import GloroNet, certify
    >>> net = GloroNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.1, (1, 2, 2)).eval()
    >>> found = certify(net, torch.rand(3, 1, 2, 2))
    >>> file = to_csv(Path(tempfile.mkdtemp()) / "points.csv", found, classes=("cat", "dog"))
    >>> file.read_text().splitlines()[0]
    'point,label,certified,radius,margin,label_name'
    """
    columns: dict[str, list[Any]] = {
        "point": list(range(len(certificate.labels))),
        "label": certificate.labels.tolist(),
        "certified": [str(value).lower() for value in certificate.certified.tolist()],
        "radius": certificate.radius.tolist(),
        "margin": certificate.margin.tolist(),
    }
    if y is not None:
        columns["true_label"] = labels("y", y, certificate.labels).tolist()
    count = len(certificate.labels)
    if files and len(files) != count:
        raise ValueError(f"files: need one for each of {count} points, got {len(files)}")
    if files:
        columns["file"] = list(files)
    for numbers in [name for name in ("label", "true_label") if classes and name in columns]:
        known = dict(enumerate(classes))
        columns[f"{numbers}_name"] = [known.get(label, "") for label in columns[numbers]]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(zip(*columns.values(), strict=True))
    # the name of a file may hold bytes that are no UTF-8: they are written as they are
    write_atomic(Path(path), text.getvalue().encode("utf-8", "surrogateescape"))
    return Path(path)


def to_onnx(path: Path | str, body: nn.Sequential, input_shape: tuple[int, ...]) -> Path:
    """Write a net as ONNX, from images `x` (n, *input_shape) to `logits` (n, classes).

    Parameters
    ----------
    body : of a GloroNet, or any nn.Sequential of known layers
    input_shape : of one image

    Raises
    ------
    ImportError
        Without the packages onnx and onnxscript; the message says how to get them.

    Notes
    -----
    Certificates are about the net as torch evaluates it; another runtime adds up in another order.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"a net as ONNX needs the package {error.name}: pip install onnx onnxscript"
        ) from None
    net = _exported(copy.deepcopy(body).cpu().eval())
    weight = next(net.parameters())
    content = io.BytesIO()
    exported = torch.onnx.export(
        net,
        (torch.zeros(2, *input_shape, dtype=weight.dtype),),
        dynamo=True,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert exported is not None  # it is one where dynamo is asked for
    exported.save(content)  # type: ignore[arg-type]  # it takes an open file as well
    write_atomic(Path(path), content.getvalue())
    return Path(path)


class _PlainMinMax(nn.Module):
    """MinMax by operations that every runtime has."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 1)


def _exported(layer: nn.Module) -> nn.Module:
    for name, part in layer._modules.items():
        if type(part) is MinMax:
            layer._modules[name] = _PlainMinMax()
        elif part is not None:
            _exported(part)
    return layer
