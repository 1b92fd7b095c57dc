"""The model card beside a file that was exported."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nifbuild.errors import RunError, shown
from nifbuild.machine.progress import Reporter
from nifbuild.machine.sealed_text import is_sealed, kept, write_sealed
from nifbuild.report.card_usage import file_usage, nifbuild_usage
from nifbuild.report.export.plain import EndToEnd, PlainModel
from nifbuild.report.export.source import Source
from nifbuild.report.model_card import ModelFacts, card_text, run_facts
from nifbuild.report.output_file import note_written
from nifbuild.report.side_by_side.recorded import told_settings
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.ownership import CARD
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.source import parse, plain


@dataclass(frozen=True)
class ExportedFile:
    """What a card says of a file.

    Attributes:
        path: The file.
        format: Of it.
        input_shape: Batch (None: any), channels, height and width.
        feed: What it takes and gives, in words.
        end_to_end: Whether it goes from pixels to probabilities.
    """

    path: Path
    format: Literal["onnx", "torch", "safetensors"]
    input_shape: tuple[int | None, int, int, int]
    feed: str
    end_to_end: bool


def card_beside(file: Path, output: Path | None) -> Path:
    """Where the card of a file lies: a folder that was named has one, as the hub wants it."""
    if output is not None and output != file:
        return output / CARD
    return file.with_name(f"{file.name}.md")


def write_card(
    card: Path, source: Source, file: ExportedFile, report: Reporter, *, overwrite: bool
) -> None:
    """Writes the card, unless there is one that is not to be replaced.

    One that people have written or changed never is. The file is there, whatever comes of this.
    """
    if is_sealed(card) and not overwrite:
        report.note(f"{card} stays as it is; --overwrite replaces it")
        return
    try:
        if write_sealed(card, card_text(_facts(source, file))):
            note_written(card)
        else:
            report.warning(kept(card))
    except (OSError, RunError) as error:
        reason = getattr(error, "strerror", None) or error
        report.warning(shown(f"the model card {card} could not be written: {reason}"))


def _facts(source: Source, file: ExportedFile) -> ModelFacts:
    is_per_pixel = source.resolved.graph.output_shape.is_image
    untrained = ModelFacts(
        name=source.resolved.name,
        settings=told_settings(plain(parse(source.resolved.text, "spec"))),
        spec=source.resolved.text,
        is_per_pixel=is_per_pixel,
        params=sum(weight.numel() for weight in source.model.parameters()),
        usage=_usage(source, file, is_per_pixel),
    )
    if source.run is None:
        return untrained
    checkpoint = source.run.checkpoint
    of_run = run_facts(RunDirectory(checkpoint.parents[1]))
    trained = replace(untrained, described=of_run.described, start=of_run.start)
    is_same = source.run.resolved.spec.input.size == source.resolved.spec.input.size
    if of_run.result is None or of_run.result["checkpoint"] != checkpoint.name or not is_same:
        return trained  # its figures are of other weights, or of images of another size
    return replace(trained, result=of_run.result, best=of_run.best)


def _usage(source: Source, file: ExportedFile, is_per_pixel: bool) -> str:
    name = file.path.name
    if file.format == "safetensors":
        return nifbuild_usage(name, is_per_pixel=is_per_pixel)
    return file_usage(
        name,
        file.feed,
        None if file.end_to_end else (source.mean, source.std),
        file.input_shape,
        source.resolved.spec.data or CommonData(),
        format=file.format,
        output=(EndToEnd if file.end_to_end else PlainModel).output,
        names_class=bool(source.class_names) and not is_per_pixel,
    )
