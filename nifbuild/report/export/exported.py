"""A model is written to a file, and the file checked before it is called done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nifbuild.errors import Problem, RunError, SpecError, listing, option_problem, shown
from nifbuild.machine.options import AnyPath
from nifbuild.machine.progress import Reporter
from nifbuild.report.export.export_card import ExportedFile, card_beside, write_card
from nifbuild.report.export.formats import (
    Written,
    write_onnx,
    write_safetensors,
    write_torch,
)
from nifbuild.report.export.plain import EndToEnd, Filters, plain_model
from nifbuild.report.export.source import Source
from nifbuild.report.output_file import require_files, written_file
from nifbuild.report.show.units import mebibytes, shape_text

Format = Literal["onnx", "torch", "safetensors"]

TOLERANCE = 1e-4
"""What outputs may differ by, over the largest output where that is above 1."""

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
_CHECKED_IMAGES = 8
_OPTION = "--output"


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes:
        path: The file.
        format: Of the file.
        name: Of the model.
        input_shape: Batch (None: any), channels, height and width.
        file_bytes: Its size, with that of the file beside it, where there is one.
        filters: How filters are written; None: as their parameters.
        difference: The largest, of outputs from those of the model.
        largest_output: Of the model, for scale.
        checked_on: On which inputs.
        feed: What the file takes and gives, in words.
        facts: What else is known of the file.
    """

    path: Path
    format: Format
    name: str
    input_shape: tuple[int | None, int, int, int]
    file_bytes: int
    filters: Filters | None
    difference: float
    largest_output: float
    checked_on: str
    feed: str
    facts: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "file": str(self.path),
            "format": self.format,
            "name": self.name,
            "input_shape": list(self.input_shape),
            "file_bytes": self.file_bytes,
            "filters": self.filters,
            "max_difference": self.difference,
            "largest_output": self.largest_output,
            "tolerance": TOLERANCE,
            "checked_on": self.checked_on,
            "feed": self.feed,
            **self.facts,
        }

    def __str__(self) -> str:
        batch = "any" if self.input_shape[0] is None else str(self.input_shape[0])
        size = shape_text(self.input_shape[1:])
        facts = [f"batch {batch}", f"images {size}", f"{mebibytes(self.file_bytes):.1f} MiB"]
        if "opset" in self.facts:
            facts.insert(0, f"opset {self.facts['opset']}")
        return (
            f"{shown(str(self.path))}: {', '.join(facts)}\n"
            f"{self.facts['checked_with']} differs from the model by {self.difference:.1e} "
            f"at most, where outputs reach {self.largest_output:.3g} ({self.checked_on})\n"
            f"{shown(self.feed)}"
        )


def write_source(
    source: Source,
    format: Format,
    output: Path | None = None,
    *,
    overwrite: bool = False,
    batch: int | None = None,
    filters: Filters = "auto",
    end_to_end: bool = False,
    data: AnyPath | None = None,
    report: Reporter | None = None,
) -> Exported:
    """Writes the file, reads it back, and compares its outputs with the model's.

    Args:
        source: The model.
        format: Of the file.
        output: The file, or a folder for it; None: the spec's name in the working directory.
        overwrite: Replace the file that is there.
        batch: Images at once; None: any number.
        filters: How filters as large as the image are written.
        end_to_end: From pixels to probabilities.
        data: A spec file whose `data` section has the images to compare on; None: the run's.
        report: Hears of the progress; None: nobody.
    """
    report = report or Reporter()
    path = _place(output, f"{source.resolved.name}{_SUFFIXES[format]}")
    card = card_beside(path, output)
    require_files(_OPTION, [path], overwrite=overwrite)
    if not path.suffix:
        what = f"there is no folder {path}, and the name of a file ends in {_SUFFIXES[format]}"
        fix = f"make the folder first, or write {path}{_SUFFIXES[format]}"
        raise SpecError(option_problem(_OPTION, what, fix))
    if (named := _format_of(path)) not in (None, format):
        what = f"{path} would be a file of --format {format}"
        fix = f"end it in {_SUFFIXES[format]}, or give --format {named}"
        raise SpecError(option_problem(_OPTION, what, fix))
    count = batch or _CHECKED_IMAGES
    images, checked_on = source.inputs(count, data, report)
    untrained = " with weights that are not trained" if source.run is None else ""
    report.note(f"writing {path}{untrained}, which may take a minute for a deep network")
    with written_file(_OPTION, path, overwrite=overwrite) as writing:
        written = _write(writing, source, format, batch, filters, end_to_end)
        expected = _logits(source, images)
        if end_to_end:
            images, expected = _as_pixels(images, source), expected.softmax(1)
        # Of any number: a batch that the exporter has not seen, too.
        parts = [images] if batch else [images, images[:1]]
        difference = max(
            float((written.run(part) - expected[: len(part)]).abs().max()) for part in parts
        )
        largest = float(expected.abs().max())
        _require_same(difference, largest, path, written)
        file_bytes = sum(file.stat().st_size for file in writing.parent.iterdir())
    shape = source.resolved.spec.input
    exported = Exported(
        path=path,
        format=format,
        name=source.resolved.name,
        input_shape=(batch, shape.channels, *shape.size),
        file_bytes=file_bytes,
        filters=None if format == "safetensors" else filters,
        difference=difference,
        largest_output=largest,
        checked_on=checked_on,
        feed=_feed(source, format, end_to_end, batch),
        facts=written.facts,
    )
    told = ExportedFile(path, format, exported.input_shape, exported.feed, end_to_end)
    write_card(card, source, told, report, overwrite=overwrite)
    return exported


