"""How the weights of ordinary layers are drawn: the schemes of `torch.nn.init`, by their names.

An op says so for itself by `init`; the section `init` of a spec says it for all ops of a name,
those that a word such as `shortcut: auto` stands for included.
"""

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, Tag

from nifbuild.spec.base import LARGEST, PositiveFloat, Spec, by_name

if TYPE_CHECKING:
    from torch import Tensor, nn

Value = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class Scheme(Spec):
    """A way to draw the weights of a layer; its biases start at a number."""

    name: str
    """Which scheme this is."""

    bias: Value | None = None
    """What biases start at. Null: as torch draws them, which is at 0 for norms and within
    1 / sqrt(fan-in) of it for convolutions and linear layers."""

    def draw(self, weight: "Tensor") -> None:
        """Draws a weight anew, in place, from torch's global generator."""
        raise NotImplementedError

    def apply(self, layer: "nn.Module | nn.Parameter") -> None:
        """Draws the weights of a layer of torch, or of those within a layer, and sets its biases.

        What makes filters as large as the image is left as it is.
        """
        import torch
        from torch import nn

        assert isinstance(layer, nn.Module)  # a parameter alone has no `init`
        ordinary = (
            nn.Conv2d,
            nn.Linear,
            nn.LayerNorm,
            nn.GroupNorm,
            nn.modules.batchnorm._NormBase,
        )
        with torch.no_grad():
            for module in layer.modules():
                if isinstance(module, ordinary) and module.weight is not None:
                    self.draw(module.weight)
            bias = getattr(layer, "bias", None)
            if bias is not None and self.bias is not None:
                bias.fill_(self.bias)


class AsTorch(Scheme):
    """The weights are drawn as the layers of torch draw them."""

    name: Literal["default"] = "default"
    """Which scheme this is."""

    def draw(self, weight: "Tensor") -> None:
        """Nothing: that has been done."""


class Kaiming(Scheme):
    """For layers before rectifiers (He et al., arXiv 1502.01852)."""

    name: Literal["kaiming_normal", "kaiming_uniform"]
    """Which scheme this is. The variance is gain squared / fan in either."""

    mode: Literal["fan_in", "fan_out"] = "fan_out"
    """Whose variance is kept: that of the values going forward (fan_in: inputs of each output), or
    of the gradients going back. As in torch, the fan-out of a convolution is its output channels
    times its taps, whatever its groups."""

    gain: PositiveFloat | None = None
    """What the values are multiplied by after the layer. Null: the square root of 2, as rectifiers
    halve the variance."""

    def draw(self, weight: "Tensor") -> None:
        """By torch's function of that name."""
        from torch.nn import init

        draws = {"normal": init.kaiming_normal_, "uniform": init.kaiming_uniform_}
        draw = draws[self.name.removeprefix("kaiming_")]
        if self.gain is None:
            draw(weight, mode=self.mode, nonlinearity="relu")
        else:
            draw(weight, mode=self.mode, nonlinearity="linear")  # whose gain is 1
            weight.mul_(self.gain)


class Xavier(Scheme):
    """For layers before sigmoids, or nothing (Glorot and Bengio, AISTATS 2010)."""

    name: Literal["xavier_normal", "xavier_uniform"]
    """Which scheme this is. The variance is 2 / (fan-in + fan-out) in either."""

    gain: PositiveFloat = 1.0
    """Multiplies the weights."""

    def draw(self, weight: "Tensor") -> None:
        """By torch's function of that name."""
        from torch.nn import init

        draws = {"normal": init.xavier_normal_, "uniform": init.xavier_uniform_}
        draws[self.name.removeprefix("xavier_")](weight, gain=self.gain)


class Normal(Scheme):
    """Normal with a stated spread."""

    name: Literal["normal", "trunc_normal"]
    """Which scheme this is. trunc_normal has none beyond `bound`."""

    std: PositiveFloat = 0.02
    """Standard deviation, before anything is cut off."""

    bound: PositiveFloat | None = None
    """trunc_normal: the largest absolute value. Null: 2, as in torch, whatever the `std`."""

    def draw(self, weight: "Tensor") -> None:
        """By torch's function of that name."""
        from torch.nn import init

        if self.name == "normal":
            init.normal_(weight, std=self.std)
        else:
            bound = 2.0 if self.bound is None else self.bound
            init.trunc_normal_(weight, std=self.std, a=-bound, b=bound)


class Orthogonal(Scheme):
    """Rows, or columns if there are fewer, at right angles (Saxe et al., arXiv 1312.6120)."""

    name: Literal["orthogonal"]
    """Which scheme this is."""

    gain: PositiveFloat = 1.0
    """Length of the rows or columns."""

    def draw(self, weight: "Tensor") -> None:
        """By torch's function of that name."""
        from torch.nn import init

        if not weight.is_meta:
            init.orthogonal_(weight, gain=self.gain)


class Constant(Scheme):
    """All weights start at one number."""

    name: Literal["zeros", "ones"]
    """Which number."""

    def draw(self, weight: "Tensor") -> None:
        """Fills it."""
        weight.fill_(float(self.name == "ones"))


def _from_word(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


_Fixed = (
    Annotated[AsTorch, Tag("default")]
    | Annotated[Constant, Tag("zeros")]
    | Annotated[Constant, Tag("ones")]
)
_Drawn = (
    Annotated[Kaiming, Tag("kaiming_normal")]
    | Annotated[Kaiming, Tag("kaiming_uniform")]
    | Annotated[Xavier, Tag("xavier_normal")]
    | Annotated[Xavier, Tag("xavier_uniform")]
    | Annotated[Normal, Tag("normal")]
    | Annotated[Normal, Tag("trunc_normal")]
    | Annotated[Orthogonal, Tag("orthogonal")]
)
_FixedName = Literal["default", "zeros", "ones"]
_DrawnName = Literal[
    "kaiming_normal",
    "kaiming_uniform",
    "xavier_normal",
    "xavier_uniform",
    "normal",
    "trunc_normal",
    "orthogonal",
]
_AnyOf = Annotated[
    _Fixed | _Drawn, by_name(*get_args(_FixedName), *get_args(_DrawnName), or_word=True)
]
_AnyFixed = Annotated[_Fixed, by_name(*get_args(_FixedName), or_word=True)]

Init = Annotated[
    _AnyOf, BeforeValidator(_from_word, json_schema_input_type=_FixedName | _DrawnName | _AnyOf)
]
"""A scheme, or its name alone."""
NormInit = Annotated[
    _AnyFixed, BeforeValidator(_from_word, json_schema_input_type=_FixedName | _AnyFixed)
]
"""One for the scale of a norm, and its offset."""


class InitSection(Spec):
    """How weights are drawn, by op. An op's own `init` counts before it. Null: as torch does."""

    conv: Init | None = None
    """Convolutions of each kind; of those with filters as large as the image, the 1x1 convolutions
    beside the filters, and the biases."""

    linear: Init | None = None
    """Fully connected layers."""

    batch_norm: NormInit | None = None
    """Scale and offset of batch norms. Null: 1 and 0."""

    layer_norm: NormInit | None = None
    """Scale and offset of layer norms. Null: 1 and 0."""

    group_norm: NormInit | None = None
    """Scale and offset of group norms. Null: 1 and 0."""
