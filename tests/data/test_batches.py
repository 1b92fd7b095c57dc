"""How batches are loaded ahead."""

import os
from typing import Any

import pytest
import torch

from nifbuild.data import open_data
from nifbuild.data.batches import epoch_batches, training_batches
from nifbuild.machine.device import accelerator_on
from nifbuild.spec.training import TrainSpec


class Places(torch.utils.data.Dataset[Any]):
    """Gives the process that was asked, and the epoch that it knows of."""

    def __init__(self) -> None:
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return 8

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        process = torch.full((len(indices),), os.getpid())
        return {"images": process, "labels": self.epoch.repeat(len(indices))}

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)


def asked(workers: int) -> list[set[int]]:
    """The processes that were asked in each of three epochs."""
    found = []
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        spec = TrainSpec(batch_size=2)
        batches = training_batches(Places(), spec, workers, accelerator)  # type: ignore[arg-type]
        for epoch in range(3):
            parts = list(epoch_batches(batches, epoch, 0, accelerator))
            assert [part["labels"].tolist() for part in parts] == [[epoch, epoch]] * 4
            found.append({int(process) for part in parts for process in part["images"]})
    return found


def test_workers_outlive_an_epoch_and_hear_of_the_next() -> None:
    first, *others = asked(1)
    assert len(first) == 1 and first != {os.getpid()}
    assert others == [first] * 2


def test_without_workers_this_process_loads() -> None:
    assert asked(0) == [{os.getpid()}] * 3


@pytest.mark.parametrize(
    ("workers", "cores", "used"),
    [("auto", 1, 1), ("auto", 5, 5), ("auto", 100, 32), (0, 5, 0), (3, 5, 3), (9, 5, 5)],
)
def test_workers_by_cores(workers: Any, cores: int, used: int, spec: Any, parquet: Any) -> None:
    """None for what is held in memory; parts of it are worth them."""

    def split(**fields: Any) -> int:
        data = open_data(spec(source="digits", workers=workers, **fields))
        images = data.load(1, (8, 8), cores=cores)
        return images.workers_for(images.splits["train"])

    assert split() == 0
    assert split(in_memory=False) == split(augment={"resized_crop": [0.5, 1]}) == used


def test_what_is_held_by_itself(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images that are to be cut are not; nor do they keep the others from it."""

    def held(**fields: Any) -> list[bool]:
        splits = open_data(spec(source="digits", **fields)).load(1, (8, 8)).splits
        return [not splits[name].takes_time for name in ("train", "validation", "test")]

    crops = {"augment": {"resized_crop": [0.5, 1]}}
    assert held() == [True] * 3
    assert held(**crops) == [False, True, True]
    assert held(in_memory=True, **crops) == [True] * 3
    assert held(in_memory=False) == [False] * 3
    monkeypatch.setattr("nifbuild.data.catalog.MEMORY_BYTES", 600 * 64)
    assert held() == [False] * 3
    assert held(**crops) == [False, True, True]
