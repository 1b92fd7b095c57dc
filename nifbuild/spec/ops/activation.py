"""Activations, and the other ops that leave the shape as it is."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.base import Probability
from nifbuild.spec.ops.base import Channels, Layer, Shape

if TYPE_CHECKING:
    from torch import nn

_MODULES = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "silu": "SiLU",
    "elu": "ELU",
    "selu": "SELU",
    "mish": "Mish",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "identity": "Identity",
}


class ShapeKeeping(Layer):
    """An op whose output has the shape of its input, computed value by value."""

    counts_as_zero: ClassVar = True
    is_small: ClassVar = True

    def output_shape(self, x: Shape) -> Shape:
        """Unchanged."""
        return x

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """The same."""
        return channels


class Activation(ShapeKeeping):
    """An activation without options, named as in torch."""

    op: Literal[
        "relu",
        "relu6",
        "silu",
        "elu",
        "selu",
        "mish",
        "softplus",
        "sigmoid",
        "tanh",
        "hardswish",
        "hardsigmoid",
        "identity",
    ]

    def build(self, x: Shape) -> "nn.Module":
        """The module of `torch.nn` of that name."""
        from torch import nn

        module: nn.Module = getattr(nn, _MODULES[self.op])()
        return module


class Gelu(ShapeKeeping):
    """Gaussian error linear unit (arXiv 1606.08415)."""

    op: Literal["gelu"]

    approximate: Literal["none", "tanh"] = "none"
    """none: exact. tanh: by a hyperbolic tangent."""

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.GELU`."""
        from torch import nn

        return nn.GELU(self.approximate)


class LeakyRelu(ShapeKeeping):
    """ReLU with a slope below zero."""

    op: Literal["leaky_relu"]

    negative_slope: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Slope below zero."""

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.LeakyReLU`."""
        from torch import nn

        return nn.LeakyReLU(self.negative_slope)


class Dropout(ShapeKeeping):
    """Sets values to zero at random in training (arXiv 1207.0580)."""

    op: Literal["dropout"]

    p: Probability = 0.5
    """Probability of a zero."""

    per_channel: bool = False
    """Whether whole channels are dropped instead of single values."""

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.Dropout`, or `Dropout2d` per channel."""
        from torch import nn

        return nn.Dropout2d(self.p) if self.per_channel and x.is_image else nn.Dropout(self.p)