def chosen_format(format: Format | None, output: AnyPath | None) -> Format:
    """The format that is asked for, or that the name of the file says; else ONNX.

    Raises:
        SpecError: The name ends as that of no format does, and none is asked for.
    """
    if format is not None or output is None or Path(output).is_dir():
        return format or "onnx"
    named = _format_of(Path(output))
    if named is None and Path(output).suffix:
        what = f"the ending {Path(output).suffix} says no format"
        fix = f"end it with {listing(list(_SUFFIXES.values()))}; or name the format: --format onnx"
        raise SpecError(option_problem(f"{_OPTION} {output}", what, fix))
    return named or "onnx"


def _format_of(path: Path) -> Format | None:
    """The format that the name of a file says."""
    if path.suffix in (".pt", ".pth"):  # as people call what torch writes
        return "torch"
    return next((name for name, end in _SUFFIXES.items() if end == path.suffix), None)


def _place(output: Path | None, name: str) -> Path:
    """The file: in a folder that is named, it has the spec's name."""
    if output is None:
        return Path(name)
    return output / name if output.is_dir() else output


def _write(
    path: Path,
    source: Source,
    format: Format,
    batch: int | None,
    filters: Filters,
    end_to_end: bool,
) -> Written:
    if format == "safetensors":
        return write_safetensors(path, source)
    plain = plain_model(source.model, source.resolved, filters)
    if end_to_end:
        plain = EndToEnd(plain, source.mean, source.std).eval().requires_grad_(False)
    write = write_onnx if format == "onnx" else write_torch
    return write(path, source, plain, batch)


def _as_pixels(images: Tensor, source: Source) -> Tensor:
    mean, std = (values.view(-1, 1, 1) for values in (source.mean, source.std))
    return (images * std + mean) * 255


def _feed(source: Source, format: Format, end_to_end: bool, batch: int | None) -> str:
    shape = source.resolved.spec.input
    count = len(source.class_names) or source.resolved.graph.output_shape.num_elements
    dims = f"[{batch or 'batch'}, {shape.channels}, {', '.join(map(str, shape.size))}]"
    if end_to_end:
        takes = f"float32 images {dims}, values from 0 to 255"
        return f"it takes {takes}, and gives probabilities of {count:,} classes"
    mean, std = (
        "/".join(f"{value:.4g}" for value in values.tolist())
        for values in (source.mean, source.std)
    )
    takes = f"float32 images {dims}, values / 255, less mean {mean}, over std {std}"
    if format == "safetensors":
        takes += " (`normalize` of what nifbuild.load gives)"
    return f"it takes {takes}, and gives logits of {count:,} classes"


def _logits(source: Source, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = source.model(images)
    return logits


def _require_same(difference: float, largest: float, path: Path, written: Written) -> None:
    limit = TOLERANCE * max(1.0, largest)
    if not difference <= limit:  # nor for NaN
        what = f"{written.facts['checked_with']} differs from the model by {difference:.1e}, "
        what += f"and {limit:.1e} is allowed; {path} is not written"
        fix = "try the other one of --filters dft and --filters conv"
        raise RunError(Problem(what, fix=fix, code="difference"))
