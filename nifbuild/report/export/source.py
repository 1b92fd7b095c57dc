"""The model that is exported, and inputs to check the files with."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nifbuild.compile import leave_out_auxiliary
from nifbuild.errors import Problem, SpecError
from nifbuild.evaluate.evaluator import chosen_split, evaluator_on
from nifbuild.machine.options import AnyPath, Which
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel, load_run
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.initial_weights import fresh_model


@dataclass(frozen=True)
class Source:
    """A model, on the CPU and in eval mode.

    Attributes:
        model: With its weights.
        resolved: Its spec, for images of the size that is exported.
        class_names: Empty for a spec.
        mean: Of each channel; 0 for a spec.
        std: Of each channel; 1 for a spec.
        run: The run that it comes from.
    """

    model: nn.Module
    resolved: Resolved
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    run: TrainedModel | None = None

    def inputs(self, count: int, data: AnyPath | None, report: Reporter) -> tuple[Tensor, str]:
        """Images as the model takes them, and what they are.

        A run gives the first ones of the split that its figures are of, again from the first where
        there are too few; a spec gives normal noise, which has the mean and the variance of
        normalised images.
        """
        if self.run is None:
            shape = self.resolved.spec.input
            generator = torch.Generator().manual_seed(0)
            size = (count, shape.channels, *shape.size)
            return torch.randn(size, generator=generator), f"{count} images of noise"
        trained = replace(self.run, resolved=self.resolved)
        run = RunDirectory(self.run.checkpoint.parents[1])
        with evaluator_on(trained, run, data=data, device="cpu", report=report) as evaluator:
            split = chosen_split(None, evaluator.images.splits)
            images = evaluator.inputs(split, count)
        repeats = -(-count // len(images))
        return images.repeat(repeats, 1, 1, 1)[:count], f"{count} images of {split}"


def open_source(
    path: Path, size: tuple[int, int] | None, checkpoint: Which, data: AnyPath | None
) -> Source:
    """The model of a run directory, or of a spec with the weights that training would start from.

    Raises:
        SpecError: `path` is neither, or the run is not complete.
        RunError: A file is damaged.
    """
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        resolved = load_spec(path, data=data)
        if size is not None:
            overrides = size_overrides(size, resolved.spec.data is not None)
            resolved = load_spec(path, data=data, overrides=overrides)
        channels = resolved.spec.input.channels
        statistics = torch.zeros(channels), torch.ones(channels)
        model = fresh_model(resolved).eval()
        leave_out_auxiliary(model)
        return Source(model, resolved.without_auxiliary(), (), *statistics)
    run = RunDirectory(path)
    if path.is_file():
        what = f"{path} is neither a run directory nor a YAML spec"
        fix = "name a directory that `nifbuild train` has written, such as runs/resnet18"
        raise SpecError(Problem(what, fix=fix, code="no-run"))
    run.require_complete()
    trained = load_run(path, checkpoint=checkpoint)  # what the file tells of is what was trained
    resolved = trained.resolved
    if size is not None:
        overrides = size_overrides(size, has_data=True)
        resolved = load_spec(run.spec, overrides=overrides).without_auxiliary()
    names, mean, std = trained.class_names, trained.mean, trained.std
    return Source(trained.model, resolved, names, mean, std, trained)
