"""How fast images are decoded and augmented, and whether a model would have to wait for them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from nifbuild.data import ImageData, ImageSet, Preprocess
from nifbuild.data.batches import epoch_batches, training_batches, training_images
from nifbuild.data.crops import RandomCrops, central_box, scaled_size
from nifbuild.data.decode import Decoder, opened
from nifbuild.machine.device import accelerator_on
from nifbuild.machine.progress import Reporter
from nifbuild.report.bench.setting import Setting, require_images
from nifbuild.report.measure import OnTurn, Quartiles, WarmSampler, measure_in_turn, ratios
from nifbuild.runs.opened_data import load_images, open_for
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.resolve import Resolved, load_spec

STEPS = 10
"""Batches of each pass of the loader; fewer where there are fewer images."""


@dataclass(frozen=True, slots=True)
class FeedReport:
    """How fast the training images of a spec come.

    Attributes:
        spec: Its file.
        input_shape: Channels, height and width that images are brought to.
        batch: Images of each batch.
        images: Of each pass of the loader.
        workers: Processes that decode in it; 0: this one.
        core_images_per_second: Decoded by one process, without a loader.
        bare_images_per_second: The same by a bare loop.
        ratio: The first over the second in the same repeat; 1: nothing is lost.
        loader_images_per_second: Of the loader that training uses, on their device.
        augment_images_per_second: Changed and normalised on the device.
        model_images_per_second: What a model takes, as it was asked.
        waiting_share: Share of its time that it would wait; None where it was not asked.
    """

    environment: dict[str, Any]
    spec: str
    input_shape: tuple[int, ...]
    batch: int
    images: int
    workers: int
    core_images_per_second: Quartiles
    bare_images_per_second: Quartiles
    ratio: Quartiles
    loader_images_per_second: Quartiles
    augment_images_per_second: Quartiles
    model_images_per_second: float | None
    waiting_share: Quartiles | None

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"report": "feeding", **asdict(self)}


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """Which spec's training images to decode and augment.

    Attributes:
        spec: The spec; its images are decoded each time, also if training would hold them.
        batch: Images of each batch; None: as the spec says.
        size: Height and width of the images; None: as the spec says.
        model_speed: Images per second of a model that would wait for them.
    """

    setting: Setting
    spec: Path
    batch: int | None = None
    size: tuple[int, int] | None = None
    model_speed: float | None = None

    def measure(self, on_turn: OnTurn = lambda text: None) -> FeedReport:
        """Decodes by itself, by a bare loop and by the loader, in turn.

        Raises:
            SpecError: If the spec is wrong, has no data, or does not suit it.
            RunError: If an image cannot be read.
        """
        on_turn("warm-up")
        setting = self.setting
        with setting.applied(), accelerator_on(setting.device, precision="fp32") as accelerator:
            catalog, resolved = open_for(self._load())
            data = load_images(catalog, resolved, accelerator, Reporter())
            feeds = Feeds(resolved, data, accelerator)
            cpu = torch.device("cpu")
            entries = {
                "bare": {"seconds": WarmSampler(feeds.bare, cpu)},
                "core": {"seconds": WarmSampler(feeds.core, cpu)},
                "augment": {"seconds": WarmSampler(feeds.augment, setting.device)},
                "loader": {"seconds": WarmSampler(feeds.loader, setting.device)},
            }
            times = measure_in_turn(
                entries,
                reference="bare",
                repeats=setting.repeats,
                seconds=setting.seconds,
                on_turn=on_turn,
            )
            environment = setting.environment()
        seconds = {name: figures["seconds"] for name, figures in times.items()}
        batch, images = feeds.batch, feeds.images
        loader = [taken * batch / images for taken in seconds["loader"]]
        waits = None
        if self.model_speed is not None:
            steps = [batch / self.model_speed + taken for taken in seconds["augment"]]
            waits = Quartiles.of(waiting_shares(loader, steps, overlap=feeds.workers > 0))
        shape = resolved.spec.input
        return FeedReport(
            environment=environment,
            spec=str(self.spec),
            input_shape=(shape.channels, *shape.size),
            batch=batch,
            images=images,
            workers=feeds.workers,
            core_images_per_second=_speeds(seconds["core"], batch),
            bare_images_per_second=_speeds(seconds["bare"], batch),
            ratio=Quartiles.of(ratios(seconds["bare"], seconds["core"])),
            loader_images_per_second=_speeds(loader, batch),
            augment_images_per_second=_speeds(seconds["augment"], batch),
            model_images_per_second=self.model_speed,
            waiting_share=waits,
        )

    def _load(self) -> Resolved:
        resolved = load_spec(self.spec)
        require_images(resolved, "no images to decode")
        batch = self.batch or resolved.spec.train.batch_size
        settings = [
            f"train.batch_size={batch}",
            "train.accumulate=1",
            "data.in_memory=false",
            # Nothing is measured of the others, and `auto` would read thousands of images.
            f"data.limit={{train: {batch * STEPS}, validation: 1, test: 1}}",
            "data.normalize={mean: [0.5], std: [0.25]}",
        ]
        if self.size is not None:
            settings += size_overrides(self.size, has_data=True)
        return load_spec(self.spec, overrides=settings)


def waiting_shares(
    loading: Sequence[float], working: Sequence[float], *, overlap: bool
) -> list[float]:
    """The share of its time that a training loop waits for batches.

    Args:
        loading: Seconds until the loader has another batch.
        working: Seconds that the loop takes for one.
        overlap: Whether batches are loaded while it works.
    """
    pairs = zip(loading, working, strict=False)
    if overlap:
        return [max(0.0, 1 - work / load) for load, work in pairs]
    return [load / (load + work) for load, work in pairs]


def _speeds(seconds: Sequence[float], images: int) -> Quartiles:
    return Quartiles.of([images / taken for taken in seconds])


class Feeds:
    """Ways to get batches of training images.

    Args:
        resolved: The spec.
        data: Its images, which are decoded each time.
        accelerator: On the device where they are wanted.

    Attributes:
        batch: Images of a batch.
        images: Of a pass of the loader.
        workers: Processes that decode in it.
    """

    def __init__(self, resolved: Resolved, data: ImageData, accelerator: Accelerator) -> None:
        spec, train = resolved.spec.data, resolved.spec.train
        assert spec is not None
        self.batch, self._accelerator, self._epoch = train.batch_size, accelerator, 0
        self._set: ImageSet = training_images(data, resolved)
        self.workers = data.workers_for(self._set)
        self._batches = training_batches(self._set, train, self.workers, accelerator)
        self.images = len(self._batches) * self.batch
        self._cells = self._set.source.cells(range(self.batch))
        crop = spec.augment.resized_crop
        self._crops = None if crop is None else RandomCrops(crop.scale, crop.ratio, train.seed)
        self._preprocess = Preprocess(spec.augment, len(data.class_names), data.mean, data.std)
        found = self._set.__getitems__(range(self.batch))
        device = accelerator.device
        self._images, self._labels = found["images"].to(device), found["labels"].to(device)

    def core(self) -> Tensor:
        """A batch, decoded as training does it, in this process."""
        return self._set.__getitems__(range(self.batch))["images"]

    def bare(self) -> Tensor:
        """The same images as one would decode them without a library, by Pillow alone.

        They are read in full, whatever part of them is wanted, and taken as they are stored.
        """
        decoder = self._set.decoder
        assert isinstance(decoder, Decoder)  # as each image has a class
        wanted, kind = (decoder.width, decoder.height), decoder.interpolation.upper()
        resampling = Image.Resampling[kind]
        stretch, share = decoder.resize == "stretch", decoder.crop_share
        images = []
        for place, cell in enumerate(self._cells):
            with opened(cell) as stored:
                image = stored.convert("L" if decoder.channels == 1 else "RGB")
            if self._crops is not None:
                box = self._crops.box(0, place, image.size)
                image = image.crop(box).resize(wanted, resampling)
            else:
                size = scaled_size(image.size, wanted, share, stretch=stretch)
                image = image.resize(size, resampling).crop(central_box(size, wanted))
            pixels = torch.from_numpy(np.array(image))
            images.append(pixels[None] if decoder.channels == 1 else pixels.permute(2, 0, 1))
        return torch.stack(images)

    def augment(self) -> None:
        """A batch, changed at random and normalised on the device."""
        self._preprocess.train(self._images, self._labels, seed=0)

    def loader(self) -> None:
        """An epoch of the loader that training uses."""
        for batch in epoch_batches(self._batches, self._epoch, 0, self._accelerator):
            assert len(batch["images"]) == self.batch
        self._epoch += 1
