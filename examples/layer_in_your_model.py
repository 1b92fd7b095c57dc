"""The layer alone, in an ordinary PyTorch model: learn the digits, then look at a learned filter.

Run it with `python examples/layer_in_your_model.py`; it takes some ten seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from nifbuild.nn import ImplicitFrequencyConv2d

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, test = slice(0, 1400), slice(1400, None)

layer = ImplicitFrequencyConv2d(32, 32)  # in place of nn.Conv2d(32, 32, 3, padding=1, bias=False)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    layer,
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(128, 10),
)
filters = layer.filter_weights()  # they learn best at a higher rate, and without weight decay
others = [p for p in model.parameters() if all(p is not weight for weight in filters)]
groups = [{"params": others}, {"params": filters, "lr": 1.5e-2, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=3e-3)
for _ in range(15):
    for batch in torch.randperm(1400).split(100):
        loss = nn.functional.cross_entropy(model(images[train][batch]), labels[train][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean().item()
    kernels = layer.spatial_kernel(8, 8, centered=True).abs()  # one for each channel
    mass = kernels[:, 3:6, 3:6].sum((1, 2)) / kernels.sum((1, 2))

print(f"test accuracy: {accuracy:.1%}")
print(f"weights of the filters: {sum(p.numel() for p in layer.filter_network.parameters())}")
print(f"share of a filter's mass within 3x3 of 8x8: {mass.mean():.0%} on average")
