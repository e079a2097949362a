"""An ordinary ResNet of torchvision: adopt it, bound it, certify it."""

import torch
from torchvision.models.resnet import BasicBlock, ResNet

from thesis_repro import data
from thesis_repro.robustness import GloroNet, adopt, certify

torch.manual_seed(0)
digits = data.load("mnist-5k")
module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
module.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)  # images of one channel

shape = (1, 28, 28)
net = GloroNet(adopt(module, shape), epsilon=0.1, input_shape=shape).eval()
found = certify(net, digits.test.x[:20], arithmetic="float64")

print("layers:", ", ".join(type(layer).__name__ for layer in net.body))
print(f"Lipschitz bound before the last layer: {net.bound().k_sub:.3g}")
print(f"largest certified radius of 20 points: {found.radius.max():.2g}")
assert torch.isfinite(found.radius).all()
