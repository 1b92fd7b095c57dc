"""A model is written to a file, and the file checked before it is called done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nifbuild.errors import Mark, Problem, RunError, SpecError, shown
from nifbuild.evaluate.sizes import parse_one_size
from nifbuild.machine.progress import Reporter
from nifbuild.report.export.formats import (
    Written,
    require_packages,
    write_onnx,
    write_safetensors,
    write_torch,
)
from nifbuild.report.export.plain import Filters, plain_model
from nifbuild.report.export.source import Source, open_source
from nifbuild.report.output_file import require_files, written_file
from nifbuild.report.show.units import mebibytes, shape_text
from nifbuild.runs.loaded import Which

Format = Literal["onnx", "torch", "safetensors"]

TOLERANCE = 1e-4
"""What outputs may differ by, over the largest output where that is above 1."""

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
_CHECKED_IMAGES = 8
_OPTION = "--output"


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        source: A run directory, or a spec.
        format: Of the file.
        output: The file; None: the spec's name in the working directory.
        overwrite: Replace the file that is there.
        size: Height and width of the images; None: the spec's.
        batch: Images at once; None: any number.
        filters: How filters as large as the image are written.
        checkpoint: See `load_run`.
        data: A spec file whose `data` section takes the place of the source's.
    """

    source: Path
    format: Format
    output: Path | None = None
    overwrite: bool = False
    size: tuple[int, int] | None = None
    batch: int | None = None
    filters: Filters = "auto"
    checkpoint: Which = "selected"
    data: Path | None = None


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
            f"at most, where outputs reach {self.largest_output:.3g} ({self.checked_on})"
        )


def read_request(
    source: Path,
    *,
    format: Format,
    output: Path | None,
    overwrite: bool,
    size: str | None,
    batch: str | None,
    filters: Filters | None,
    checkpoint: Which,
    data: Path | None,
) -> ExportRequest:
    """The request that a command line makes.

    Raises:
        SpecError: An option is wrong, or has no effect on this format.
    """
    if format == "safetensors":
        given = {"--size": size, "--batch": batch, "--filters": filters}
        for flag, value in given.items():
            if value is not None:
                what = "it has no effect on --format safetensors, which has the weights alone"
                raise SpecError(Problem(what, Mark(flag), fix=f"leave {flag} out", code="option"))
    return ExportRequest(
        source,
        format,
        output,
        overwrite,
        None if size is None else parse_one_size(size),
        None if batch in (None, "dynamic") else _batch(str(batch)),
        filters or "auto",
        checkpoint,
        data,
    )


def _batch(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        what, fix = f"'{text}' is no batch", "give a number of images, or dynamic"
        raise SpecError(Problem(what, Mark(f"--batch {text}"), fix=fix, code="option"))
    return int(text)


def export(request: ExportRequest, report: Reporter | None = None) -> Exported:
    """Writes the file, reads it back, and compares its outputs with the model's.

    Raises:
        SpecError: The source, an option or an installed package is wrong, or the file exists.
        RunError: The file cannot be written, or computes something else; it is then not there.
    """
    if request.format == "onnx":
        require_packages()
    source = open_source(request.source, request.size, request.checkpoint, request.data)
    return export_source(source, request, report)


def export_source(
    source: Source, request: ExportRequest, report: Reporter | None = None
) -> Exported:
    """As `export`, for a model that is at hand."""
    report = report or Reporter()
    path = request.output or Path(f"{source.resolved.name}{_SUFFIXES[request.format]}")
    require_files(_OPTION, [path], overwrite=request.overwrite)
    count = request.batch or _CHECKED_IMAGES
    images, checked_on = source.inputs(count, request.data, report)
    report.note(f"writing {path}, which may take a minute for a deep network")
    with written_file(_OPTION, path, overwrite=request.overwrite) as writing:
        written = _write(writing, source, request)
        expected = _logits(source, images)
        # Of any number: a batch that the exporter has not seen, too.
        parts = [images] if request.batch else [images, images[:1]]
        difference = max(
            float((written.run(part) - expected[: len(part)]).abs().max()) for part in parts
        )
        largest = float(expected.abs().max())
        _require_same(difference, largest, path, written)
        file_bytes = sum(file.stat().st_size for file in writing.parent.iterdir())
    shape = source.resolved.spec.input
    return Exported(
        path=path,
        format=request.format,
        name=source.resolved.name,
        input_shape=(request.batch, shape.channels, *shape.size),
        file_bytes=file_bytes,
        filters=None if request.format == "safetensors" else request.filters,
        difference=difference,
        largest_output=largest,
        checked_on=checked_on,
        facts=written.facts,
    )


def _write(path: Path, source: Source, request: ExportRequest) -> Written:
    if request.format == "safetensors":
        return write_safetensors(path, source)
    plain = plain_model(source.model, source.resolved, request.filters)
    write = write_onnx if request.format == "onnx" else write_torch
    return write(path, source, plain, request.batch)


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
