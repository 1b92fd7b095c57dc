"""Which way `backend="auto"` takes, by stand-ins for the kernel, and what is said of it."""

import time

import pytest
import torch
from torch import Tensor

from nifbuild.geometry import Frame, plan_axis
from nifbuild.nn import ImplicitFrequencyConv2d
from nifbuild.nn.backend import choose, fused_obstacle
from nifbuild.nn.spectral_convolution import spectral_convolution
from nifbuild.nn.tracing import as_on_gpu

AXIS = plan_axis(8, 8, 1, 0, "circular")
FRAME = (AXIS, AXIS)


class StandIn:
    """The chain of transforms, `seconds` slower, wrong by a share, or failing."""

    def __init__(self, seconds: float = 0.0, error: float = 0.0, failure: str = "") -> None:
        self.seconds, self.error, self.failure = seconds, error, failure

    def filter_images(
        self, x: Tensor, kernel_f: Tensor, bias: Tensor | None, frame: Frame, dtype: torch.dtype
    ) -> Tensor:
        if self.failure:
            raise RuntimeError(self.failure)
        time.sleep(self.seconds)
        return (1 + self.error) * spectral_convolution(x, kernel_f, frame, dtype=dtype)

    def filter_gradient(
        self, grad: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype
    ) -> Tensor:
        raise NotImplementedError("a choice is made by the gradients of both")

    def both_gradients(
        self, x: Tensor, grad: Tensor, kernel_f: Tensor, frame: Frame, *, needs_x: bool
    ) -> tuple[Tensor | None, Tensor]:
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_(), kernel_f.detach().requires_grad_()]
            y = spectral_convolution(inputs[0], inputs[1], frame)
        grad_x, grad_f = torch.autograd.grad(y, inputs, grad)
        return grad_x, grad_f


class Instant(StandIn):
    """Knows the answers."""

    def __init__(self, x: Tensor, kernel_f: Tensor) -> None:
        super().__init__()
        self.y = spectral_convolution(x, kernel_f, FRAME)
        self.gradients = super().both_gradients(x, self.y, kernel_f, FRAME, needs_x=True)

    def filter_images(self, *arguments: object) -> Tensor:
        return self.y

    def both_gradients(self, *arguments: object, needs_x: bool) -> tuple[Tensor | None, Tensor]:
        return self.gradients


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(64, 16, 8, 8), torch.fft.rfft2(torch.randn(16, 8, 8))


@pytest.mark.parametrize("trains", [False, True])
def test_agrees_and_is_faster(images: tuple[Tensor, Tensor], trains: bool) -> None:
    kernel = Instant(*images)
    choice = choose(*images, FRAME, torch.float32, trains=trains, kernel=kernel)
    assert choice.backend == "fused" and choice.why.startswith("the faster one")
    assert choice.fused_ms is not None and choice.fft_ms is not None
    assert choice.fused_ms < choice.fft_ms and choice.difference == 0
    assert (choice.batch, choice.channels, choice.trains) == (64, 16, trains)


def test_agrees_and_is_slower(images: tuple[Tensor, Tensor]) -> None:
    slow = StandIn(seconds=0.2)
    choice = choose(*images, FRAME, torch.float32, trains=True, kernel=slow, repeats=1)
    assert choice.backend == "fft" and choice.why.startswith("the faster one")
    assert choice.fused_ms is not None and choice.fused_ms > 200


def test_disagrees(images: tuple[Tensor, Tensor]) -> None:
    choice = choose(*images, FRAME, torch.float32, trains=False, kernel=StandIn(error=1e-3))
    assert (
        choice.backend == "fft"
        and choice.why == "the fused one differs by 1.0e-03, more than 1.0e-05"
    )
    choice = choose(*images, FRAME, torch.float32, trains=False, kernel=StandIn(error=float("nan")))
    assert choice.backend == "fft"


def test_does_not_compile(images: tuple[Tensor, Tensor]) -> None:
    broken = StandIn(failure="no such\n instruction")
    with pytest.warns(RuntimeWarning, match="Fourier transforms are used .*no such instruction"):
        choice = choose(*images, FRAME, torch.float32, trains=True, kernel=broken)
    assert choice.backend == "fft" and "no such instruction" in choice.why


def test_deterministic_runs_do_not_go_by_times(images: tuple[Tensor, Tensor]) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        slow = StandIn(seconds=0.05)
        choice = choose(*images, FRAME, torch.float32, trains=False, kernel=slow)
    finally:
        torch.use_deterministic_algorithms(False)
    assert choice.backend == "fused" and choice.fft_ms is None


def test_what_the_kernel_cannot_do() -> None:
    x, kernel_f = torch.zeros(1, 2, 8, 8), torch.zeros(2, 8, 5, dtype=torch.complex64)

    def obstacle(size: int = 8, boundary: str = "circular", dtype: torch.dtype = torch.float32):
        axis = plan_axis(size, size, 1, 0, boundary)  # type: ignore[arg-type]
        return fused_obstacle(x.to(dtype), kernel_f, (axis, axis), dtype)

    assert obstacle() is None and obstacle(64) is None and obstacle(dtype=torch.float16) is None
    assert obstacle(65) == "a period of 65 pixels is over 64"
    assert obstacle(48, "zeros") == "a period of 72 pixels is over 64"
    assert obstacle(boundary="reflect") == "a border of reflect pixels is written out first"
    assert obstacle(dtype=torch.float64) == "images of torch.float64 are computed in float64"
    pairs = torch.zeros(1, 2, 2, 8, 5, dtype=torch.complex64)
    assert "for pairs of channels" in str(fused_obstacle(x, pairs, FRAME, torch.float32))


def test_a_layer_that_asks_for_the_impossible() -> None:
    layer = ImplicitFrequencyConv2d(2, 2, boundary="reflect", backend="fused")
    with as_on_gpu(), pytest.raises(ValueError, match=r"`backend` .* is not possible: a border"):
        layer(torch.zeros(1, 2, 8, 8))
    layer(torch.zeros(1, 2, 8, 8))  # a CPU has one way
