"""How fast the steps of an epoch are done, and how long they wait for data."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the steps of an epoch were done.

    Attributes:
        images_per_second: Over all processes.
        data_wait_share: Share of the time in which this process waited for the next batch: to be
            read, decoded and brought to the device. Augmentation is work of the device.
    """

    images_per_second: float
    data_wait_share: float


class Timed:
    """Goes over batches, and adds up how long each was waited for.

    Attributes:
        seconds: So far.
    """

    def __init__(self, batches: Iterator[dict[str, Tensor]]) -> None:
        self.seconds = 0.0
        self._batches = batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            asked = time.monotonic()
            batch = next(self._batches, None)
            self.seconds += time.monotonic() - asked
            if batch is None:
                return
            yield batch
