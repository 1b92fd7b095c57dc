"""TensorBoard, Weights & Biases, MLflow and others, through Accelerate's trackers."""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, TensorBoardTracker

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

_PACKAGES = {"wandb": "nifbuild[wandb]"}
"""What to install for a tracker, where that is not called as it is."""

_ACCESS = {
    "wandb": "log in with `wandb login`, set WANDB_MODE=offline",
    "mlflow": "look at MLFLOW_TRACKING_URI",
    "comet_ml": "log in with `comet login`",
    "clearml": "set it up with `clearml-init`, set CLEARML_OFFLINE_MODE=1",
    "swanlab": "log in with `swanlab login`, set SWANLAB_MODE=offline",
    "aim": "make a repository here with `aim init`",
}
"""What to do where a tracker does not find the place that it writes to."""

_PROJECT, _SPEC = "nifbuild", "spec.yaml"


def require_trackers(names: Sequence[str]) -> None:
    """Raises SpecError that says how to install the trackers that are missing."""
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    is_, it = ("is", "it") if len(missing) == 1 else ("are", "them")
    packages = " ".join(f"'{_PACKAGES.get(name, name)}'" for name in missing)
    raise SpecError(
        Problem(
            f"{', '.join(map(repr, missing))} {is_} not installed",
            path="train.trackers",
            fix=f"pip install {packages}, or leave {it} out of train.trackers",
            code="not-installed",
        )
    )


def _is_installed(name: str) -> bool:
    found = importlib.util.find_spec(name)
    # A folder of that name, as some trackers make in the working directory, is no package.
    return found is not None and found.origin is not None


@contextmanager
def trackers_on(
    accelerator: Accelerator, names: Sequence[str], run: RunDirectory, step: int
) -> Iterator[None]:
    """Has the trackers hear of what is told, on the first process, while entered.

    Args:
        accelerator: Of the run.
        names: As in the spec.
        run: Where they write.
        step: The step after which figures come. TensorBoard drops later ones of an earlier start.

    Raises:
        RunError: If one does not start, as without a login, or cannot write.
    """
    made = _made(names, run, step) if accelerator.is_main_process else []
    with _writer_threads_quiet():
        try:
            for tracker in made:
                with _asked(tracker, run, "did not start"):
                    tracker.start()
                accelerator.trackers.append(tracker)
            yield
        except BaseException:
            # What cannot be written may be the reason to leave: it must not hide it.
            with suppress(RunError):
                _finish(accelerator, run)
            raise
        _finish(accelerator, run)


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


def tell_figures(
    accelerator: Accelerator, run: RunDirectory, figures: Mapping[str, float], step: int
) -> None:
    """Tells the trackers figures of a step.

    Raises:
        RunError: One of them fails.
    """
    for tracker in accelerator.trackers:
        with _asked(tracker, run):
            tracker.log(dict(figures), step=step)


@contextmanager
def _asked(tracker: GeneralTracker, run: RunDirectory, what: str = "failed") -> Iterator[None]:
    """Turns what a tracker raises into one clear RunError."""
    is_ours = isinstance(tracker, TensorBoardTracker)  # it writes to the run, and nowhere else
    try:
        # What some of them say of themselves must not stand within what a command prints.
        with run.writing() if is_ours else redirect_stdout(sys.stderr):
            yield
    except RunError:
        raise
    except Exception as error:
        fix = "leave it out of train.trackers; --resume goes on from the last checkpoint, if any"
        if tracker.name in _ACCESS:
            fix = f"{_ACCESS[tracker.name]}, or {fix}"
        problem = f"{tracker.name} {what}: {error}"
        raise RunError(Problem(problem, path="train.trackers", fix=fix, code="tracker")) from error


def tell_spec(accelerator: Accelerator, resolved: "Resolved", run: RunDirectory) -> None:
    """Tells the trackers what is trained: the spec as text, and its values."""
    for tracker in accelerator.trackers:
        with _asked(tracker, run):
            if isinstance(tracker, TensorBoardTracker):
                tracker.writer.add_text("spec", f"```yaml\n{resolved.text}```")
                tracker.writer.add_custom_scalars(_LAYOUT)
            else:
                _tell_settings(tracker, resolved)


def _tell_settings(tracker: GeneralTracker, resolved: "Resolved") -> None:
    values = settings(resolved.spec)
    if tracker.name == "mlflow":  # its values, and Comet's, hold no text as long as a spec
        importlib.import_module("mlflow").log_text(resolved.text, _SPEC)
    elif tracker.name == "comet_ml":
        tracker.tracker.log_asset_data(resolved.text, name=_SPEC)
    else:
        values["spec"] = resolved.text
    tracker.store_init_configuration(values)


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
    for tracker in accelerator.trackers:
        with _asked(tracker, run):
            if isinstance(tracker, TensorBoardTracker):
                # Beside the other events: in a folder of its own it would be a run of its own.
                tracker.writer.add_hparams(
                    values, figures, run_name=".", global_step=result["step"]
                )
            else:
                tracker.log(figures)


def _made(names: Sequence[str], run: RunDirectory, step: int) -> list[GeneralTracker]:
    """The trackers, each with a run that is called as ours is, in a project of nifbuild's."""
    name = run.path.name
    arguments: dict[str, dict[str, Any]] = {
        "tensorboard": {
            "run_name": "tensorboard",
            "logging_dir": run.path,
            "purge_step": step + 1,
        },
        "wandb": {"run_name": _PROJECT, "name": name, "dir": str(run.path)},
        "mlflow": {"experiment_name": _PROJECT, "run_name": name},
        "comet_ml": {"run_name": _PROJECT},
        "clearml": {"run_name": _PROJECT, "task_name": name},
        "aim": {"run_name": name, "logging_dir": ".", "experiment": _PROJECT},
        "swanlab": {"run_name": _PROJECT, "experiment_name": name},
        "trackio": {"run_name": _PROJECT, "name": name},
        "dvclive": {"dir": str(run.path / "dvclive"), "resume": step > 0},
    }
    return [LOGGER_TYPE_TO_CLASS[each](**arguments[each]) for each in dict.fromkeys(names)]


def _finish(accelerator: Accelerator, run: RunDirectory) -> None:
    trackers, accelerator.trackers = accelerator.trackers, []
    with ExitStack() as stack:  # all of them, also where one fails
        for tracker in trackers:
            stack.enter_context(_asked(tracker, run))
            stack.callback(tracker.finish)


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
