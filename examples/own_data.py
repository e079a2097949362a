"""Images of one's own: a folder, numpy arrays, a DataLoader. One data set, one fingerprint."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from thesis_repro import data, robustness

rng = np.random.default_rng(0)
pictures = rng.integers(0, 256, (100, 28, 28), np.uint8)
labels = np.arange(100) % 2
folder = Path(tempfile.mkdtemp()) / "pets"
for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
    file = folder / ("cat", "dog")[label] / f"{number:03}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)

from_folder = data.from_folder(folder)  # in a command: folder:pets

x = (pictures / 255).astype(np.float32)[:, None]  # floats in [0, 1], channels first
from_arrays = data.from_arrays(x, labels, classes=["cat", "dog"])

loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(labels)), batch_size=32)
from_loader = data.from_loader(loader, classes=["cat", "dog"])

for found in (from_folder, from_arrays, from_loader):
    print(found.name, found.classes, len(found.train), len(found.test))
assert data.fingerprint(from_arrays) == data.fingerprint(from_loader)

net = robustness.load("mnist-2c2f-gloro")  # takes arrays as well as tensors
print(robustness.certify(net, x[:5]).radius)
