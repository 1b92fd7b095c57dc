"""What cutting filters gave: for each layer, and for the model; as data, and as tables."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from torch import nn

from nifbuild.evaluate.figures import Figures
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.show.tables import framed_table, legend, open_table
from nifbuild.report.show.units import count_text, percent_text, shape_text
from nifbuild.report.shrink.changes import Change, Speed
from nifbuild.report.shrink.windows import LayerWindows, Search


@dataclass(frozen=True)
class LayerResult:
    """One layer.

    Attributes:
        path: The module's name.
        grid: Height and width of the image that it sees.
        window: Width of the odd window that is kept, in pixels.
        kernel_size: Of the convolution; smaller than the window along an axis where the grid is.
        kept_mass: Share of the layer's sum |k| inside the window.
        least_kept_mass: That of the filter that loses most.
        bound: What the largest change cannot exceed, over the largest output; the worst image.
        change: The largest change, over the largest output; the worst image.
        rms_change: Root of the mean square of the change, over that of the output.
    """

    path: str
    grid: tuple[int, int]
    window: int
    kernel_size: tuple[int, int]
    kept_mass: float
    least_kept_mass: float
    bound: float
    change: float
    rms_change: float

    @classmethod
    def of(
        cls, layer: LayerWindows, window: int, kernel_size: tuple[int, int], change: Change
    ) -> "LayerResult":
        """From the measurements."""
        index = layer.sizes.index(window)
        return cls(
            path=layer.kernels.path,
            grid=layer.kernels.grid,
            window=window,
            kernel_size=kernel_size,
            kept_mass=layer.kept[index],
            least_kept_mass=float(layer.shares[:, index].min()),
            bound=float(change.bounds.max()),
            change=float(change.changes.max()),
            rms_change=change.rms,
        )


@dataclass(frozen=True)
class Side:
    """The model before or after.

    Attributes:
        figures: On the split that the result is about.
        params: Parameters.
    """

    figures: Figures
    params: int

    @classmethod
    def of(cls, model: nn.Module, figures: Figures) -> "Side":
        """The model and its figures."""
        return cls(figures, sum(p.numel() for p in model.parameters()))

    def document(self) -> dict[str, Any]:
        """As plain data."""
        figures = self.figures
        return {
            "top1": figures.top1,
            "top5": figures.top5,
            "loss": figures.loss,
            "num_samples": figures.num_samples,
            "params": self.params,
        }


@dataclass(frozen=True)
class Finetuned:
    """What training the cut model on gave.

    Attributes:
        epochs: For so long.
        top1: Accuracy on the split that the result is about.
        loss: Mean cross-entropy there.
        directory: The run.
    """

    epochs: int
    top1: float
    loss: float
    directory: Path


@dataclass(frozen=True)
class ShrinkResult:
    """All of it.

    Attributes:
        name: Of the new spec.
        run: That was cut.
        out: The run directory that was written.
        size: Height and width of the images.
        split: That figures are of.
        layers: In the order in which they are applied.
        search: For the smallest windows within a budget; None where they were given.
        before: The model as it was.
        after: With small filters.
        speed: Of both.
        finetuned: After training on, where that was asked for.
    """

    name: str
    run: Path
    out: Path
    size: tuple[int, int]
    split: str
    layers: Sequence[LayerResult]
    search: Search | None
    before: Side
    after: Side
    speed: Speed
    finetuned: Finetuned | None = None

    def document(self) -> dict[str, Any]:
        """As plain data."""
        finetuned = self.finetuned
        return {
            "name": self.name,
            "run": str(self.run),
            "directory": str(self.out),
            "input_size": list(self.size),
            "split": self.split,
            "layers": [asdict(layer) for layer in self.layers],
            "search": [asdict(trial) for trial in self.search.trials] if self.search else [],
            "validation_top1": [self.search.before, self.search.after] if self.search else None,
            "before": self.before.document(),
            "after": self.after.document(),
            "speed": asdict(self.speed),
            "finetuned": finetuned and {**asdict(finetuned), "directory": str(finetuned.directory)},
        }


def print_result(result: ShrinkResult) -> None:
    """Prints it on stdout."""
    Console().print(tables(result))


def tables(result: ShrinkResult) -> RenderableType:
    """Each layer, then the model before and after, then where it lies."""
    parts: list[RenderableType] = [_layers(result), _model(result)]
    if result.search:
        trials = result.search.trials
        found = (f"{percent_text(t.mass, 1)} gave {percent_text(t.top1)}" for t in trials)
        tried = f"the search tried {len(trials)} shares of the filters on validation"
        parts.append(f"{tried}: {', '.join(found)}")
    directory = shlex.quote(str(result.out))
    parts.append(f"run: {result.out}\nevaluate it again: nifbuild evaluate {directory}")
    if result.finetuned is not None:
        parts.append(f"trained on: {result.finetuned.directory}")
    return Group(*parts)


def _layers(result: ShrinkResult) -> RenderableType:
    headings = ("layer", "grid", "window", "kept mass", "bound", "change", "rms")
    table = open_table(f"{result.name}: filters in windows", headings, folded=(0,))
    for layer in result.layers:
        table.add_row(
            layer.path,
            shape_text(layer.grid),
            shape_text(layer.kernel_size),
            percent_text(layer.kept_mass),
            *map(_percent, (layer.bound, layer.change, layer.rms_change)),
        )
    meanings = legend(
        f"shares of the largest output; change: the largest of {result.speed.batch} images, "
        "rms: over all of them, bound: what no image of the same largest values can exceed"
    )
    return Group(table, meanings, "")


def _model(result: ShrinkResult) -> Table:
    sides, speed, tuned = (result.before, result.after), result.speed, result.finetuned
    times = (speed.before_ms, speed.after_ms)
    rows = {
        "top-1": [percent_text(side.figures.top1) for side in sides],
        "loss": [f"{side.figures.loss:.4f}" for side in sides],
    }
    if result.search:  # what the budget is about
        found = (result.search.before, result.search.after)
        rows["top-1 on validation"] = [percent_text(top1) for top1 in found]
    rows |= {
        "parameters": [count_text(side.params) for side in sides],
        f"ms for {speed.batch} images": [f"{quartiles.median:.2f}" for quartiles in times],
        "speed, median of pairs": ["1", f"{speed.ratio.median:.2f}"],
    }
    columns = ["before", "after"]
    if tuned is not None:
        columns.append("trained on")
        rows["top-1"].append(percent_text(tuned.top1))
        rows["loss"].append(f"{tuned.loss:.4f}")
    images = f"{result.split}, {result.before.figures.num_samples:,} images"
    table = framed_table(headings=(images, *columns))
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _percent(share: float) -> str:
    return percent_text(share) if share < 1 else f"{share:,.0%}"
