"""Ground truth for `nifbuild analyze`: do measured sizes follow the size that a task needs?

In `distant_pair.yaml`, marks `distance` pixels apart have to be told from marks further apart. A
filter centred on a mark has to reach `distance` pixels to each side, so that it is 2 * distance + 1
wide, and more is of no use. One layer is trained for each distance and kind of filter.

Run it with `python examples/distant_pair.py`; it takes some minutes on a CPU, and draws
examples/distant_pair.png. Distances may be given: `python examples/distant_pair.py 2 4`.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from torch import nn

from nifbuild import load_spec
from nifbuild.report.filter_windows import effective_size, layer_kernels, window_shares
from nifbuild.runs.loaded import load_run
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.run import train_run

HERE = Path(__file__).parent
SIZE = 24
DISTANCES = (2, 3, 4, 5, 6)

# The defaults, and frequencies up to four times as high, for filters that reach across the image.
IMPLICIT = """
patch: [{match: filters, set: {kind: implicit_frequency, mixing: depthwise, harmonics: 3}}]
"""
# Idle weights of free filters have to vanish by weight decay, which filters have none of else.
FREE = """
patch: [{match: filters, set: {kind: free_frequency, mixing: depthwise}}]
train: {optimizer: {filters: null}}
"""
KINDS = {
    "implicit frequency": IMPLICIT,
    "free frequency": FREE,
    "ordinary 3x3": "",
    "ordinary 7x7": "patch: [{match: filters, set: {kernel_size: 7}}]",
}
# Okabe and Ito's colours, which colour-blind readers can tell apart.
LOOKS = dict(zip(KINDS, ("#0072B2", "#D55E00", "#000000", "#009E73"), strict=True))
MARKS = dict(zip(KINDS, "osv^", strict=True))
MARK_SIZES = dict(zip(KINDS, (7, 4, 4, 4), strict=True))  # all at 100 % can be seen


@dataclass(frozen=True)
class Result:
    """What one training came to.

    Sizes are the sides, in pixels, of the smallest odd windows that hold half of a kernel's energy,
    on average over the layer's four kernels; None for ordinary convolutions.
    """

    kind: str
    distance: int
    accuracy: float
    size: float | None
    initial_size: float | None


def study(kind: str, distance: int, *, epochs: int | None = None) -> Result:
    """Trains one layer of filters of this kind, and measures them."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.yaml"
        spec.write_text(f"extends: {HERE / 'distant_pair.yaml'}\n{KINDS[kind]}")
        overrides = [f"vars.distance={distance}"]
        overrides += [f"train.epochs={epochs}"] if epochs else []
        resolved = load_spec(spec, overrides=overrides)
        figures = train_run(resolved, Path(folder) / "run")
        trained = load_run(Path(folder) / "run")
        after, before = (half_energy(m) for m in (trained.model, fresh_model(trained.resolved)))
    return Result(kind, distance, figures.top1, after, before)


def half_energy(model: nn.Module) -> float | None:
    """The mean side of the windows with half of the energy; None without such filters."""
    layers = layer_kernels(model, (1, SIZE, SIZE))
    if not layers:
        return None
    return effective_size(window_shares(layers[0].kernels, "energy"), 0.5).float().mean().item()


def table(results: list[Result]) -> str:
    """A row for each training."""
    rows = [f"{'filters':20}{'distance':>8}{'needed':>8}{'size':>8}{'before':>8}{'accuracy':>10}"]
    for r in results:
        sizes = "".join("       -" if s is None else f"{s:8.1f}" for s in (r.size, r.initial_size))
        needed = 2 * r.distance + 1
        rows.append(f"{r.kind:20}{r.distance:8}{needed:8}{sizes}{r.accuracy:10.1%}")
    return "\n".join(rows)


def plot(results: list[Result]) -> Figure:
    """Do sizes follow the distance, and which filters are large enough?"""
    figure = Figure(figsize=(6.8, 3.0), layout="constrained")
    size, accuracy = figure.subplots(1, 2)
    distances = sorted({r.distance for r in results})
    size.plot(
        distances, [2 * d + 1 for d in distances], color="0.7", lw=5, label="needed: 2 distance + 1"
    )
    for kind in KINDS:
        of_kind = [r for r in results if r.kind == kind]
        x = [r.distance for r in of_kind]
        look = {"color": LOOKS[kind], "marker": MARKS[kind], "markersize": MARK_SIZES[kind]}
        accuracy.plot(x, [100 * r.accuracy for r in of_kind], label=kind, **look)
        if of_kind and of_kind[0].size is not None:
            size.plot(x, [r.size for r in of_kind], label=f"{kind}, trained", **look)
            before = [r.initial_size for r in of_kind]
            size.plot(x, before, "--", mfc="white", label=f"{kind}, before", **look)
    accuracy.axhline(50, color="0.7", lw=0.8, zorder=0)
    accuracy.set(ylabel="test accuracy (%)", ylim=(40, 103))
    size.set(ylabel="window with half of\nthe energy (pixels)", ylim=(0, SIZE + 1))
    for axes in (size, accuracy):
        axes.set_xticks(distances)
        axes.set_xlabel("distance of the marks (pixels)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    figure.legend(*size.get_legend_handles_labels(), loc="outside upper left", fontsize=7, ncols=3)
    accuracy.legend(fontsize=7, frameon=False, loc="center right")
    return figure


def main() -> None:
    """Trains all, prints the table, draws the plot."""
    distances = [int(word) for word in sys.argv[1:]] or DISTANCES
    results = []
    for kind in KINDS:
        for distance in distances:
            results.append(study(kind, distance))
            print(table(results[-1:]).splitlines()[1], file=sys.stderr, flush=True)
    print(table(results))
    if len(distances) > 1:
        plot(results).savefig(HERE / "distant_pair.png", dpi=200)


if __name__ == "__main__":
    main()
