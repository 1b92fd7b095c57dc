"""What cutting filters changes: outputs of layers, with a bound, and the time of inference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.geometry import Boundary
from nifbuild.nn import GlobalConv2d
from nifbuild.report.measure import Quartiles, WarmSampler, measure_in_turn, ratios

_REPEATS = 11
_SECONDS = 10.0


@dataclass(frozen=True)
class Change:
    """How far the outputs of one layer move, its input being the same.

    All are relative to the largest |y| of the same image.

    Attributes:
        bounds: What the largest change cannot exceed, whatever else the image holds.
        changes: The largest change.
        rms: Over all images: the root of the mean square of the change, over that of y.
    """

    bounds: Float[Tensor, " images"]
    changes: Float[Tensor, " images"]
    rms: float


@dataclass(frozen=True)
class Cut:
    """What was taken from a layer's filters.

    Attributes:
        removed: Sum |k| of each filter outside of its window.
        reaching: Sum |k| inside, over the taps that may reach beyond the border.
        boundary: What lies beyond the border now.
    """

    removed: Float[Tensor, " filters"]
    reaching: Float[Tensor, " filters"]
    boundary: Boundary


@torch.no_grad()
def measure_changes(
    model: nn.Module,
    shrunk: nn.Module,
    cuts: Mapping[str, Cut],
    images: Float[Tensor, "images channels height width"],
) -> dict[str, Change]:
    """The change of each layer on the inputs that it gets in `model`.

    Args:
        model: In eval mode, where `images` lie.
        shrunk: The same with ordinary convolutions under the same names.
        cuts: For each of these layers what was cut.
        images: As the model takes them.
    """
    found: dict[str, Change] = {}

    def compare(path: str, layer: GlobalConv2d, x: Tensor, y: Tensor) -> None:
        change = (shrunk.get_submodule(path)(x) - y).flatten(1)
        largest = y.flatten(1).abs().amax(1).clamp_min(torch.finfo(y.dtype).tiny)
        found[path] = Change(
            bounds=change_bounds(layer, cuts[path], x) / largest,
            changes=change.abs().amax(1) / largest,
            rms=float(change.norm() / y.norm().clamp_min(torch.finfo(y.dtype).tiny)),
        )

    hooks = []
    for path in cuts:
        layer = model.get_submodule(path)
        assert isinstance(layer, GlobalConv2d)
        hooks.append(
            layer.register_forward_hook(
                lambda module, inputs, y, path=path: compare(path, module, inputs[0], y)
            )
        )
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def change_bounds(
    layer: GlobalConv2d, cut: Cut, x: Float[Tensor, "images channels height width"]
) -> Float[Tensor, " images"]:
    """A bound on max |y' - y| for each image, from what was cut and the largest |x| alone.

    A filter's output moves by at most (sum |k| outside its window) * max |x| of its channel, that
    is (1 - kernel mass ratio) * |k|_1 * |x|_inf. The 1x1 convolution behind the filters adds these
    up with its weights' magnitudes. Where the boundary is another one, taps that reach beyond the
    border see other pixels, too: 0 instead of x, or one x instead of another.
    """
    per_filter = cut.removed
    if cut.boundary != layer.boundary:
        pixels = 1 if "zeros" in (cut.boundary, layer.boundary) else 2
        per_filter = per_filter + pixels * cut.reaching
    moved = per_filter.to(x.device, x.dtype)[:, None, None, None]
    if layer.pointwise_in is not None:
        x = layer.pointwise_in(x)
    peaks = x.abs().amax((2, 3), keepdim=True)
    if layer.mixing == "full":
        weight = moved.reshape(layer.out_channels, -1, 1, 1)
        bounds = F.conv2d(peaks, weight, groups=layer.groups)
    else:
        bounds = F.conv2d(peaks, moved, groups=peaks.shape[1])
    if layer.pointwise is not None:
        bounds = F.conv2d(bounds, layer.pointwise.weight.abs(), groups=layer.groups)
    return bounds.flatten(1).amax(1)


@dataclass(frozen=True)
class Speed:
    """Forward passes of a batch.

    Attributes:
        batch: Images in it.
        before_ms: Of the model with filters as large as the image; their spectra are kept.
        after_ms: Of the one with ordinary convolutions.
        ratio: Time before over time after, of the same repeat: above 1 where it became faster.
    """

    batch: int
    before_ms: Quartiles
    after_ms: Quartiles
    ratio: Quartiles


def compare_speed(before: nn.Module, after: nn.Module, images: Tensor) -> Speed:
    """Times both in turn, in eval mode, on the device where models and images lie."""

    def passing(model: nn.Module) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return model(images)

        return run

    models = {"before": before.eval(), "after": after.eval()}
    entries = {
        name: {"forward": WarmSampler(passing(model), images.device)}
        for name, model in models.items()
    }
    times = measure_in_turn(entries, reference="after", repeats=_REPEATS, seconds=_SECONDS)
    old, new = times["before"]["forward"], times["after"]["forward"]
    return Speed(
        len(images), Quartiles.of(old, 1e3), Quartiles.of(new, 1e3), Quartiles.of(ratios(old, new))
    )
