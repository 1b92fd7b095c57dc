"""The models that are set side by side: the trained one, it before training, and another run's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from nifbuild.errors import Mark, NifbuildError, Problem, RunError, SpecError
from nifbuild.machine.options import AnyPath, Which
from nifbuild.nn import GlobalConv2d
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel, load_run
from nifbuild.spec.graph import Graph, lower
from nifbuild.spec.ops import Shape
from nifbuild.spec.ops.global_conv import GlobalConv
from nifbuild.spec.resolve import load_spec
from nifbuild.train.initial_weights import fresh_model, read_pretrained

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


@dataclass(frozen=True)
class Subject:
    """A model to analyse, and the images that it takes.

    Attributes:
        model: In eval mode, on the CPU.
        graph: Its nodes, for images of `size`.
        channels: Of the images.
        size: Their height and width.
    """

    model: nn.Module
    graph: Graph
    channels: int
    size: tuple[int, int]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (self.channels, *self.size)


def trained_subject(
    trained: TrainedModel, wanted: tuple[int, int] | None, flag: str = ""
) -> Subject:
    """A run's model, with images of the size that is wanted; None: that of the run.

    Raises:
        SpecError: No filter of it is as large as the image, or it takes no images of that size.
    """
    resolved = trained.resolved
    if not any(isinstance(module, GlobalConv2d) for module in trained.model.modules()):
        raise SpecError(
            Problem(
                f"no filter of {resolved.name} is as large as the image: there is no size to find",
                where=Mark(flag) if flag else None,
                fix="analyse a run with a conv of `kind: implicit_frequency`, `free_frequency` or"
                " `implicit_spatial`; of the others the kernel_size says all",
                code="no-filters",
            )
        )
    size = wanted or resolved.spec.input.size
    graph = resolved.graph if wanted is None else _graph_at(resolved, size)
    return Subject(trained.model, graph, resolved.spec.input.channels, size)


def initial_subject(
    run: RunDirectory, trained: TrainedModel, subject: Subject
) -> tuple[Subject | None, str]:
    """The model as training began; or None, and why it cannot be told.

    Raises:
        RunError: The run is damaged.
    """
    resolved = load_spec(run.spec)  # with auxiliary heads, which what it started from may have
    try:
        pretrained = read_pretrained(resolved)
    except NifbuildError as error:
        found = error.problems[0].what
        return None, f"without the weights that the run started from, no comparison: {found}"
    started_from = run.progress(trained.checkpoint)["identity"].get("init")
    if pretrained is not None and pretrained.fingerprint != started_from:
        return None, f"{pretrained.file} has changed since the run started from it: no comparison"
    model = fresh_model(resolved, pretrained).eval()
    return Subject(model, subject.graph, subject.channels, subject.size), ""


def other_subject(
    directory: AnyPath, size: tuple[int, int] | None, checkpoint: Which, subject: Subject
) -> Subject:
    """The model of the run that `--against` names.

    Raises:
        SpecError: It is no run, or none of its layers has the name of one here.
        RunError: It is damaged.
    """
    flag = f"--against {directory}"
    try:
        trained = load_run(directory, checkpoint=checkpoint)
    except (SpecError, RunError) as error:
        raise type(error)(
            Problem(p.what, p.where or Mark(flag), p.path, p.fix, p.code) for p in error.problems
        ) from error
    other = trained_subject(trained, size, flag)
    here, there = filter_paths(subject), filter_paths(other)
    if not set(here) & set(there):
        raise SpecError(
            Problem(
                "none of its layers has the name of one of this run's",
                where=Mark(flag),
                fix=f"here: {_listed(here)}\nthere: {_listed(there)}",
                code="no-common-layer",
            )
        )
    return other


def filter_paths(subject: Subject) -> list[str]:
    """The layers with filters as large as the image, in the order of the spec."""
    return [node.path for node in subject.graph.nodes if isinstance(node.op, GlobalConv)]


def _graph_at(resolved: "Resolved", size: tuple[int, int]) -> Graph:
    """The nodes for images of another size.

    Raises:
        SpecError: The model takes none of that size.
    """
    flag = f"--size {size[0]}x{size[1]}"
    try:
        shape = Shape(resolved.spec.input.channels, size)
        graph = lower(resolved.spec.model, shape, resolved.tree)
    except SpecError as error:
        raise SpecError(
            Problem(p.what, Mark(flag), p.path, p.fix, p.code) for p in error.problems
        ) from error
    for before, after in zip(resolved.graph.nodes, graph.nodes, strict=True):
        for had, has in zip(before.input_shapes, after.input_shapes, strict=True):
            if had.channels != has.channels:
                what = f"takes {had.channels} channels, and would have {has.channels} at this size"
                fix = "a model that pools over the image before it flattens takes any size"
                raise SpecError(Problem(what, Mark(flag), after.path, fix, "size"))
    return graph


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
