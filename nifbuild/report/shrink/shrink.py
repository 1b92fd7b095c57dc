"""A run with filters as large as the image becomes one with small ordinary convolutions."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from nifbuild.errors import InterruptedRun, Mark, Problem, SpecError
from nifbuild.evaluate.evaluator import Evaluator, chosen_split, evaluator_on
from nifbuild.geometry import Boundary
from nifbuild.machine.progress import Reporter
from nifbuild.report.kernels import layer_kernels
from nifbuild.report.show.units import percent_text
from nifbuild.report.shrink.changes import Cut, compare_speed, measure_changes
from nifbuild.report.shrink.ordinary import Ordinary, as_ordinary, ordinary_model
from nifbuild.report.shrink.request import ShrinkRequest
from nifbuild.report.shrink.result import Finetuned, LayerResult, ShrinkResult, Side
from nifbuild.report.shrink.windows import LayerWindows, Trial, critical_masses, smallest_mass
from nifbuild.report.shrink.write import holds_cut, is_cut, write_run
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel, load_run
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.run import train_run

_MEASURED_IMAGES = 32
"""Images on which the change of layers and the speed are measured."""


def shrink_run(request: ShrinkRequest, report: Reporter | None = None) -> ShrinkResult:
    """Cuts the filters of a run to windows, and writes the result as a run of its own.

    The new run's spec has, under the same names, a convolution with the filters of each layer and
    the layer's 1x1 behind it. Its weights are those of plain `torch.nn.Conv2d` modules. Where the
    training after the cut was interrupted, the same request goes on with it.

    Args:
        request: What to cut, and how small.
        report: Hears of the progress; None: nobody.

    Returns:
        The windows, and what they change in outputs, accuracy, parameters and speed.

    Raises:
        SpecError: The run is none, is not complete, or has no filters to cut.
        RunError: A file is damaged, or the accuracy cannot be kept.
    """
    report = report or Reporter()
    source = RunDirectory(request.run)
    source.require_complete()
    trained = load_run(source.path, checkpoint=request.checkpoint, data=request.data)
    out = request.out or Path("runs") / f"{trained.resolved.name}_shrunk"
    _require_suitable(source.path, out, request)
    target = RunDirectory(out)
    _require_free(target, request)
    if request.size is not None:
        trained = replace(trained, resolved=_at_size(request, request.size))
    shape = trained.resolved.spec.input
    layers = [
        LayerWindows.of(k) for k in layer_kernels(trained.model, (shape.channels, *shape.size))
    ]
    _require_cuttable(layers, trained.resolved, request)
    work = _Work(request, trained, layers)
    with ExitStack() as stack:
        stack.callback(report.close)
        stack.enter_context(target.locked())  # what cannot be written is found out now
        goes_on = _require_free(target, request)  # nobody else has written a run meanwhile
        with evaluator_on(
            trained,
            source,
            data=request.data,
            device=request.device,
            batch_size=request.batch_size,
            report=report,
        ) as evaluator:
            result, resolved, model = work.measured(evaluator)
            images = evaluator.images
        if goes_on and not is_cut(target, resolved, model):
            _require_none(target, overwrite=False)
        if not goes_on:
            overwrite = request.overwrite
            write_run(target, source, trained, resolved, model, result, images, overwrite=overwrite)
        if request.finetune_epochs:
            result = replace(result, finetuned=_finetuned(request, out, goes_on, report))
            target.record_shrinking(result.document())
    return result


def _require_free(target: RunDirectory, request: ShrinkRequest) -> bool:
    """Raises SpecError where a run is in the way; says whether it may be trained on instead."""
    goes_on = bool(request.finetune_epochs) and not request.overwrite and holds_cut(target)
    if not goes_on:
        _require_none(target, overwrite=request.overwrite)
    return goes_on


def _require_none(target: RunDirectory, *, overwrite: bool) -> None:
    try:
        target.require_free(overwrite=overwrite)
    except SpecError as error:
        if error.problems[0].code == "run-exists":  # its fix is that of training
            fix = "--out DIR writes elsewhere\n--overwrite deletes it and starts anew"
            raise SpecError(replace(error.problems[0], fix=fix)) from error
        raise


@dataclass(frozen=True)
class _Work:
    """The layers of a model that are to be cut."""

    request: ShrinkRequest
    trained: TrainedModel
    layers: list[LayerWindows]

    def measured(self, evaluator: Evaluator) -> tuple[ShrinkResult, Resolved, nn.Module]:
        """The result, and the spec and model that it is about."""
        split = chosen_split(None, evaluator.images.splits)
        before = evaluator.figures(self.trained.model, split)
        windows, trials = self._windows(evaluator)
        ordinary = self._ordinary(windows)
        resolved, model = self._model(ordinary)
        after = evaluator.figures(model, split)
        images = evaluator.inputs(split, _MEASURED_IMAGES)
        changes = measure_changes(self.trained.model, model, self._cuts(windows), images)
        speed = compare_speed(self.trained.model, model, images)
        rows = tuple(
            LayerResult.of(layer, windows[path], ordinary[path].kernel_size, changes[path])
            for layer in self.layers
            for path in [layer.kernels.path]
        )
        result = ShrinkResult(
            name=resolved.name,
            run=self.request.run,
            out=self.request.out or Path("runs") / resolved.name,
            size=resolved.spec.input.size,
            split=split,
            layers=rows,
            trials=tuple(trials),
            before=Side.of(self.trained.model, before),
            after=Side.of(model, after),
            speed=speed,
        )
        return result, resolved, model

    def _windows(self, evaluator: Evaluator) -> tuple[dict[str, int], list[Trial]]:
        request = self.request
        if request.kernel_size is not None:
            size = request.kernel_size
            return {layer.kernels.path: layer.within(size) for layer in self.layers}, []
        if request.mass is not None:
            return self._keeping(request.mass), []
        assert request.max_drop is not None
        if "validation" not in evaluator.images.splits:
            raise SpecError(
                Problem(
                    "the run has no validation images to judge by",
                    Mark("--max-drop"),
                    fix="use --mass or --kernel-size, or train with data.validation above 0",
                    code="no-split",
                )
            )
        mass, trials = smallest_mass(
            critical_masses(self.layers),
            lambda mass: self._accuracy(mass, evaluator),
            evaluator.figures(self.trained.model, "validation").top1,
            request.max_drop,
        )
        return self._keeping(mass), trials

    def _keeping(self, mass: float) -> dict[str, int]:
        return {layer.kernels.path: layer.smallest(mass) for layer in self.layers}

    def _boundary(self, layer: LayerWindows) -> Boundary:
        return self.request.boundary or layer.kernels.layer.boundary

    def _accuracy(self, mass: float, evaluator: Evaluator) -> float:
        model = self._model(self._ordinary(self._keeping(mass)))[1]
        top1 = evaluator.figures(model, "validation").top1
        evaluator.report.note(
            f"with {percent_text(mass, 1)} of the filters: {percent_text(top1)} on validation"
        )
        return top1

    def _ordinary(self, windows: Mapping[str, int]) -> dict[str, Ordinary]:
        fields = conv_fields(self.trained.resolved)
        return {
            path: as_ordinary(layer.kernels, fields[path], windows[path], self._boundary(layer))
            for layer in self.layers
            for path in [layer.kernels.path]
        }

    def _model(self, ordinary: Mapping[str, Ordinary]) -> tuple[Resolved, nn.Module]:
        name = f"{self.trained.resolved.name}_shrunk"
        return ordinary_model(self.trained.model, self.trained.resolved, ordinary, name)

    def _cuts(self, windows: Mapping[str, int]) -> dict[str, Cut]:
        fields = conv_fields(self.trained.resolved)
        return {
            path: layer.cut(windows[path], fields[path], self._boundary(layer))
            for layer in self.layers
            for path in [layer.kernels.path]
        }


def conv_fields(resolved: Resolved) -> dict[str, ConvFields]:
    """What the spec says of each convolution, by the module's name."""
    return {node.path: node.op for node in resolved.graph.nodes if isinstance(node.op, ConvFields)}


