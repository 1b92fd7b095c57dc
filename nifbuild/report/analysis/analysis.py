"""What a run has learned about the size of filters, beside what it started from."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from nifbuild.data import Preprocess, open_data
from nifbuild.data.decode import colours
from nifbuild.errors import SpecError
from nifbuild.evaluate.evaluator import hint_at_directory
from nifbuild.machine import MAKER
from nifbuild.machine.device import resolve_device
from nifbuild.machine.options import AnyPath, Which
from nifbuild.machine.processes import own_cores
from nifbuild.report.analysis.compared_models import (
    Subject,
    filter_paths,
    initial_subject,
    other_subject,
    trained_subject,
)
from nifbuild.report.analysis.components import (
    Components,
    Sample,
    choose_samples,
    measure_components,
)
from nifbuild.report.analysis.filters import FilterFigures, measure_filters
from nifbuild.report.analysis.receptive_field import (
    ReceptiveField,
    measure_receptive_fields,
    stage_ends,
)
from nifbuild.report.filter_windows import layer_kernels
from nifbuild.report.show.units import shape_text
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel, load_run
from nifbuild.spec.augment import Augment
from nifbuild.spec.common_data import Limit
from nifbuild.spec.splits import final_split

NAMES = {"trained": "trained", "initial": "at initialisation", "against": "other run"}
"""What readers call the models of an analysis."""

SCHEMA_VERSION = 1
_BATCH = 8

Images = list[Float[Tensor, "batch channels height width"]]
Show = Callable[[str], None]
"""Hears what is being done."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of one model.

    Attributes:
        layers: Of each layer's filters, in the order in which the layers are applied.
        grids: Of all filters that see the same grid.
        components: Of these, too.
        samples: Some kernels of each layer.
        receptive_fields: Of each stage; empty where no images were asked for.
    """

    layers: tuple[FilterFigures, ...]
    grids: tuple[FilterFigures, ...]
    components: tuple[Components, ...]
    samples: tuple[Sample, ...]
    receptive_fields: tuple[ReceptiveField, ...]

    def layer(self, path: str) -> FilterFigures | None:
        """The figures of a layer, if this model has it."""
        return next((layer for layer in self.layers if layer.paths == (path,)), None)

    def grid(self, size: tuple[int, int]) -> FilterFigures | None:
        """The figures of all filters that see this grid."""
        return next((grid for grid in self.grids if grid.grid == size), None)

    def receptive_field(self, path: str) -> ReceptiveField | None:
        """That of a stage, if this model has it."""
        return next((field for field in self.receptive_fields if field.path == path), None)


@dataclass(frozen=True)
class Analysis:
    """All that is said about a run.

    Attributes:
        name: That of its spec.
        directory: Where it lies.
        checkpoint: The weights that were analysed.
        step: Optimizer steps after which they were saved.
        size: Height and width of the images.
        shares: For which effective sizes are given.
        kinds: The `kind` of each layer.
        models: `trained`; `initial`, where it can be told; and `against`, where one was named.
        against: The directory of that one.
        notes: What one has to know to read the figures.
        page: Where it is told with plots, once it is written.
    """

    name: str
    directory: str
    checkpoint: str
    step: int
    size: tuple[int, int]
    shares: tuple[float, ...]
    kinds: dict[str, str]
    models: dict[str, ModelFigures]
    against: str | None
    notes: tuple[str, ...]
    page: Path | None = None

    @property
    def trained(self) -> ModelFigures:
        """The run's own model."""
        return self.models["trained"]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "generator": MAKER,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "directory": self.directory,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "against": self.against,
            "input_size": list(self.size),
            "shares": list(self.shares),
            "notes": list(self.notes),
            "layers": [self._layer_document(layer.paths[0]) for layer in self.trained.layers],
            "grids": [self._grid_document(grid) for grid in self.trained.grids],
            "receptive_fields": [
                self._field_document(field.path) for field in self.trained.receptive_fields
            ],
        }

    def _layer_document(self, path: str) -> dict[str, Any]:
        models = {name: model.layer(path) for name, model in self.models.items()}
        return {"path": path, "kind": self.kinds[path], **_documents(models)}

    def _grid_document(self, grid: FilterFigures) -> dict[str, Any]:
        models = {name: model.grid(grid.grid) for name, model in self.models.items()}
        components = {
            name: next((c for c in model.components if c.grid == grid.grid), None)
            for name, model in self.models.items()
        }
        return {
            "layers": list(grid.paths),
            **_documents(models),
            "components": _documents(components),
        }

    def _field_document(self, path: str) -> dict[str, Any]:
        models = {name: model.receptive_field(path) for name, model in self.models.items()}
        return {"path": path, **_documents(models)}


class _Figures(Protocol):
    def as_document(self) -> dict[str, Any]: ...


