"""What the layer is compared with, each a module that keeps the shape of its input."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from nifbuild.errors import Mark, Problem, suggestion
from nifbuild.nn import ImplicitFrequencyConv2d
from nifbuild.nn.backend import Backend

Mixing = Literal["depthwise", "separable"]

THIS_LAYER: Final = "implicit_frequency"
"""Name of the layer itself."""
_LAST: Final = "-channels-last"


@dataclass(frozen=True, slots=True)
class InputShape:
    """Shape of a batch of images, or of activations inside a network."""

    batch: int
    channels: int
    height: int
    width: int

    @property
    def largest_odd(self) -> tuple[int, int]:
        """The largest odd kernel that is not larger than the image, at least 1 x 1.

        A kernel with a centre is what an ordinary convolution needs to keep the size.
        """
        return self.height - (self.height + 1) % 2, self.width - (self.width + 1) % 2

    @property
    def num_values(self) -> int:
        """Numbers in one such batch."""
        return self.batch * self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.batch}x{self.channels}x{self.height}x{self.width}"


class PublishedFormula(nn.Module):
    """The layer as the paper states it, written down without further thought.

    Two networks of 2-8-4-C channels with SiLU, one for the real and one for the imaginary part, are
    evaluated at all integer frequencies with zero in the middle; the image's full complex spectrum
    is shifted to the same order, multiplied, shifted back and inverted; the real part is the
    result. Source: Grabinski, Keuper, Keuper, arXiv 2307.10001, section 3.

    Images of half precision are transformed in float32, as there is no such transform of their own.

    Args:
        channels: Of input and output.

    Shapes:
        Input and output [batch, channels, H, W].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.real = _plain_network(channels)
        self.imaginary = _plain_network(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        height, width = x.shape[-2:]
        weight = next(self.parameters())
        v = torch.arange(height, dtype=weight.dtype, device=x.device) - height // 2
        u = torch.arange(width, dtype=weight.dtype, device=x.device) - width // 2
        grid = torch.stack(torch.meshgrid(u, v, indexing="xy"))[None]
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        filter_f = torch.complex(self.real(grid).to(dtype), self.imaginary(grid).to(dtype))
        x_f = torch.fft.fftshift(torch.fft.fft2(x.to(dtype)), dim=(-2, -1))
        y = torch.fft.ifft2(torch.fft.ifftshift(x_f * filter_f, dim=(-2, -1)))
        real: Tensor = y.real.to(x.dtype)
        return real


def _plain_network(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 8, 1), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, channels, 1)
    )


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the modules that are compared.

    Attributes:
        name: As on the command line and in the JSON document.
        kind: What it is.
        size: Of an ordinary convolution's square kernel; None: the largest odd one in the image.
        backend: The way that the layer goes on a CUDA device.
        channels_last: Whether its activations are laid out so that channels lie together.
    """

    name: str
    kind: Literal["implicit_frequency", "published", "depthwise", "full"]
    size: int | None = None
    backend: Backend = "auto"
    channels_last: bool = False

    def kernel_size(self, shape: InputShape) -> tuple[int, int] | None:
        """Height and width of an ordinary convolution's kernel; None for the others."""
        if self.kind not in ("depthwise", "full"):
            return None
        return shape.largest_odd if self.size is None else (self.size, self.size)

    def label(self, shape: InputShape) -> str:
        """For tables."""
        kernel = self.kernel_size(shape)
        if kernel is None:
            return "this layer" if self.name == THIS_LAYER else self.name
        if self.channels_last:
            return f"{kernel[0]}x{kernel[1]} ch. last"
        return f"{self.kind if self.size else 'image'} {kernel[0]}x{kernel[1]}"

    def build(self, shape: InputShape, mixing: Mixing = "depthwise") -> nn.Module:
        """The module, in float32 on the CPU.

        Args:
            shape: Of its input.
            mixing: `depthwise` filters each channel. `separable` adds a 1x1 convolution, but for
                the `full` convolution, which mixes channels anyway.
        """
        channels, kernel = shape.channels, self.kernel_size(shape)
        if self.kind == THIS_LAYER:
            return ImplicitFrequencyConv2d(channels, channels, mixing=mixing, backend=self.backend)
        if kernel is None:
            spatial: nn.Module = PublishedFormula(channels)
        else:
            spatial = nn.Conv2d(
                channels,
                channels,
                kernel,
                padding=(kernel[0] // 2, kernel[1] // 2),
                groups=channels if self.kind == "depthwise" else 1,
                bias=False,
            )
        if mixing == "depthwise" or self.kind == "full":
            return spatial
        return nn.Sequential(spatial, nn.Conv2d(channels, channels, 1, bias=False))


def depthwise(size: int, *, channels_last: bool = False) -> Contender:
    """An ordinary depthwise convolution with a square kernel of this odd size."""
    name = f"depthwise-{size}" + _LAST * channels_last
    return Contender(name, "depthwise", size, channels_last=channels_last)


LAYER = Contender(THIS_LAYER, THIS_LAYER)
FFT = Contender("fft", THIS_LAYER, backend="fft")
FUSED = Contender("fused", THIS_LAYER, backend="fused")
PUBLISHED = Contender("published", "published")
IMAGE_SIZE = Contender("depthwise-image", "depthwise")
DEFAULT_CONTENDERS = (
    PUBLISHED,
    depthwise(3),
    depthwise(7),
    depthwise(31),
    IMAGE_SIZE,
    Contender("full-3", "full", 3),
)
CUDA_CONTENDERS = (
    FFT,
    FUSED,
    *(depthwise(size, channels_last=last) for size in (3, 7) for last in (False, True)),
    depthwise(31),
)
"""On a CUDA device: the layer's two ways, and what cuDNN does in both layouts."""


def parse_contender(name: str) -> Contender | None:
    """The contender of that name; None where there is none.

    `published`, `fft`, `fused`, `depthwise-image`, `depthwise-K`, `full-K` with an odd K, or one of
    the last two with `-channels-last`.
    """
    for contender in (PUBLISHED, FFT, FUSED, IMAGE_SIZE):
        if name == contender.name:
            return contender
    match = re.fullmatch(rf"(depthwise|full)-(?!0)(\d{{0,3}}[13579])({_LAST})?", name)
    if match is None:
        return None
    kind: Literal["depthwise", "full"] = "depthwise" if match[1] == "depthwise" else "full"
    return Contender(name, kind, int(match[2]), channels_last=match[3] is not None)


def _odd_neighbours(name: str) -> str:
    """What to name in place of a convolution with an even K, which has no centre; else nothing."""
    match = re.fullmatch(r"(\w+-)(\d{1,3})(\D*)", name)
    if match is None:
        return ""
    sizes = (int(match[2]) - 1, int(match[2]) + 1)
    names = [f"{match[1]}{size}{match[3]}" for size in sizes]
    found = [f"'{name}'" for name in names if parse_contender(name) is not None]
    return f"K is odd: {' or '.join(found)}" if found else ""


def contenders_named(
    names: Sequence[str], device: torch.device, problems: list[Problem]
) -> Sequence[Contender]:
    """Those of these names, each once, or the device's own for none.

    What is wrong with a name is added to the problems.
    """
    on_cuda = device.type == "cuda"
    if not names:
        return CUDA_CONTENDERS if on_cuda else DEFAULT_CONTENDERS
    found = []
    for name in names:
        contender = parse_contender(name)
        if contender is None:
            known = [contender.name for contender in (*DEFAULT_CONTENDERS, *CUDA_CONTENDERS)]
            listed = (
                "contenders: published, fft, fused, depthwise-image, and depthwise-K or full-K "
                "with an odd K, also with -channels-last behind"
            )
            what = f"unknown contender '{name}'"
            fix = _odd_neighbours(name) or suggestion(name, known, listed)
        elif contender is FUSED and not on_cuda:
            what, fix = "needs a CUDA device", "leave it out"
        else:
            found += [] if contender in found else [contender]
            continue
        problems.append(Problem(what, Mark(f"--contender {name}"), fix=fix, code="option"))
    return found
