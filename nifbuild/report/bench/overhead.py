"""The training loop against a bare one: the same model, images and augmentation."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nifbuild.data import Preprocess
from nifbuild.data.batches import training_images
from nifbuild.data.decode import colours
from nifbuild.data.images import MemoryImages
from nifbuild.errors import RunError
from nifbuild.machine.processes import own_cores
from nifbuild.machine.progress import Reporter
from nifbuild.report.bench.setting import Setting, first_line, require_images
from nifbuild.report.measure import OnTurn, Quartiles, ratios
from nifbuild.runs.opened_data import open_for
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.optim import build_optimizer, set_lr
from nifbuild.train.run import train_run

STEPS = 20
"""Of each loop in each repeat; fewer where there are fewer images."""

_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class OverheadReport:
    """Two loops over the same images, in turn.

    Attributes:
        spec: Its file.
        batch: Images for each step of the optimizer.
        steps: Of each loop in each repeat.
        loop_images_per_second: Of `nifbuild train`.
        bare_images_per_second: Of the bare loop.
        ratio: The first over the second in the same repeat; 1: nothing is lost.
        data_wait_share: Share of the first loop's time in which it waited for a batch.
    """

    environment: dict[str, Any]
    spec: str
    input_shape: tuple[int, ...]
    batch: int
    steps: int
    loop_images_per_second: Quartiles
    bare_images_per_second: Quartiles
    ratio: Quartiles
    data_wait_share: Quartiles

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"report": "overhead", **asdict(self)}


@dataclass(frozen=True, slots=True)
class OverheadRequest:
    """Which spec to train, with its own data, optimizer, augmentation and accumulation.

    Attributes:
        spec: The spec; what it adds to a step (moving average, clipping, penalty) is left out.
        batch: Images for each step; None: as the spec says.
        size: Height and width of the images; None: as the spec says.
    """

    setting: Setting
    spec: Path
    batch: int | None = None
    size: tuple[int, int] | None = None

    def measure(self, on_turn: OnTurn = lambda text: None) -> OverheadReport:
        """Trains epochs of a few steps, with as many steps of the bare loop after each.

        Raises:
            SpecError: If the spec is wrong, has no data, or does not suit it.
            RunError: If it cannot be trained here.
        """
        resolved = self._load()
        with self.setting.applied(), tempfile.TemporaryDirectory() as folder:
            try:
                bare = BareLoop(resolved, self.setting)
                turns = _Turns(bare, self.setting, on_turn)
                with suppress(_EnoughError):
                    train_run(resolved, Path(folder) / "run", report=turns)
                environment = self.setting.environment()
            except RuntimeError as error:
                raise RunError(f"the spec cannot be trained here: {first_line(error)}") from error
        shape, train = resolved.spec.input, resolved.spec.train
        return OverheadReport(
            environment=environment,
            spec=str(self.spec),
            input_shape=(shape.channels, *shape.size),
            batch=train.batch_size,
            steps=bare.steps,
            loop_images_per_second=Quartiles.of(turns.loop),
            bare_images_per_second=Quartiles.of(turns.bare),
            ratio=Quartiles.of(ratios(turns.loop, turns.bare)),
            data_wait_share=Quartiles.of(turns.waits),
        )

    def _load(self) -> Resolved:
        resolved = load_spec(self.spec)
        require_images(resolved, "no data to train on")
        batch = self.batch or resolved.spec.train.batch_size
        settings = [
            # One more to warm up, and one more as the last is followed by an evaluation.
            f"train.epochs={self.setting.repeats + 2}",
            f"train.batch_size={batch}",
            f"train.precision={_PRECISIONS[self.setting.dtype]}",
            f"train.device='{self.setting.device}'",
            "train.schedule={name: constant, warmup_epochs: 0}",
            "train.evaluate_every=1000000",
            "train.checkpoint_every=1000000",
            "train.trackers=[]",
            *(f"train.{name}=null" for name in ("ema", "clip_norm", "init")),
            *(f"train.{name}=false" for name in ("compile", "deterministic")),
            "train.kernel_spread=0",
            "data.in_memory=true",
            f"data.limit={{train: {batch * STEPS}, validation: 100, test: 100}}",
        ]
        if self.size is not None:
            settings += size_overrides(self.size, has_data=True)
        return load_spec(self.spec, overrides=settings)


class BareLoop:
    """What one would write without a library: forward, loss, backward, optimizer.

    Args:
        resolved: The spec.
        setting: In which it runs.

    Attributes:
        steps: In each epoch.
    """

    def __init__(self, resolved: Resolved, setting: Setting) -> None:
        catalog, resolved = open_for(resolved)
        self.train, self.setting = resolved.spec.train, setting
        assert resolved.spec.data is not None
        shape = resolved.spec.input
        data = catalog.load(colours(shape.channels), shape.size, cores=own_cores())
        self.set = training_images(data, resolved)
        assert isinstance(self.set, MemoryImages)
        self.images, self.labels = self.set.images, self.set.labels
        augment = resolved.spec.data.augment
        self.preprocess = Preprocess(augment, catalog.num_classes, data.mean, data.std)
        self.format = torch.channels_last if self.train.channels_last else torch.contiguous_format
        model = fresh_model(resolved).train()
        self.model = model.to(device=setting.device, memory_format=self.format)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, self.train.optimizer)
        self.weights = (1.0, *(head.weight for head in resolved.graph.heads))
        self.steps = len(self.labels) // self.train.batch_size

    def epoch(self) -> float:
        """One epoch; returns images per second."""
        device = self.setting.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.monotonic()
        for step, (images, labels) in enumerate(self._batches()):
            self._step(images.to(device), labels.to(device), step)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return self.steps * self.train.batch_size / (time.monotonic() - started)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels))
        for indices in order.split(self.train.batch_size)[: self.steps]:
            if self.set.takes_time:  # parts of images, cut by the same code as in the other loop
                batch = self.set.__getitems__(indices.tolist())
                yield batch["images"], batch["labels"]
            else:
                yield self.images[indices], self.labels[indices]

    def _step(self, images: Tensor, labels: Tensor, step: int) -> None:
        cuts = self.train.accumulate
        for part, classes in zip(images.chunk(cuts), labels.chunk(cuts), strict=True):
            inputs, targets = self.preprocess.train(part, classes, seed=step)
            with self.setting.autocasting():
                found = self.model(inputs.contiguous(memory_format=self.format))
            smoothing = self.train.label_smoothing
            outputs = found if isinstance(found, tuple) else (found,)
            losses = (
                F.cross_entropy(y.float(), targets, label_smoothing=smoothing) for y in outputs
            )
            weighted = (w * each for w, each in zip(self.weights, losses, strict=True))
            (sum(weighted, torch.zeros((), device=images.device)) / cuts).backward()
        set_lr(self.optimizer, self.train.optimizer.lr)
        self.optimizer.step()
        self.optimizer.zero_grad()


class _EnoughError(Exception):
    """All repeats are done."""


class _Turns(Reporter):
    """After each epoch of `nifbuild train`, lets the bare loop do one.

    Attributes:
        loop: Images per second of `nifbuild train` in each repeat, but for the first epoch.
        bare: Those of the bare loop.
        waits: Shares of the time in which the first waited for data.
    """

    def __init__(self, bare_loop: BareLoop, setting: Setting, on_turn: OnTurn) -> None:
        self._bare_loop, self._setting, self._on_turn = bare_loop, setting, on_turn
        self._warm = False
        self._seconds = 0.0
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.waits: list[float] = []
        on_turn("warm-up")

    def epoch(self, line: dict[str, Any]) -> None:
        speed = self._bare_loop.epoch()
        if self._warm:
            self.loop.append(line["train_images_per_second"])
            self.waits.append(line["data_wait_share"])
            self.bare.append(speed)
            images = self._bare_loop.steps * self._bare_loop.train.batch_size
            self._seconds += images / self.loop[-1] + images / speed
        self._warm = True
        done, repeats = len(self.bare), self._setting.repeats
        if done and (done >= repeats or self._seconds > self._setting.seconds):
            raise _EnoughError
        self._on_turn(f"repeat {done + 1} of {repeats}")