def _documents(found: Mapping[str, _Figures | None]) -> dict[str, Any]:
    """Of each model; null for one that lacks it."""
    return {name: None if each is None else each.as_document() for name, each in found.items()}


def analyze_run(
    directory: AnyPath,
    *,
    against: AnyPath | None = None,
    size: tuple[int, int] | None = None,
    shares: tuple[float, ...] = (0.5, 0.9, 0.95),
    num_images: int = 0,
    checkpoint: Which = "selected",
    data: AnyPath | None = None,
    device: str | None = None,
    show: Show = lambda text: None,
) -> Analysis:
    """Measures what `analyze` tells of a run, which says what each of these is."""
    show("loading the run")
    run = RunDirectory(directory)
    trained = load_run(directory, checkpoint=checkpoint, data=data)
    subject = trained_subject(trained, size)
    subjects: dict[str, Subject] = {"trained": subject}
    notes = []
    if run.result() is None:
        notes.append(f"the run is not complete: its weights are those after step {trained.step}")
    initial, note = initial_subject(run, trained, subject)
    if initial is not None:
        subjects["initial"] = initial
    else:
        notes.append(note)
    if against is not None:
        subjects["against"] = other_subject(against, size, checkpoint, subject)
        notes += _differences(subject, subjects["against"])
    images: Images = []
    place = resolve_device(device or trained.resolved.spec.train.device)
    if num_images:
        show("reading images")
        images, found = _images(trained, run, data, subject, num_images)
        notes += found
    models = {}
    for name, each in subjects.items():
        show(f"measuring: {name}")
        fitting = images if each.input_shape == subject.input_shape else []
        models[name] = _measure(each, shares, fitting, place)
    return Analysis(
        name=trained.resolved.name,
        directory=os.fspath(directory),
        checkpoint=trained.checkpoint.name,
        step=trained.step,
        size=subject.size,
        shares=shares,
        kinds={node.path: getattr(node.op, "kind", "") for node in subject.graph.nodes},
        models=models,
        against=None if against is None else os.fspath(against),
        notes=tuple(notes),
    )


def _measure(
    subject: Subject, shares: tuple[float, ...], images: Images, device: torch.device
) -> ModelFigures:
    kernels = layer_kernels(subject.model, subject.input_shape)
    layers, grids = measure_filters(kernels, shares)
    fields: tuple[ReceptiveField, ...] = ()
    if images:
        subject.model.to(device)
        moved = (batch.to(device) for batch in images)
        stages = stage_ends(subject.graph)
        fields = measure_receptive_fields(subject.model, stages, moved, shares)
        subject.model.cpu()
    samples = choose_samples(kernels)
    return ModelFigures(layers, grids, measure_components(kernels), samples, fields)


def _differences(subject: Subject, other: Subject) -> list[str]:
    """What of two models is not compared."""
    here, there = filter_paths(subject), filter_paths(other)
    lacking = [path for path in here if path not in there]
    notes = []
    if lacking:
        notes.append(f"{len(lacking)} of {len(here)} layers have no counterpart in the other run")
    if other.input_shape != subject.input_shape:
        shapes = [shape_text(s.input_shape) for s in (subject, other)]
        text = f"the other run sees images of {shapes[1]} instead of {shapes[0]}"
        notes.append(f"{text}: its filters are measured on its own grids, its stages not at all")
    return notes


def _images(
    trained: TrainedModel, run: RunDirectory, other: AnyPath | None, subject: Subject, number: int
) -> tuple[Images, list[str]]:
    """Normalised images of the split that the run's final figures are of, drawn at random.

    With them, what one has to know of them.
    """
    spec = trained.resolved.spec.data
    if spec is None:
        fix = (
            "name a file that has some: --data FILE, or do without the receptive field: --images 0"
        )
        raise SpecError(f"{trained.resolved.name} has no data", fix=fix)
    limit = Limit(train=number, validation=number, test=number)
    with hint_at_directory(run if other is None else None):
        catalog = open_data(spec.model_copy(update={"limit": limit}))
    data = catalog.load(colours(subject.channels), subject.size, cores=own_cores())
    images = data.splits[final_split(catalog.sizes)]
    notes = []
    if other is not None:
        notes.append(f"receptive fields are measured on the data of {other}")
    elif catalog.fingerprint != run.data()["fingerprint"]:
        notes.append("receptive fields are of other images: the data has changed since the run")
    normalize = Preprocess(Augment(), catalog.num_classes, trained.mean, trained.std).eval
    return [normalize(batch["images"]) for batch in _batches(images, len(images))], notes


def _batches(images: Any, number: int) -> Iterator[Any]:
    for start in range(0, number, _BATCH):
        yield images.__getitems__(range(start, min(start + _BATCH, number)))
