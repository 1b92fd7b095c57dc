"""From which kernel size on an ordinary depthwise convolution is slower than the layer."""

from collections.abc import Callable
from dataclasses import dataclass

from nifbuild.report.bench.contenders import THIS_LAYER, InputShape, Mixing, depthwise
from nifbuild.report.bench.prepared import Activations, Prepared
from nifbuild.report.bench.setting import Setting
from nifbuild.report.measure import OnTurn, Quartiles, Sampler, WarmSampler, measure_in_turn, ratios

_REPEATS = 5
_FIGURE = "forward_backward"


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where the layer becomes faster, forward and backward.

    Attributes:
        kernel_size: The smallest odd size of a depthwise convolution that is slower than the layer;
            None where none is up to `limit`.
        limit: The largest size that was in question: that of the image.
        ratios: Times of the sizes that were measured, over the layer's.
    """

    kernel_size: int | None
    limit: int
    ratios: dict[int, Quartiles]


def smallest_odd(holds: Callable[[int], bool], limit: int) -> int | None:
    """The smallest odd number from 3 to `limit` from which on `holds`; None where there is none.

    Takes it that `holds` stays true once it is, and asks about 2 log2(limit) times: strides that
    double until it holds, then halves of the last one.
    """
    low, high = 1, 3
    while not holds(high):
        if high >= limit:
            return None
        low, high = high, min(2 * high - 1, limit)
    while high - low > 2:
        middle = low + 2 * ((high - low) // 4)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def measure_crossover(
    layer: Prepared,
    shape: InputShape,
    activations: Activations,
    mixing: Mixing,
    setting: Setting,
    on_turn: OnTurn,
) -> Crossover:
    """Searches the depthwise kernel size from which the layer is faster, forward and backward.

    A few paired repeats decide about each size that the search asks for.

    Args:
        layer: The layer on the same activations.
        shape: Of these activations.
        activations: On which all are timed.
        mixing: As in `Contender.build`.
        setting: In which they are.
        on_turn: Called before each turn.

    Raises:
        RuntimeError: PyTorch cannot run a depthwise convolution here.
    """
    patience = setting.seconds
    reference = {_FIGURE: WarmSampler(layer.forward_backward, setting.device, patience)}
    found: dict[int, Quartiles] = {}

    def is_slower(size: int) -> bool:
        contender = depthwise(size)
        on_turn(f"crossover: {contender.name}")
        ordinary = Prepared(contender.build(shape, mixing), activations, setting)
        entries: dict[str, dict[str, Sampler]] = {
            THIS_LAYER: {**reference},
            contender.name: {
                _FIGURE: WarmSampler(ordinary.forward_backward, setting.device, patience)
            },
        }
        times = measure_in_turn(
            entries,
            reference=THIS_LAYER,
            repeats=min(_REPEATS, setting.repeats),
            seconds=setting.seconds,
        )
        slowness = ratios(times[contender.name][_FIGURE], times[THIS_LAYER][_FIGURE])
        found[size] = Quartiles.of(slowness)
        return found[size].median > 1

    limit = max(3, *shape.largest_odd)
    kernel_size = smallest_odd(is_slower, limit)
    return Crossover(kernel_size, limit, dict(sorted(found.items())))
