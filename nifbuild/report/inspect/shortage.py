"""What `inspect` has to say once an allocation of training has failed."""

import gc
import traceback
from typing import get_args

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.machine.memory import OutOfMemory, free_memory
from nifbuild.machine.processes import world_size
from nifbuild.report.inspect.budget import largest_batch
from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Device, Target
from nifbuild.report.show.units import bytes_text
from nifbuild.spec.training import TrainSpec


def explain_shortage(error: OutOfMemory) -> RunError:
    """The same with the predicted peak, the memory that is free, and the largest batch that fits.

    What the failed training still holds is let go before free memory is looked at. Where nothing
    can be predicted, as on a device that `inspect` does not know, the error is returned as it is.
    """
    device = next((name for name in get_args(Device) if name == error.device.type), None)
    _let_go(error)
    room = free_memory(error.device)
    if device is None or room is None:
        return error
    train = error.resolved.spec.train
    processes = world_size()
    target = Target(device, train.precision)
    (problem,) = error.problems
    try:
        sizes = (max(1, error.images // processes),)
        inspection = inspect_spec(error.resolved, target=target, batch_sizes=sizes)
        peak = inspection.train_peak_bytes
        what = f"{problem.what}; `nifbuild inspect` predicts a peak of {bytes_text(peak)} for a"
        what += f" training step, and {bytes_text(room)} are free without it"
        try:
            largest, _ = largest_batch(inspection, room)
            fix = _advice(train, largest, processes)
        except SpecError as too_large:
            fix = too_large.problems[0].what
    except (SpecError, MemoryError, RuntimeError):  # the same lack of memory, perhaps
        return error
    return RunError(Problem(what, fix=f"{fix}\n{problem.fix}", code=problem.code))


def _let_go(error: OutOfMemory) -> None:
    """Frees the tensors that the frames of a failure hold."""
    failure: BaseException | None = error
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__
    gc.collect()


def _advice(train: TrainSpec, largest: int, processes: int) -> str:
    """How to have no more than `largest` images at once in each process.

    Where a prediction says that what failed fits, something beside the model takes the rest, such
    as libraries or images held in memory: then the next smaller part of a batch is worth a trial.
    """
    per_process = train.batch_size // processes
    failed = per_process // train.accumulate
    where = " on each device" if processes > 1 else ""
    fits = f"at most {largest} images fit at once{where}"
    if largest >= failed:
        fits = f"that should have fitted{where}, but for what other things take"
    cuts = (n for n in range(train.accumulate + 1, per_process + 1) if per_process % n == 0)
    cut = next((n for n in cuts if per_process // n <= largest), None)
    if cut is None:
        return fits
    return f"{fits}: --set train.accumulate={cut} has {per_process // cut} pass at once{where}"
