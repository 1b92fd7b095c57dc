"""A run with filters as large as the image becomes one with small ordinary convolutions."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from nifbuild.errors import InterruptedRun, Mark, Problem, SpecError
from nifbuild.evaluate.evaluator import Evaluator, chosen_split, evaluator_on
from nifbuild.geometry import Boundary
from nifbuild.machine.options import AnyPath, Which
from nifbuild.machine.progress import Reporter
from nifbuild.report.filter_windows import layer_kernels
from nifbuild.report.model_card import write_run_card
from nifbuild.report.show.units import percent_text
from nifbuild.report.shrink.changes import Cut, compare_speed, measure_changes
from nifbuild.report.shrink.ordinary import Ordinary, as_ordinary, ordinary_model
from nifbuild.report.shrink.result import Finetuned, LayerResult, ShrinkResult, Side
from nifbuild.report.shrink.shrunk_run import holds_cut, is_cut, write_run
from nifbuild.report.shrink.windows import (
    LayerWindows,
    Search,
    Smallness,
    critical_masses,
    smallest_mass,
)
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel, load_run, spec_of_run
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.run import train_run

_MEASURED_IMAGES = 32
"""Images on which the change of layers and the speed are measured."""


@dataclass(frozen=True)
class Finetuning:
    """Training after the cut.

    Attributes:
        epochs: For so long.
        overrides: Changes of the spec, such as `train.optimizer.lr=1e-4`.
    """

    epochs: int
    overrides: Sequence[str] = ()


def cut_run(
    directory: Path,
    smallness: Smallness,
    *,
    boundary: Boundary | None = None,
    size: tuple[int, int] | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    finetuning: Finetuning | None = None,
    checkpoint: Which = "selected",
    data: AnyPath | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter | None = None,
) -> ShrinkResult:
    """Does what `shrink` asks for, which says what each of these is.

    The new run's spec has, under the same names, a convolution with the filters of each layer and
    the layer's 1x1 behind it. Its weights are those of plain `torch.nn.Conv2d` modules.
    """
    report = report or Reporter()
    source = RunDirectory(directory)
    source.require_complete()
    trained = load_run(directory, checkpoint=checkpoint, data=data)
    beside = Path(directory).parent / f"{Path(directory).absolute().name}_shrunk"
    out = out or beside  # runs of one spec have results of their own
    _require_suitable(directory, out, finetuning)
    target = RunDirectory(out)
    _require_free(target, finetuning, overwrite)
    if size is not None:
        overrides = size_overrides(size, has_data=True)
        resolved = spec_of_run(source, data, overrides)
        trained = replace(trained, resolved=resolved)
    shape = trained.resolved.spec.input
    layers = [
        LayerWindows.of(k) for k in layer_kernels(trained.model, (shape.channels, *shape.size))
    ]
    _require_cuttable(layers, trained.resolved, smallness)
    if finetuning is not None:
        load_spec(source.spec, overrides=finetuning.overrides)  # what is wrong is told before a cut
    work = _Work(directory, out, trained, layers, smallness, boundary)
    with ExitStack() as stack:
        stack.callback(report.close)
        stack.enter_context(target.locked())  # what cannot be written is found out now
        goes_on = _require_free(
            target, finetuning, overwrite
        )  # nobody else has written a run meanwhile
        with evaluator_on(
            trained, source, data=data, device=device, batch_size=batch_size, report=report
        ) as evaluator:
            result, resolved, model = work.measured(evaluator)
            images = evaluator.images
        if goes_on and not is_cut(target, resolved, model):
            _require_none(target, overwrite=False)
        if not goes_on:
            write_run(
                target,
                source,
                trained,
                resolved,
                model,
                result,
                images,
                overwrite=overwrite,
                report=report,
            )
            write_run_card(target, report)
        if finetuning is not None:
            finetuned = _finetuned(finetuning, out, goes_on, overwrite, report)
            result = replace(result, finetuned=finetuned)
            target.record_shrinking(result.document())
    return result


def _require_free(target: RunDirectory, finetuning: Finetuning | None, overwrite: bool) -> bool:
    """Raises SpecError where a run is in the way; says whether it may be trained on instead."""
    goes_on = finetuning is not None and not overwrite and holds_cut(target)
    if not goes_on:
        _require_none(target, overwrite=overwrite)
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

    run: Path
    out: Path
    trained: TrainedModel
    layers: list[LayerWindows]
    smallness: Smallness
    boundary: Boundary | None

    def measured(self, evaluator: Evaluator) -> tuple[ShrinkResult, Resolved, nn.Module]:
        """The result, and the spec and model that it is about."""
        split = chosen_split(None, evaluator.images.splits)
        before = evaluator.figures(self.trained.model, split)
        windows, search = self._windows(evaluator)
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
            run=self.run,
            out=self.out,
            size=resolved.spec.input.size,
            split=split,
            layers=rows,
            search=search,
            before=Side.of(self.trained.model, before),
            after=Side.of(model, after),
            speed=speed,
        )
        return result, resolved, model

    def _windows(self, evaluator: Evaluator) -> tuple[dict[str, int], Search | None]:
        mass, size, max_drop = self.smallness
        if size is not None:
            return {layer.kernels.path: layer.within(size) for layer in self.layers}, None
        if mass is not None:
            return self._keeping(mass), None
        assert max_drop is not None
        if "validation" not in evaluator.images.splits:
            raise SpecError(
                Problem(
                    "the run has no validation images to judge by",
                    Mark("--max-drop"),
                    fix="use --mass or --kernel-size, or train with data.validation above 0",
                    code="no-split",
                )
            )
        count = len(evaluator.images.splits["validation"])
        if max_drop * count < 1:
            evaluator.report.warning(
                f"one of the {count} validation images is {percent_text(1 / count)}, more than "
                "--max-drop: what is kept loses none of them, which says little of others"
            )
        before = evaluator.figures(self.trained.model, "validation").top1
        mass, trials = smallest_mass(
            critical_masses(self.layers),
            lambda mass: self._accuracy(mass, evaluator),
            before,
            max_drop,
        )
        return self._keeping(mass), Search(before, tuple(trials))

    def _keeping(self, mass: float) -> dict[str, int]:
        return {layer.kernels.path: layer.smallest(mass) for layer in self.layers}

    def _boundary(self, layer: LayerWindows) -> Boundary:
        return self.boundary or layer.kernels.layer.boundary

    def _accuracy(self, mass: float, evaluator: Evaluator) -> float:
        model = self._model(self._ordinary(self._keeping(mass)))[1]
        top1 = evaluator.figures(model, "validation").top1
        evaluator.report.note(
            f"with {percent_text(mass, 1)} of the filters' mass: {percent_text(top1)} on validation"
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


def _require_suitable(source: Path, out: Path, finetuning: Finetuning | None) -> None:
    what, code = "", "option"
    if out.resolve() == source.resolve():
        what, code = f"{out} is the run that is cut", "same-run"
    elif finetuning is not None and "$" in str(out):
        what = f"training cannot start from {out}: in a spec, $ begins the name of a variable"
    if what:
        fix = "write elsewhere: --out DIR"
        raise SpecError(Problem(what, Mark("--out"), fix=fix, code=code))


def _require_cuttable(layers: list[LayerWindows], resolved: Resolved, smallness: Smallness) -> None:
    if not layers:
        what = f"{resolved.name} has no filters as large as the image: there is nothing to cut"
        fix = "name a run with convolutions of `kind: implicit_frequency`"
        raise SpecError(Problem(what, path="model", fix=fix, code="no-layers"))
    largest = max(layer.sizes[-1] for layer in layers)
    kernel_size = smallness.kernel_size
    if kernel_size is not None and kernel_size > largest:
        what = f"a window of {kernel_size} is larger than the grid of every layer"
        fix = f"give {largest} at most, which covers the largest grid"
        raise SpecError(Problem(what, Mark(f"--kernel-size {kernel_size}"), fix=fix, code="window"))


def _finetuned(
    finetuning: Finetuning, out: Path, goes_on: bool, overwrite: bool, report: Reporter
) -> Finetuned:
    run = RunDirectory(out)
    epochs = finetuning.epochs
    overrides = [
        f"train.epochs={epochs}",
        f"train.init={{from: {json.dumps(str(out))}}}",
        *finetuning.overrides,
    ]
    resolved = load_spec(run.spec, overrides=overrides)
    try:
        trained = train_run(
            resolved, out / "finetuned", resume=goes_on, overwrite=overwrite, report=report
        )
    except InterruptedRun as error:
        problem = replace(error.problems[0], fix="the same command again goes on exactly there")
        raise InterruptedRun(problem, error.exit_code - 128) from error
    write_run_card(RunDirectory(out / "finetuned"), report)
    return Finetuned(epochs, trained.top1, trained.loss, trained.directory)
