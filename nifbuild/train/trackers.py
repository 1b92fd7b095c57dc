"""TensorBoard and Weights & Biases, through Accelerate's trackers."""

import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.canonical import settings

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

_LAYOUT = {
    "training": {
        "loss": ["Multiline", ["loss/train", "loss/validation", "loss/test"]],
        "top-1": ["Multiline", ["top1/train", "top1/validation", "top1/test"]],
    }
}
"""Of TensorBoard's page of custom scalars: training and validation in one picture."""

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "nifbuild[wandb]"}


def require_trackers(names: Sequence[str]) -> None:
    """Raises SpecError that says how to install a tracker that is missing."""
    problems = [
        Problem(
            f"'{name}' is not installed",
            path="train.trackers",
            fix=f"pip install '{_PACKAGES[name]}', or leave it out of train.trackers",
            code="not-installed",
        )
        for name in names
        if importlib.util.find_spec(name) is None
    ]
    if problems:
        raise SpecError(problems)


@contextmanager
def trackers_on(
    accelerator: Accelerator, names: Sequence[str], run: RunDirectory, step: int
) -> Iterator[None]:
    """Lets `accelerator.log` reach the trackers, on the first process, while entered.

    Args:
        accelerator: Of the run.
        names: As in the spec.
        run: Where they write.
        step: The step after which figures come. TensorBoard drops later ones of an earlier start.

    Raises:
        RunError: If one does not start, as without a login, or cannot write.
    """
    accelerator.log_with = _made(names, run, step) if accelerator.is_main_process else []
    with _writer_threads_quiet():
        with run.writing():
            _start(accelerator, names)
        try:
            yield
        except BaseException:
            # What cannot be written may be the reason to leave: it must not hide it.
            with suppress(OSError):
                _finish(accelerator)
            raise
        with run.writing():
            _finish(accelerator)


def tracked_figures(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an epoch's line of `metrics.jsonl` by the names that trackers know them by.

    What belongs into one picture has the same first word.
    """
    names = {
        "loss/train": "train_loss",
        "top1/train": "train_top1",
        "speed/images_per_second": "train_images_per_second",
        "speed/data_wait_share": "data_wait_share",
        "lr": "lr",
    }
    if "split" in line:
        evaluated = ("loss", "top1", "top5", "miou")
        names |= {f"{name}/{line['split']}": name for name in evaluated if name in line}
    return {name: line[key] for name, key in names.items() if line[key] is not None}


def tell_spec(accelerator: Accelerator, resolved: "Resolved", run: RunDirectory) -> None:
    """Tells the trackers what is trained: the spec as text, and its values."""
    with run.writing():
        for tracker in accelerator.trackers:
            if isinstance(tracker, TensorBoardTracker):
                tracker.writer.add_text("spec", f"```yaml\n{resolved.text}```")
                tracker.writer.add_custom_scalars(_LAYOUT)
            else:
                tracker.store_init_configuration(settings(resolved.spec))


def tell_result(
    accelerator: Accelerator, resolved: "Resolved", run: RunDirectory, result: Mapping[str, Any]
) -> None:
    """Tells them the final figures of a run: its `metrics.json`."""
    names = ("top1", "top5", "miou", "loss", "calibration_error")
    figures = {f"final/{name}": result[name] for name in names if name in result}
    values = {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in settings(resolved.spec).items()
    }
    with run.writing():
        for tracker in accelerator.trackers:
            if isinstance(tracker, TensorBoardTracker):
                # Beside the other events: in a folder of its own it would be a run of its own.
                tracker.writer.add_hparams(
                    values, figures, run_name=".", global_step=result["step"]
                )
            else:
                tracker.log(figures)


def _made(names: Sequence[str], run: RunDirectory, step: int) -> list[GeneralTracker]:
    trackers: list[GeneralTracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoardTracker("tensorboard", run.path, purge_step=step + 1))
    if "wandb" in names:
        trackers.append(WandBTracker("nifbuild", name=run.path.name, dir=str(run.path)))
    return trackers


def _start(accelerator: Accelerator, names: Sequence[str]) -> None:
    try:
        accelerator.init_trackers("nifbuild")
    except OSError:  # a full disk is no fault of the tracker
        accelerator.trackers.clear()
        raise
    except Exception as error:
        accelerator.trackers.clear()  # those that did not start cannot be finished
        fix = "leave it out of train.trackers"
        if "wandb" in names:
            fix = f"log in with `wandb login`, set WANDB_MODE=offline, or {fix}"
        what = f"{' or '.join(names)} did not start: {error}"
        raise RunError(Problem(what, path="train.trackers", fix=fix, code="tracker")) from error


def _finish(accelerator: Accelerator) -> None:
    trackers, accelerator.trackers = accelerator.trackers, []
    for tracker in trackers:
        tracker.finish()


@contextmanager
def _writer_threads_quiet() -> Iterator[None]:
    """TensorBoard writes in a thread, and raises its failure again where `log` is called."""
    previous = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, OSError):
            previous(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous
