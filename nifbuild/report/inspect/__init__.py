"""What a model costs before it is trained.

Reading order: `inspect` (what is asked), `inspection` (the figures), `prediction` (of
memory), `weightless` (the tensors that take up none), `targets` (devices and optimizers); then
`budget`, `compare`, `verify`, and how it looks: `folding`, `grids`. `result` and `several` are what
the command gets.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.machine.loading import loading
from nifbuild.machine.options import AnyPath, DataOption, OverwriteOption, SetOption, checked

if TYPE_CHECKING:
    from nifbuild.report.inspect.several import Several

SpecsArgument = Annotated[
    AnyPath | Sequence[AnyPath],
    typer.Argument(help="YAML specs; of several, the totals.", show_default=False),
]
BatchSizesOption = Annotated[
    str | int | list[int] | None,
    typer.Option(
        "--batch-size",
        metavar="N[,N...]",
        help="Images at once on one device; several, for one column each.",
        show_default="as the spec trains",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(
        help="Device to predict memory for; it need not be there. auto: the spec's, which is "
        "cuda unless it says cpu; with --verify what this machine has."
    ),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"] | None,
    typer.Option(help="Type of most activations, to predict for.", show_default="the spec's"),
]
OptimizerOption = Annotated[
    Literal["adamw", "adam", "nadam", "radam", "rmsprop", "adagrad", "lars", "lamb", "muon", "sgd"]
    | None,
    typer.Option(help="Optimizer whose state is counted.", show_default="the spec's"),
]
DeviceMemoryOption = Annotated[
    str | int | None,
    typer.Option(metavar="SIZE", help="Find the largest batch that fits, as in 24GiB."),
]
MaxParamsOption = Annotated[
    str | int | None, typer.Option(metavar="N", help="Budget of parameters, as in 12M.")
]
MaxMacsOption = Annotated[
    str | int | None, typer.Option(metavar="N", help="Budget of multiply-adds, as in 2G.")
]
MaxTrainMemoryOption = Annotated[
    str | int | None,
    typer.Option(metavar="SIZE", help="Budget of training memory, as in 8GiB."),
]
AgainstOption = Annotated[
    AnyPath | None,
    typer.Option(
        metavar="SPEC",
        help="Another spec, to be set side by side, on the same --data; --set is for the first.",
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Run real training steps and inference, and measure their peaks."
    ),
]
AugmentedOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--augmented",
        metavar="FILE",
        help="Draw training images, and versions of them as training will see them, to this "
        ".png, .svg or .pdf.",
    ),
]


@checked
def inspect(
    specs: SpecsArgument,
    *,
    data: DataOption = None,
    overrides: SetOption = (),
    batch_sizes: BatchSizesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = None,
    optimizer: OptimizerOption = None,
    device_memory: DeviceMemoryOption = None,
    max_params: MaxParamsOption = None,
    max_macs: MaxMacsOption = None,
    max_train_memory: MaxTrainMemoryOption = None,
    against: AgainstOption = None,
    verify: VerifyOption = False,
    augmented: AugmentedOption = None,
    overwrite: OverwriteOption = False,
) -> "Several":
    """Show what models cost before they are trained: parameters, multiply-adds, memory.

    The model is not allocated but with --verify. For a CPU, memory is that of this machine: what
    its libraries take is found by trying single convolutions. Exit code 3 if a budget is exceeded,
    by these options or the spec's `budget` section.

    Returns:
        What was found of each spec; what exceeds a budget, too.

    Raises:
        SpecError: A spec or an option is wrong, what is to be measured is not on this machine, no
            batch fits the device, or one is too small to be trained with.
        RunError: The picture cannot be drawn or written.
    """
    with loading():
        from nifbuild.data.counted_classes import load_counted
        from nifbuild.report.inspect.result import inspect_for
        from nifbuild.report.inspect.several import Several
        from nifbuild.report.inspect.targets import Target, optimizer_named
        from nifbuild.spec.budget import BudgetSpec, parse_bytes, parse_count

    paths = [specs] if isinstance(specs, str | os.PathLike) else list(specs)
    for flag, given in (("--against", against), ("--augmented", augmented)):
        if len(paths) > 1 and given is not None:
            raise SpecError(f"{flag} is for one spec, not several", fix="name one SPEC")
    if augmented is not None:
        with loading():
            from nifbuild.report.augmented_images import require_writable, save_augmented

        require_writable(Path(augmented), overwrite=overwrite)
    results = {}
    for path in paths:
        resolved = load_counted(path, data=data, overrides=overrides)
        target = Target.chosen(device, precision, resolved, verify=verify)
        results[str(path)] = inspect_for(
            target,
            resolved,
            other=None if against is None else load_counted(against, data=data),
            optimizer=optimizer_named(optimizer, resolved),
            batch_sizes=() if batch_sizes is None else _sizes(batch_sizes),
            device_memory=_amount("--device-memory", device_memory, parse_bytes),
            limits=BudgetSpec(
                max_params=_amount("--max-params", max_params, parse_count),
                max_macs=_amount("--max-macs", max_macs, parse_count),
                max_train_memory=_amount("--max-train-memory", max_train_memory, parse_bytes),
            ),
            verifies=verify,
            overrides=overrides,
        )
        if augmented is not None:
            save_augmented(resolved, Path(augmented), overwrite=overwrite)
    return Several(results)


def _sizes(given: str | int | list[int]) -> tuple[int, ...]:
    from nifbuild.spec.training import MAX_BATCH

    listed = given if isinstance(given, list) else str(given).split(",")
    words = [str(word).strip() for word in listed]
    most = len(str(MAX_BATCH))
    if not all(w.isdecimal() and len(w) <= most and 0 < int(w) <= MAX_BATCH for w in words):
        what = f"expected whole numbers from 1 to {MAX_BATCH:,}, got '{given}'"
        raise SpecError(Problem(what, Mark("--batch-size"), fix="as in --batch-size 1,32,256"))
    return tuple(dict.fromkeys(int(word) for word in words))


def _amount(flag: str, given: str | int | None, parse: Callable[[str], int]) -> int | None:
    if given is None or isinstance(given, int):
        return given
    try:
        return parse(given)
    except ValueError as error:
        raise SpecError(Problem(str(error), Mark(flag))) from None