def _at_size(request: ShrinkRequest, size: tuple[int, int]) -> Resolved:
    overrides = size_overrides(size, has_data=True)
    return load_spec(RunDirectory(request.run).spec, data=request.data, overrides=overrides)


def _require_suitable(source: Path, out: Path, request: ShrinkRequest) -> None:
    what, code = "", "option"
    if out.resolve() == source.resolve():
        what, code = f"{out} is the run that is cut", "same-run"
    elif request.finetune_epochs and "$" in str(out):
        what = f"training cannot start from {out}: in a spec, $ begins the name of a variable"
    if what:
        fix = "write elsewhere: --out DIR"
        raise SpecError(Problem(what, Mark("--out"), fix=fix, code=code))


def _require_cuttable(
    layers: list[LayerWindows], resolved: Resolved, request: ShrinkRequest
) -> None:
    if not layers:
        what = f"{resolved.name} has no filters as large as the image: there is nothing to cut"
        fix = "name a run with convolutions of `kind: implicit_frequency`"
        raise SpecError(Problem(what, path="model", fix=fix, code="no-layers"))
    largest = max(layer.sizes[-1] for layer in layers)
    if request.kernel_size is not None and request.kernel_size > largest:
        what = f"a window of {request.kernel_size} is larger than the grid of every layer"
        fix = f"give {largest} at most, which covers the largest grid"
        raise SpecError(
            Problem(what, Mark(f"--kernel-size {request.kernel_size}"), fix=fix, code="window")
        )


def _finetuned(request: ShrinkRequest, out: Path, goes_on: bool, report: Reporter) -> Finetuned:
    run = RunDirectory(out)
    epochs = request.finetune_epochs
    overrides = [
        f"train.epochs={epochs}",
        f"train.init={{from: {json.dumps(str(out))}}}",
        *request.overrides,
    ]
    resolved = load_spec(run.spec, overrides=overrides)
    try:
        figures: dict[str, Any] = train_run(
            resolved,
            out / "finetuned",
            resume=goes_on,
            overwrite=request.overwrite,
            report=report,
        )
    except InterruptedRun as error:
        problem = replace(error.problems[0], fix="the same command again goes on exactly there")
        raise InterruptedRun(problem, error.exit_code - 128) from error
    return Finetuned(epochs, figures["top1"], figures["loss"], Path(figures["directory"]))
