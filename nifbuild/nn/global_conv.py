"""Convolution with filters as large as the image, whatever gives their spectra."""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nifbuild.geometry import (
    Boundary,
    Downsample,
    Frame,
    Mixing,
    first_centre,
    half_window,
    num_filters,
    plan_axis,
    window_outputs,
)
from nifbuild.nn.arguments import (
    GlobalConvArguments,
    check_arguments,
    check_whole,
    padding_of,
    pair,
    unknown_arguments,
)
from nifbuild.nn.backend import Backend, Choice, choices, convolution
from nifbuild.nn.derived import Behind, DerivedTensors, behind_spectra
from nifbuild.nn.fourier import band, full_precision, result_dtype, transform_dtype
from nifbuild.nn.frame import lay_kernel
from nifbuild.nn.pointwise import as_matrices, called, is_matrix
from nifbuild.nn.spectral_convolution import Memory
from nifbuild.nn.tracing import as_leaf, fixed_sizes, is_recorded, takes_single_steps


class GlobalConv2d(nn.Module):
    r"""Convolves with filters as large as the image; subclasses say where the filters come from.

    It takes the place of any `nn.Conv2d`: `kernel_size`, `stride`, `padding` and `dilation` are
    those of the ordinary convolution, and give the size and the places of the outputs. Without a
    `kernel_size` the output has ceil(H / stride) rows, the first one centred on the first pixel.

    `mixing` says how channels are combined:

    - `separable`: one filter per input channel, then a 1x1 convolution (`pointwise.weight`).
    - `depthwise`: one filter per output channel; filter f acts on input channel
      f // (out_channels / in_channels).
    - `full`: one filter for each pair of an output and an input channel, as in an ordinary
      convolution; filter (o, i) is number o * (in_channels / groups) + i. Its spectrum takes
      8 * out * in / groups * H * (W / 2 + 1) bytes.
    - `low_rank`: a 1x1 convolution to `rank` channels (`pointwise_in.weight`), one filter for each
      of them, and a 1x1 convolution from them. This is `full` mixing by filters that are sums of
      `rank` shared ones, and no spectrum is made for pairs.

    A 1x1 convolution after the filters commutes with the transform: it is applied to the half plane
    where it reduces the number of channels, and to the image elsewhere.

    Filter, transforms, product and 1x1 convolutions are computed in float32, for a float64 input in
    float64, whatever autocast says. The result has the dtype of an ordinary convolution's: the
    input's, or, but for a float64 input, autocast's. In inference (eval mode, and no gradient
    wanted of the filter) the spectrum is computed once per size and kept until a weight changes. A
    write that torch does not see, to `parameter.data` or through NumPy, goes unseen until `train()`
    or `eval()` is called again. After a pass with gradients for the filter, none is kept until
    then.

    `torch.compile`, `torch.export` and `torch.jit.trace` take any number of images, of the height
    and width that they were shown: at another size a compiled layer is compiled again, the others
    refuse. `torch.jit.script` cannot read the layer. To `torch.fx` it is a leaf of the model, as
    the layers of `torch.nn` are. It has no `weight` that an ordinary convolution could have, so
    that conv-bn fusion and weight normalisation, say, refuse it.

    Initialisation: for a white input, the output has the variance of a convolution that is drawn as
    torchvision's ResNet draws it (Kaiming normal, fan-out): 2 in / (out groups) times the input's,
    and with depthwise mixing that of the input. Biases start at zero.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; with `depthwise` mixing a multiple of `in_channels`.
        kernel_size: Of the ordinary convolution that this takes the place of: one for both
            directions, or (vertical, horizontal). Null: one that keeps the size.
        stride: One for both directions, or (vertical, horizontal). The output is that of
            stride 1, sliced with `[::stride]`.
        padding: Of that ordinary convolution. Null: half the dilated kernel, rounded down, which
            keeps the size where the kernel is odd (`nn.Conv2d` has 0). `same` and `valid` as there.
        dilation: Of that ordinary convolution. It only moves and sizes the output, as the filter
            here has a tap at each pixel; without a `kernel_size` it has no meaning.
        groups: Groups of channels that do not mix. `depthwise` takes 1 or `in_channels`, to no
            effect.
        bias: Whether to add a learned bias to each output channel.
        mixing: See above.
        rank: With `low_rank` mixing, the channels between the two 1x1 convolutions; `groups`
            divides it. Null: the smaller one of `in_channels` and `out_channels`.
        downsample: What a stride does to frequencies that the output is too small for. `slice`
            lets them alias, as an ordinary convolution does; `low_pass` removes them from the
            filter, along each strided axis those above H / (2 stride) cycles per image, and half of
            those at it.
        boundary: How the image continues beyond its border: `circular` (as published), `zeros`,
            `reflect` (without the border pixel again) or `replicate`.
        memory: What the backward pass finds. `recompute`: the input, which it transforms again.
            `save`: the input's spectrum, which costs memory and saves a transform; of `backend`
            `fft` alone.
        backend: How it is computed on a CUDA device: by Fourier transforms (`fft`), by one kernel
            that reads and writes each pixel once (`fused`, for one filter per channel, circular or
            zero borders, and periods of at most 64 pixels), or by whichever is measured to be
            faster and agrees (`auto`). On a CPU `fused` is `fft`, and `auto` multiplies many images
            of at most 64 pixels by circulant matrices.

    Shapes:
        Input [batch, in_channels, H, W], or without batch; output
        [batch, out_channels, out_height, out_width].

    Raises:
        ValueError: An argument is out of its range, the input has another number of channels, or is
            too small for the ordinary convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        mixing: Mixing = "separable",
        rank: int | None = None,
        downsample: Downsample = "slice",
        boundary: Boundary = "circular",
        memory: Memory = "recompute",
        backend: Backend = "auto",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **others: object,
    ) -> None:
        if others:
            raise unknown_arguments(
                type(self).__name__, others, GlobalConvArguments.__annotations__
            )
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_whole(name, value)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = None if kernel_size is None else pair("kernel_size", kernel_size)
        self.stride, self.dilation = pair("stride", stride), pair("dilation", dilation)
        self.padding = padding_of(padding, self.kernel_size, self.stride, self.dilation)
        self.groups = groups
        self.mixing: Mixing = mixing
        self.downsample: Downsample = downsample
        self.boundary: Boundary = boundary
        self.memory: Memory = memory
        self.backend: Backend = backend
        self.rank = rank if rank is not None else min(in_channels, out_channels)
        check_arguments(self, rank)

        def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(
                inputs, outputs, 1, groups=groups, bias=False, device=device, dtype=dtype
            )

        self.pointwise_in = pointwise(in_channels, self.rank) if mixing == "low_rank" else None
        self.pointwise: nn.Conv2d | None = None
        if mixing in ("separable", "low_rank"):
            self.pointwise = pointwise(self.num_filters, out_channels)
        self.bias = (
            nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self._spectra = DerivedTensors()
        self._reset_mixing()

    @property
    def num_filters(self) -> int:
        """How many filters there are."""
        channels = self.in_channels, self.out_channels
        return num_filters(self.mixing, *channels, self.groups, self.rank)

    @property
    def filter_power_gain(self) -> float:
        """The initial mean of |K|^2 over frequencies for each filter."""
        return 2 / self.out_channels if self.mixing == "full" else 1.0

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self._reset_filters()
        self._reset_mixing()

    def _reset_filters(self) -> None:
        """Draws the filters' weights anew, with `filter_power_gain`."""
        raise NotImplementedError

    def _reset_mixing(self) -> None:
        if self.pointwise_in is not None and self.pointwise is not None:
            nn.init.normal_(self.pointwise_in.weight, std=math.sqrt(self.groups / self.in_channels))
            variance = 2 * self.in_channels / (self.out_channels * self.rank)
            nn.init.normal_(self.pointwise.weight, std=math.sqrt(variance))
        elif self.pointwise is not None:
            nn.init.kaiming_normal_(self.pointwise.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def filter_weights(self) -> list[Tensor]:
        """The weights that the spectra depend on."""
        raise NotImplementedError

    def _spectrum(
        self, height: int, width: int, dtype: torch.dtype
    ) -> Complex[Tensor, "filters {height} {width//2+1}"]:
        """The filters' spectra, computed in the real `dtype`, before any low-pass."""
        raise NotImplementedError

    def spectrum(self, height: int, width: int) -> Complex[Tensor, "filters {height} {width//2+1}"]:
        """The filters' spectra for an image of this size, on the half plane.

        Differentiable with respect to the weights; complex64, or complex128 for float64 weights.
        Zero frequency is at index (0, 0); rows run through 0, 1, ..., -2, -1 cycles per image.
        """
        return self._filters_f(height, width, transform_dtype(self.filter_weights()[0].dtype))

    def spatial_kernel(
        self, height: int, width: int, *, centered: bool = False
    ) -> Float[Tensor, "filters {height} {width}"]:
        """The filters as kernels k of y[n] = sum_m k[m] x[n - m], indices modulo the size.

        This is a convolution proper; `torch.nn.functional.conv2d` correlates, so it takes
        the kernel flipped.

        Args:
            height: Height of the image, hence of the kernel.
            width: Its width.
            centered: Whether the origin is at (height // 2, width // 2) instead of (0, 0).
        """
        kernel: Tensor = torch.fft.irfft2(self.spectrum(height, width), s=(height, width))
        return torch.fft.fftshift(kernel, dim=(-2, -1)) if centered else kernel

    def kernel_spread(self, height: int, width: int) -> Float[Tensor, ""]:
        """How far the filters reach: the mean of sum |k| r^2 / sum |k| over filters.

        r is the distance of a tap from the kernel's centre, with half the image as its unit along
        each axis: 0 for a single tap, about 2/3 for a kernel spread evenly, at most 2.
        Differentiable, so that a penalty on it trades a filter's size for accuracy.
        """
        mass = self.spatial_kernel(height, width, centered=True).abs()
        y, x = ((torch.arange(n, device=mass.device) - n // 2) / (n / 2) for n in (height, width))
        spread = (mass * (y.square()[:, None] + x.square())).sum((1, 2))
        return (spread / mass.sum((1, 2)).clamp_min(torch.finfo(mass.dtype).tiny)).mean()

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output: those of the ordinary convolution.

        Raises:
            ValueError: That convolution's kernel is larger than the image with its padding.
        """
        first, second = (self._window(axis, size)[0] for axis, size in enumerate((height, width)))
        if min(first, second) < 1:
            raise ValueError(
                f"`x` of {height}x{width} is too small for `kernel_size` (={self.kernel_size}) "
                f"with `padding` (={self.padding}) and `dilation` (={self.dilation})"
            )
        return first, second

    def _window(self, axis: int, size: int) -> tuple[int, int]:
        """Outputs along an axis, and the pixel that the first one is centred on."""
        stride = self.stride[axis]
        if self.kernel_size is None:
            return -(-size // stride), 0
        kernel, dilation = self.kernel_size[axis], self.dilation[axis]
        padding = half_window(kernel, dilation) if self.padding is None else self.padding[axis]
        outputs = window_outputs(size, kernel, stride, padding, dilation)
        return outputs, first_centre(kernel, padding, dilation)

    def frame(self, height: int, width: int) -> Frame:
        """Where outputs lie for an image of this size, and what lies beyond its border."""
        outputs = self.output_size(height, width)
        vertical, horizontal = (
            plan_axis(
                size, outputs[axis], self.stride[axis], self._window(axis, size)[1], self.boundary
            )
            for axis, size in enumerate((height, width))
        )
        return vertical, horizontal

    def _filters_f(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        with full_precision(self.filter_weights()[0].device):
            kernel_f = self._spectrum(height, width, dtype)
            if self.downsample == "low_pass" and max(self.stride) > 1:
                kernel_f = kernel_f * band(height, width, self.stride, kernel_f)
        return kernel_f

    def laid_kernel(self, frame: Frame, dtype: torch.dtype) -> Tensor:
        """The spectra as `spectral_convolution` takes them."""
        kernel_f = self._filters_f(frame[0].size, frame[1].size, dtype)
        with full_precision(kernel_f.device):
            kernel_f = lay_kernel(kernel_f, frame)
        groups = None
        if self.mixing == "full":
            groups = self.groups
        elif self.mixing == "depthwise" and self.out_channels > self.in_channels:
            groups = self.in_channels
        if groups is None:
            return kernel_f
        return kernel_f.reshape(groups, self.out_channels // groups, -1, *kernel_f.shape[-2:])

    def _kernel_for(self, x: Tensor, frame: Frame) -> Tensor:
        dtype = transform_dtype(x.dtype)
        behind: Behind | None = None
        if not (self.training or is_recorded()):
            weights = self.filter_weights()
            if torch.is_grad_enabled() and any(p.requires_grad for p in weights):
                self._spectra.close()
            else:
                mixing = (self.pointwise_in, self.pointwise)
                behind = behind_spectra(weights, [m for m in self.children() if m not in mixing])
        if behind is None or takes_single_steps(x, *behind.tensors):
            return self.laid_kernel(frame, dtype)
        key = (frame, dtype, x.device, behind.settings)
        return self._spectra.get(key, behind.tensors, lambda: self.laid_kernel(frame, dtype))

    def forward(
        self, x: Float[Tensor, "*batch in_channels height width"]
    ) -> Float[Tensor, "*batch out_channels out_height out_width"]:
        """See the class for shapes and dtypes."""
        leaf: Tensor | None = as_leaf(self, x)
        if leaf is not None:
            return leaf
        with fixed_sizes():
            if x.ndim == 3:
                return self._convolve(x[None])[0]
            return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"`x` has {x.shape[1]} channels; `in_channels` (={self.in_channels}) must equal it"
            )
        if not x.is_floating_point():
            raise ValueError(f"`x` is of {x.dtype}; it must be of a floating dtype: `x.float()`")
        frame = self.frame(int(x.shape[-2]), int(x.shape[-1]))
        kernel_f = self._kernel_for(x, frame)
        dtype, result = kernel_f.real.dtype, result_dtype(x)
        bias = None if self.bias is None else self.bias.to(dtype)
        if is_matrix(self.pointwise_in) and is_matrix(self.pointwise):
            return convolution(
                x,
                kernel_f,
                frame,
                mix_in=as_matrices(self.pointwise_in, dtype),
                mix_out=as_matrices(self.pointwise, dtype),
                bias=bias,
                memory=self.memory,
                dtype=result,
                backend=self.backend,
            )
        with full_precision(x.device):
            x = called(self.pointwise_in, x).to(dtype)
            y = convolution(x, kernel_f, frame, memory=self.memory, backend=self.backend)
            y = called(self.pointwise, y)
            return (y if bias is None else y + bias[:, None, None]).to(result)

    def backend_report(self) -> list[Choice]:
        """What `backend="auto"` has chosen for images like those that this layer takes, and why.

        One entry for each size, batch, dtype and device that layers with as many filters have met.
        """
        return [
            choice
            for choice in choices()
            if choice.channels == self.num_filters
            and choice.frame == self.frame(choice.frame[0].size, choice.frame[1].size)
        ]

    def __setattr__(self, name: str, value: Any) -> None:
        """Forgets the spectra kept for inference: they may depend on any attribute."""
        if "_spectra" in self.__dict__:
            self._spectra.clear()
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "weight" not in self._parameters:
            raise AttributeError(
                f"{type(self).__name__} has no `weight`: its filters depend on the image's size, "
                "see `spatial_kernel`. What reads an ordinary convolution's weight needs that "
                "convolution: leave it out of `replace_convs`, or `revert` that"
            )
        return super().__getattr__(name)

    def train(self, mode: bool = True) -> "GlobalConv2d":
        """Sets the mode, and forgets the spectra kept for inference."""
        self._spectra.open()
        return super().train(mode)

    def extra_repr(self) -> str:
        """The arguments that are not at their defaults, for `print(model)`."""
        text = f"{self.in_channels}, {self.out_channels}, mixing={self.mixing!r}"
        for name, default in (
            ("kernel_size", None),
            ("stride", (1, 1)),
            ("padding", None),
            ("dilation", (1, 1)),
            ("groups", 1),
            ("downsample", "slice"),
            ("boundary", "circular"),
            ("memory", "recompute"),
            ("backend", "auto"),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)!r}"
        if self.mixing == "low_rank":
            text += f", rank={self.rank}"
        return text + f", bias={self.bias is not None}"
