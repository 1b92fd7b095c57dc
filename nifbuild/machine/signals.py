"""Signals that ask a run to stop, noticed at the next step and agreed on by all processes."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist

from nifbuild.machine.launch import discard, stop_signals, terminals


class Interrupt:
    """Catches SIGINT, SIGTERM and SIGHUP while entered; the loop asks `requested` at each step.

    A second Ctrl-C finds the default handler, which ends the process at once. Outside the main
    thread, where Python allows no handlers, nothing is noticed.
    """

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, object] = {}
        self._terminals: list[int] = []
        self._group: dist.ProcessGroup | None = None

    def __enter__(self) -> Self:
        if dist.is_initialized() and dist.get_world_size() > 1:
            # On the CPU, so that asking does not wait for work queued on a GPU.
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._terminals = terminals()
            for number in stop_signals():
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if number not in (signal.SIGINT, signal.SIGTERM):
            discard(self._terminals)  # lest a line of progress fails before all is saved

    def requested(self) -> int:
        """The number of the signal that asks to stop, or 0; the same on every process.

        Every process has to call it equally often.
        """
        if self._group is None:
            return self._received
        received = torch.tensor(self._received)
        dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group)
        return int(received)
