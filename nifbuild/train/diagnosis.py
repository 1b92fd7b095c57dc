"""Where training diverged: the layer in which a value was first not finite.

Nothing watches while training goes well. Once a loss, or the weights to be saved, are not finite,
the weights have long been spoilt; but on one device a run repeats itself bit for bit from its last
checkpoint, or from its beginning. So the steps since then are done once more with hooks on every
module. That takes as long as they took; Ctrl-C ends the search.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from nifbuild.evaluate.figures import evaluate
from nifbuild.nn import GlobalConv2d
from nifbuild.runs.weights import non_finite
from nifbuild.train.divergence import Diverged, Origin
from nifbuild.train.loop import Trainer


def locate(found: Diverged, trainer: "Trainer") -> Diverged:
    """The same with where it began, if that shows when the steps are repeated.

    Args:
        found: What ended the run.
        trainer: Put back to where its steps are to be repeated from.
    """
    steps = found.step - trainer.progress.step
    trainer.report.note(f"{found.what}: repeating the last {steps} steps to find the layer")
    origin = _first_origin(trainer, found)
    return Diverged(found.what, found.step, found.directory, origin=origin)


def _first_origin(trainer: "Trainer", found: Diverged) -> Origin | None:
    progress = trainer.progress
    origin = _agreed(_of_state(trainer.module, f"before step {progress.step + 1}"))
    trainer.model.train()
    # Its steps must be the ones that were done; only the compiler is left out, as it would hide
    # the modules.
    with torch.compiler.set_stance("force_eager"):
        while origin is None and progress.step < found.step:
            for batch in trainer.remaining_batches():
                if trainer.interrupt.requested():
                    return None
                origin = _agreed(of_step(trainer, batch))
                progress.step += 1
                if origin is not None or progress.step == found.step:
                    break
            progress.epoch = progress.step // trainer.steps_per_epoch
        if origin is None and found.evaluating:
            origin = _agreed(_of_evaluation(trainer))
    return origin


def _agreed(origin: Origin | None) -> Origin | None:
    """That of the first process that has one; every process has to call it."""
    return next((o for o in gather_object([origin]) if o is not None), None)


def of_step(trainer: "Trainer", batch: dict[str, Tensor]) -> Origin | None:
    """Takes a step again; where the first value came up in it that is not finite, if any did."""
    step = f"at step {trainer.progress.step + 1}"
    with watched(trainer.module, step) as seen:
        loss = trainer.train_step(batch)[0].item()
    if trainer.accelerator.optimizer_step_was_skipped:
        # Gradients of a loss that fp16 scales too much: the step is left out, the scale lowered.
        seen = [origin for origin in seen if "gradient" not in origin.where]
    if not seen and not math.isfinite(loss):
        seen = [Origin(f"the loss of finite outputs {step}", "", str(loss))]
    return seen[0] if seen else _of_state(trainer.module, f"after the update {step}")


def _of_state(module: nn.Module, when: str) -> Origin | None:
    found = non_finite([*module.named_parameters(), *module.named_buffers()])
    return None if found is None else Origin(f"{found[0]} {when}", *found)


def _of_evaluation(trainer: "Trainer") -> Origin | None:
    when = f"in the evaluation after step {trainer.progress.step}"
    with watched(trainer.evaluated, when) as seen:
        evaluate(
            trainer.evaluated,
            trainer.validation_batches,
            trainer.place.evaluation_input,
            trainer.accelerator,
            trainer.num_classes,
        )
    return seen[0] if seen else None


@contextmanager
def watched(model: nn.Module, when: str) -> Iterator[list[Origin]]:
    """While entered, lists what is not finite in forward and backward passes, in their order."""
    seen: list[Origin] = []

    def note(value: Any, where: str, path: str) -> None:
        if isinstance(value, Tensor) and not seen and (found := non_finite([("", value)])):
            seen.append(Origin(f"{where} {when}", path, found[1]))

    with ExitStack() as hooks:
        for path, module in _whole_modules(model):
            enter, leave = _hooks(path, note)
            for handle in (
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ):
                hooks.callback(handle.remove)
        for path, parameter in model.named_parameters():
            if parameter.requires_grad:
                handle = parameter.register_hook(_noting(note, f"the gradient of {path}", path))
                hooks.callback(handle.remove)
        yield seen


def _whole_modules(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules with their paths, but for those inside of convolutions with global filters.

    These compute in another way, which rounds differently, where a part of them has a hook.
    """
    yield path, model
    if not isinstance(model, GlobalConv2d):
        for name, child in model.named_children():
            yield from _whole_modules(child, f"{path}.{name}" if path else name)


Note = Callable[[Any, str, str], None]


def _hooks(path: str, note: Note) -> tuple[Callable[..., Any], Callable[..., None]]:
    """For one module: before its forward pass, and after it."""

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not path:
            note(inputs[0], "the images", "")
        return tuple(_split_off(value, path, note) for value in inputs)

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        note(output, f"the output of {path}" if path else "the model's output", path)
        if not path and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(_noting(note, "the gradient of the loss", ""))

    return enter, leave


def _split_off(value: Any, path: str, note: Note) -> Any:
    """A view, whose gradient is what this module alone passes back, and not its neighbours too."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    view = value.view_as(value)
    view.register_hook(_noting(note, f"the gradient that {path} passes back", path))
    return view


def _noting(note: Note, where: str, path: str) -> Callable[[Tensor], None]:
    return lambda gradient: note(gradient, where, path)
