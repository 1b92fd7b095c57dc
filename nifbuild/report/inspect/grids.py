"""An inspection as tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from nifbuild.errors import listing
from nifbuild.report.inspect.folding import Folded, fold
from nifbuild.report.inspect.inspection import Inspection, Row
from nifbuild.report.inspect.targets import BOUND, BOUND_BYTES
from nifbuild.report.inspect.workspace import MAX_TRIED_BYTES
from nifbuild.report.show.tables import NARROW, Grid
from nifbuild.report.show.units import bytes_text, change_text, count_text, percent_text, shape_text
from nifbuild.spec.source import files_of

_LABELS = {
    "weights_bytes": "weights",
    "buffers_bytes": "buffers",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "ema_bytes": "moving average (EMA)",
    "input_bytes": "images and labels",
    "activations_bytes": "activations",
    "train_peak_bytes": "training peak",
    "inference_peak_bytes": "inference peak",
    "ddp_buckets_bytes": "DDP buckets, each process",
}


def layer_grid(inspection: Inspection, width: int = 120) -> Grid:
    """The modules, blocks that repeat as one."""
    wide = width >= NARROW
    headings = ["module", "op", "output", "params", "MACs", "saved", "fixed"]
    rows = [_cells(folded, wide) for folded in fold(inspection.rows)]
    if wide:
        headings[1:1] = ["n"]
        headings += ["line"]
    else:
        headings.remove("fixed")
    shape = shape_text(_input_shape(inspection))
    first = inspection.predictions[0].batch_size
    title = f"{inspection.resolved.name}: {shape}, batch of {first}; bytes saved for backward"
    marks = [row.mark for row in inspection.rows if row.mark and row.mark.line]
    if wide and marks:
        files = dict.fromkeys(mark.file for mark in marks)
        title += f"; line in {listing(_file_names(files, inspection))}"
    return Grid(title, tuple(headings), 4 if wide else 3, tuple(rows), 3 if wide else 2)


def _file_names(files: Iterable[str], inspection: Inspection) -> list[str]:
    """Their names; with the folder where another file of the spec has the same name."""
    paths = [Path(file) for file in files_of(inspection.resolved.source).union(files)]
    counts = Counter(path.name for path in paths)
    named = map(Path, files)
    return [p.name if counts[p.name] == 1 else f"{p.parent.name}/{p.name}" for p in named]


def _cells(folded: Folded, wide: bool) -> tuple[str, ...]:
    row = folded.row
    cells = [
        folded.path,
        _op_text(row),
        shape_text(row.output_shape),
        count_text(row.params) if row.params else "",
        "?" if row.macs is None else count_text(row.macs) if row.macs else "",
        bytes_text(row.saved.total) if row.saved.total else "",
        bytes_text(row.saved.fixed) if row.saved.fixed else "",
    ]
    if wide:
        cells[1:1] = [str(folded.count) if folded.count > 1 else ""]
        cells += [f"{row.mark.line}" if row.mark and row.mark.line else ""]
    else:
        cells[1] = f"{folded.count}x {cells[1]}" if folded.count > 1 else cells[1]
        cells.pop()
    return tuple(cells)


def _op_text(row: Row) -> str:
    return row.op if row.kind in (None, "standard") else str(row.kind)


def _input_shape(inspection: Inspection) -> tuple[int, ...]:
    shape = inspection.resolved.graph.input_shape
    return (shape.channels, *shape.size)


def total_grid(inspections: Sequence[Inspection]) -> Grid:
    """The totals; of two models side by side, with the second one's difference to the first."""
    rows = [
        _numbers("parameters", [i.params for i in inspections], memory=False),
        _numbers("with dense filters", [i.dense_params for i in inspections], memory=False),
        _numbers("multiply-adds, one image", [i.macs for i in inspections], memory=False),
    ]
    parts = dict.fromkeys(name for i in inspections for name in i.macs_by_part)
    if len(parts) > 1:
        rows += [
            _numbers(f"  {_PARTS[name]}", [i.macs_by_part.get(name, 0) for i in inspections], False)
            for name in parts
        ]
    names = [i.resolved.name for i in inspections]
    headings = ("", names[0]) if len(names) == 1 else ("", *names, "difference", "")
    return Grid("", headings, 1, tuple(rows))


_PARTS = {
    "direct": "ordinary layers",
    "transform": "transforms",
    "product": "products of spectra",
    "mixing": "1x1 mixing",
    "filter": "filters, once a batch",
}


def memory_grid(inspection: Inspection) -> Grid:
    """Memory by category for each batch size."""
    target, predictions = inspection.target, inspection.predictions
    rows = []
    for name, label in _LABELS.items():
        values = [getattr(p.memory, name) for p in predictions]
        if any(values):
            rows.append((label, *(bytes_text(value) for value in values)))
    title = f"memory: {target.device}, {target.precision}, {inspection.optimizer.name}"
    headings = ("batch size", *(str(p.batch_size) for p in predictions))
    return Grid(title, headings, 1, tuple(rows))


def memory_comparison(one: Inspection, other: Inspection) -> Grid:
    """Memory of two models for the first batch size."""
    first, second = (i.predictions[0].memory for i in (one, other))
    rows = [
        _numbers(label, [getattr(m, name) for m in (first, second)], memory=True)
        for name, label in _LABELS.items()
        if getattr(first, name) or getattr(second, name)
    ]
    title = f"memory, batch of {one.predictions[0].batch_size}"
    headings = ("", one.resolved.name, other.resolved.name, "difference", "")
    return Grid(title, headings, 1, tuple(rows))


def _numbers(label: str, values: Sequence[int], memory: bool) -> tuple[str, ...]:
    text = bytes_text if memory else count_text
    cells = [text(value) for value in values]
    if len(values) == 2:
        change = values[1] - values[0]
        share = change_text(change / values[0]) if values[0] and change else ""
        cells += [("+" if change > 0 else "") + text(change) if change else "same", share]
    return (label, *cells)


def notes(inspection: Inspection) -> list[str]:
    """What the words mean that are not plain, what figures leave out and what they count as 0."""
    found = []
    if any(folded.count > 1 for folded in fold(inspection.rows)):
        found.append("n: modules that repeat; the row has the figures of each of them.")
    if any(row.saved.fixed for row in inspection.rows):
        found.append("Fixed: what of the saved bytes does not grow with the batch.")
    if inspection.dense_params != inspection.params:
        found.append(
            "With dense filters: if those as large as the image had a weight for each tap."
        )
    if inspection.counted_as_zero:
        zero = ", ".join(inspection.counted_as_zero)
        found.append(f"Multiply-adds: counted as 0, as flop counters do: {zero}.")
    if inspection.uncounted:
        found.append(f"Not counted, for want of a rule: {', '.join(inspection.uncounted)}.")
    if inspection.head_params:
        names = listing([head.name for head in inspection.resolved.graph.heads])
        found.append(
            f"Auxiliary heads ({names}): {count_text(inspection.head_params)} of the parameters; "
            "only training runs them, and the multiply-adds are without."
        )
    if inspection.target.device == "cuda":
        found.append(
            "CUDA: without the driver's context and the workspaces of cuDNN, cuBLAS and cuFFT."
        )
    else:
        bound = f"within {percent_text(BOUND, 0)}, or {bytes_text(BOUND_BYTES)} where that is more"
        found.append(
            f"CPU: peaks are those of this machine ({inspection.machine}), {bound}; its libraries' "
            f"part is from single convolutions, tried with {bytes_text(MAX_TRIED_BYTES)} at most."
        )
    return found
