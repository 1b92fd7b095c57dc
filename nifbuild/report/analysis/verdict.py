"""What an analysis comes to, in sentences."""

import math
from collections.abc import Sequence

from nifbuild.errors import counted
from nifbuild.report.analysis.analysis import Analysis, ModelFigures
from nifbuild.report.analysis.filters import LOW_FREQUENCY
from nifbuild.report.show.units import percent_text, shape_text

_MOST = 0.75
_NAMED_SHARES = {0.5: "half", 0.25: "a quarter", 0.75: "three quarters"}


def verdicts(analysis: Analysis) -> list[str]:
    """One sentence for each question that the figures answer."""
    sentences = [_size_sentence(analysis, share) for share in analysis.shares]
    change = _change_sentence(analysis)
    sentences += [change] if change else []
    sentences.append(_low_pass_sentence(analysis))
    field = _receptive_field_sentence(analysis)
    return [*sentences, *([field] if field else [])]


def _size_sentence(analysis: Analysis, share: float) -> str:
    """The smallest window that is enough for three quarters of the layers, and for how many it is.

    Of the other models, the smallest that is enough for as many.
    """
    sizes = _median_sizes(analysis.trained, share)
    wanted = math.ceil(_MOST * len(sizes))
    window = sorted(sizes)[wanted - 1]
    enough = sum(size <= window for size in sizes)
    named = _NAMED_SHARES.get(share, percent_text(share, 0).replace("100%", "all"))
    text = f"{named[0].upper()}{named[1:]} of the kernel mass lies within {window}x{window} pixels"
    text += f" for at least half of the filters in {_of(enough, len(sizes))}"
    others = []
    for name, label in (("initial", "at initialisation"), ("against", "in the other run")):
        if name in analysis.models:
            other = _median_sizes(analysis.models[name], share)
            # The other run may have fewer layers: then for the same part of them.
            place = max(1, math.ceil(enough / len(sizes) * len(other)))
            size = sorted(other)[place - 1]
            others.append(f"{label} within {size}x{size}")
    return "; ".join([text, *others]) + "."


def _of(number: int, total: int) -> str:
    if total == 1:
        return "the only layer"
    return f"all {total} layers" if number == total else f"{number} of {total} layers"


def _median_sizes(figures: ModelFigures, share: float) -> list[int]:
    """Of each layer, the window that is enough for half of its filters."""
    # Between two filters, the median may fall between two windows: the next odd number, then.
    medians = [layer.mass_sizes[share].median.item() for layer in figures.layers]
    odd = [math.ceil((median - 1) / 2) * 2 + 1 for median in medians]
    # A window of one more than an even grid is all of it.
    return [min(s, max(layer.grid)) for s, layer in zip(odd, figures.layers, strict=True)]


def _change_sentence(analysis: Analysis) -> str:
    """Whether training has made filters larger or smaller, at the first share.

    Layers are the same where the table, which has one decimal, shows the same.
    """
    initial = analysis.models.get("initial")
    if initial is None:
        return ""
    share = analysis.shares[0]
    before, after = (_mean_sizes(m, share) for m in (initial, analysis.trained))
    smaller = sum(b < a for a, b in zip(before, after, strict=True))
    larger = sum(b > a for a, b in zip(before, after, strict=True))
    same = len(after) - smaller - larger
    return (
        f"Training has made the mean window with {percent_text(share, 0)} of the mass smaller in "
        f"{_layers(smaller)} and larger in {_layers(larger)}"
        + (f"; in {_layers(same)} it is the same." if same else ".")
    )


def _layers(number: int) -> str:
    return counted(number, "layer")


def _mean_sizes(figures: ModelFigures, share: float) -> list[float]:
    return [round(layer.mass_sizes[share].mean.item(), 1) for layer in figures.layers]


def _low_pass_sentence(analysis: Analysis) -> str:
    layers = analysis.trained.layers
    low = sum(layer.low_share.mean.item() > 0.5 for layer in layers)
    shares = [f"in the mean over all layers {percent_text(_mean_low_share(analysis.trained), 0)}"]
    if "initial" in analysis.models:
        shares.append(
            f"{percent_text(_mean_low_share(analysis.models['initial']), 0)} at initialisation"
        )
    white = sum(layer.white_low_share for layer in layers) / len(layers)
    shares.append(f"{percent_text(white, 0)} if they passed all alike")
    pass_low = (
        f"Filters are low-pass in {_of(low, len(layers))}: there, more than half of the energy lies"
        if low
        else "Filters are low-pass in no layer: nowhere does more than half of the energy lie"
    )
    return f"{pass_low} below {LOW_FREQUENCY:g} cycles per pixel ({', '.join(shares)})."


def _mean_low_share(figures: ModelFigures) -> float:
    values: Sequence[float] = [layer.low_share.mean.item() for layer in figures.layers]
    return sum(values) / len(values)


def _receptive_field_sentence(analysis: Analysis) -> str:
    fields = analysis.trained.receptive_fields
    if not fields:
        return ""
    last, share = fields[-1], analysis.shares[0]
    size = last.energy_sizes[share]
    image = shape_text(analysis.size)
    text = (
        f"The centre of the last stage larger than one pixel ({last.path}) has "
        f"{percent_text(share, 0)} of its gradient's energy within {size}x{size} of {image} pixels"
    )
    initial = analysis.models.get("initial")
    before = initial.receptive_field(last.path) if initial is not None else None
    if before is not None:
        text += f"; at initialisation within {before.energy_sizes[share]}"
        text += f"x{before.energy_sizes[share]}"
    return text + "."
