"""Exchange the 3x3 convolutions of a model that somebody else wrote, look, and put them back.

Run it with `python examples/convs_of_any_model.py`; it takes a second.
"""

import torch
from torch import nn

import nifbuild


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A convolution with its norm and activation."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


model = nn.Sequential(
    block(3, 32, 1), block(32, 64, 2), block(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
)
x = torch.randn(4, 3, 32, 32)
before = model.eval()(x)

done = nifbuild.replace_convs(model, where={"kernel_size": 3, "in_channels": 64}, expect=1)
print(done)
print("same shape:", model(x).shape == before.shape)
done.revert()
print("as it was:", torch.equal(model(x), before))
