"""Multiply-adds of convolutions whose filters are as large as the image.

A complex multiply-add is 4 real ones. A transform of N real values takes 5/2 N log2 N operations
(half of a complex one's 5 N log2 N; Cooley and Tukey, 1965), and two operations are a multiply-add:
5/4 N log2 N. So it is counted at all sizes and on all devices, although libraries differ, and a CPU
multiplies small images by a matrix. As anywhere, what goes over values once (biases, activations,
folding a stride) counts as 0.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nifbuild.geometry import Mixing, half_plane, num_filters

Sizes = tuple[int, int]


def transform_macs(sizes: Sizes) -> int:
    """A two-dimensional transform of a real image, or its inverse, rounded up."""
    points = sizes[0] * sizes[1]
    return math.ceil(5 / 4 * points * math.log2(points))


def frequencies(sizes: Sizes) -> int:
    """How many frequencies the spectrum of a real image is given by."""
    return math.prod(half_plane(*sizes))


def network_macs(widths: Sequence[int], points: int) -> int:
    """The layers of a network between these widths, at so many points."""
    return points * sum(a * b for a, b in itertools.pairwise(widths))


@dataclass(frozen=True, slots=True)
class SpectralLayer:
    """A convolution in the frequency domain, as `nifbuild.nn.GlobalConv2d` computes it.

    Attributes:
        in_channels: Of the image.
        out_channels: Of the output.
        groups: That do not mix.
        mixing: How channels are combined.
        rank: Channels between the 1x1 convolutions of low_rank mixing.
        size: Of the image.
        outputs: Height and width of the output.
        periods: Of the circular convolution that the image is laid into.
        folded: The periods after the stride.
        lays_kernel: Whether filters are transformed to fit the periods.
    """

    in_channels: int
    out_channels: int
    groups: int
    mixing: Mixing
    rank: int
    size: Sizes
    outputs: Sizes
    periods: Sizes
    folded: Sizes
    lays_kernel: bool

    @property
    def num_filters(self) -> int:
        """How many filters there are."""
        channels = self.in_channels, self.out_channels
        return num_filters(self.mixing, *channels, self.groups, self.rank)

    @property
    def mixing_params(self) -> int:
        """Weights of the 1x1 convolutions."""
        inner = self.in_channels if self.mixing == "separable" else self.rank
        after = inner * self.out_channels // self.groups
        before = self.in_channels * self.rank // self.groups
        return {"separable": after, "low_rank": before + after}.get(self.mixing, 0)

    def per_image(self) -> dict[str, int]:
        """What is done for each image: transforms, product, and 1x1 convolutions.

        The 1x1 convolution after the filters is done on the half plane, at 2 for each weight and
        frequency, where it has fewer outputs than inputs, and else on the output's pixels.
        """
        analysed = self.rank if self.mixing == "low_rank" else self.in_channels
        synthesised = mixing = 0
        if self.mixing == "low_rank":
            mixing = self.rank * self.in_channels // self.groups * self.size[0] * self.size[1]
        if self.mixing in ("separable", "low_rank"):
            weights = self.num_filters * self.out_channels // self.groups
            reduces = self.out_channels < self.num_filters
            synthesised = min(self.out_channels, self.num_filters)
            places = self.outputs[0] * self.outputs[1]
            mixing += weights * (2 * frequencies(self.folded) if reduces else places)
        else:
            synthesised = self.out_channels
        return {
            "transform": analysed * transform_macs(self.periods)
            + synthesised * transform_macs(self.folded),
            "product": 4 * self.num_filters * frequencies(self.periods),
            "mixing": mixing,
        }

    def laying(self) -> int:
        """Transforms of the filters to the image and back, where periods differ from its size."""
        if not self.lays_kernel:
            return 0
        return self.num_filters * (transform_macs(self.size) + transform_macs(self.periods))
