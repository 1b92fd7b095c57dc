"""Sets of images, from which a data loader takes whole batches."""

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypedDict

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from nifbuild.data.crops import Choose, RandomCrops
from nifbuild.data.decode import Cell, Decoder, UnreadableImageError, cell_name, quiet_pillow
from nifbuild.data.masks import WithMask
from nifbuild.data.splits import Rows
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    import datasets

_CHUNK = 256
# Python itself takes about 0.1 ms for each image, one thread at a time; only what Pillow does
# beyond that happens at the same time in several.
WORTH_THREADS_SECONDS = 0.001

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""


AnyDecoder = Decoder | WithMask


class Batch(TypedDict):
    """Images and their classes, or masks with the class of each pixel; `index`: their places."""

    images: UInt8[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"] | UInt8[Tensor, "batch height width"]
    index: Int64[Tensor, " batch"]


@dataclass(frozen=True)
class Source:
    """The chosen rows of a split, not decoded.

    Attributes:
        split: `train`, `validation` or `test`.
        table: The rows of the whole split; one column, of images, or two, of images and masks.
        rows: The numbers of those that are used, shape [images].
        labels: The class of each of these, shape [images]; 0 where each pixel has one.
    """

    split: Role
    table: "datasets.Dataset"
    rows: Rows
    labels: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, indices: Sequence[int]) -> list[Cell]:
        """The encoded images at these places; with masks, mappings of `image` and `mask`."""
        table = self.table.with_format("arrow")[self.rows[np.asarray(indices)].tolist()]
        several = len(table.column_names) > 1
        cells: list[Cell] = (table if several else table[table.column_names[0]]).to_pylist()
        return cells

    def name(self, index: int) -> str:
        """The image's path, where it has one, and its row in the source."""
        row = f"row {self.rows[index]} of '{self.split}'"
        path = self._path(index)
        return f"'{path}'" if path and os.path.isabs(path) else f"'{path}' ({row})" if path else row  # noqa: PTH117

    def path(self, index: int) -> str:
        """The image's path as the source has it; else its row, as a number."""
        return self._path(index) or str(self.rows[index])

    def _path(self, index: int) -> str:
        (cell,) = self.cells([index])
        return cell_name(cell["image"] if isinstance(cell, Mapping) and "image" in cell else cell)

    def chosen(self, places: Rows, split: Role | None = None) -> "Source":
        """Only these places, in this order; as another split, if one is named."""
        split = split or self.split
        return Source(split, self.table, self.rows[places], self.labels[places])


class ImageSet(Dataset[Batch], ABC):
    """The images of a split. `set[i]` is one of them, without the batch dimension.

    A `DataLoader(..., collate_fn=lambda batch: batch)` asks for whole batches.

    Attributes:
        source: Where they come from.
        decoder: What they become.
        labels: The class of each image, shape [images]; 0 where each pixel has one.
    """

    _crops: RandomCrops | None = None
    _epoch: Int64[Tensor, ""]
    """Of a set that is cropped."""
    _is_repeated = False

    def __init__(self, source: Source, decoder: AnyDecoder) -> None:
        self.source, self.decoder = source, decoder
        self.labels: Int64[Tensor, " images"] = torch.from_numpy(source.labels.copy())

    def cropped(self, crops: RandomCrops) -> Self:
        """The same images, but of each only a random part, another one in each epoch."""
        other = copy.copy(self)
        other._crops = crops
        # A loader's workers have copies of the set, and outlive an epoch.
        other._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        return other

    def repeated(self) -> Self:
        """The same images, any of which may be drawn several times in an epoch.

        A place beyond the last one, by as many as there are images, is the same image again; of a
        set that is cropped, another part of it.
        """
        other = copy.copy(self)
        other._is_repeated = True
        return other

    def set_epoch(self, epoch: int) -> None:
        """Says which parts of the images are to be cut out, here and in a loader's workers."""
        if self._crops is not None:
            self._epoch.fill_(epoch)

    @property
    def takes_time(self) -> bool:
        """Whether images are made when they are asked for, so that workers are of use."""
        return self._crops is not None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        batch = self.__getitems__([index])
        return Batch(images=batch["images"][0], labels=batch["labels"][0], index=batch["index"][0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The images at these places.

        Raises:
            IndexError: There is no such place.
            UnreadableImageError: An image that is not held in memory cannot be read.
        """
        draws = torch.as_tensor(indices, dtype=torch.int64)
        index = draws % len(self) if self._is_repeated else draws
        images, labels = self._images(index, draws), self.labels.index_select(0, index)
        if (colours := self.decoder.colours) < self.decoder.channels:
            images, labels = images[:, :colours].contiguous(), images[:, colours].contiguous()
        return Batch(images=images, labels=labels, index=index)

    def name(self, index: int) -> str:
        """The image's path, or its row in the source."""
        return self.source.name(index)

    @abstractmethod
    def _images(
        self, index: Int64[Tensor, " batch"], draws: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        """The images at these places; `draws` says which parts of them."""

    def _empty(self, number: int) -> UInt8[np.ndarray, "batch channels height width"]:
        shape = (number, self.decoder.channels, self.decoder.height, self.decoder.width)
        return np.empty(shape, dtype=np.uint8)

    def _choices(self, draws: Sequence[int]) -> Iterator[Choose | None]:
        """For each draw what chooses the part; None: it is taken as evaluation does."""
        for draw in draws:
            crops = self._crops
            yield None if crops is None else partial(crops.box, int(self._epoch), draw)


class MemoryImages(ImageSet):
    """Images decoded once, held as one tensor.

    Attributes:
        images: All of them, shape [images, channels, height, width], 0 to 255; with masks, these
            are the last channel.
    """

    def __init__(
        self,
        source: Source,
        decoder: AnyDecoder,
        images: UInt8[Tensor, "images channels height width"],
    ) -> None:
        super().__init__(source, decoder)
        self.images = images

    def _images(
        self, index: Int64[Tensor, " batch"], draws: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        held = self.images.index_select(0, index)
        if self._crops is None:
            return held
        images = self._empty(len(held))
        for at, choose in enumerate(self._choices(draws.tolist())):
            assert choose is not None and isinstance(self.decoder, Decoder)  # none of masks
            images[at] = self.decoder.part(held[at].numpy(), choose)
        return torch.from_numpy(images)


class LazyImages(ImageSet):
    """Images decoded each time they are asked for; made to be pickled into a loader's workers."""

    @property
    def takes_time(self) -> bool:
        """Always: it decodes."""
        return True

    def _images(
        self, index: Int64[Tensor, " batch"], draws: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        places = index.tolist()
        images = self._empty(len(places))
        wanted = zip(self.source.cells(places), self._choices(draws.tolist()), strict=True)
        with quiet_pillow():
            for at, (cell, choose) in enumerate(wanted):
                try:
                    images[at] = self.decoder(cell, choose)
                except ValueError as error:
                    raise UnreadableImageError.of(self.name(places[at]), str(error)) from error
        return torch.from_numpy(images)


@dataclass(frozen=True)
class ImageData:
    """Data that is ready for a data loader.

    Attributes:
        splits: A set for `train`, and for `validation` and `test` where there are any.
        class_names: In the order of the class numbers.
        mean: Of each channel, shape [channels]; black is 0, white is 1.
        std: Standard deviation of each channel, shape [channels]; above 0.
        unreadable: What was left out: split, name of the image, reason.
        fingerprint: Changes when the data does.
        workers: How many processes decode for a set that needs them; see `workers_for`.
        notes: What people have to know of the data; see `Catalog`.
    """

    splits: dict[Role, ImageSet]
    class_names: tuple[str, ...]
    mean: Float32[Tensor, " channels"]
    std: Float32[Tensor, " channels"]
    unreadable: list[tuple[Role, str, str]]
    fingerprint: str
    workers: int
    notes: tuple[str, ...] = ()

    def workers_for(self, images: ImageSet) -> int:
        """How many processes a data loader should use: 0 where images are just taken from memory.

        Args:
            images: One of the splits, or what was made of it.
        """
        return self.workers if images.takes_time else 0


def decode_all(
    source: Source,
    decoder: AnyDecoder,
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda images: None,
    keep: bool = True,
) -> tuple[UInt8[Tensor, "images channels height width"] | None, dict[int, str]]:
    """Decodes every image of a split.

    Args:
        source: Where they come from.
        decoder: What they become.
        threads: At most so many decode at the same time; the result does not depend on it.
        progress: Called with the number of images decoded since the last call.
        keep: False only tries them, and keeps no pixels.

    Returns:
        The images [images, channels, height, width], undefined where one cannot be read (None
        unless `keep`); and the place and reason of each that cannot.
    """
    shape = (len(source), decoder.channels, decoder.height, decoder.width)
    images = np.zeros(shape, dtype=np.uint8) if keep else None
    failures: dict[int, str] = {}

    def decode(places: range) -> int:
        for place, cell in zip(places, source.cells(places), strict=True):
            try:
                pixels = decoder(cell)
                if images is not None:
                    images[place] = pixels
            except ValueError as error:
                failures[place] = str(error)
        return len(places)

    chunks = [
        range(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)
    ]
    with quiet_pillow():
        start = time.perf_counter()
        progress(decode(chunks[0]))
        each = (time.perf_counter() - start) / len(chunks[0])
        threads = threads if each > WORTH_THREADS_SECONDS else 1
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for number in pool.map(decode, chunks[1:]):
                progress(number)
    kept = torch.from_numpy(images) if images is not None else None
    return kept, dict(sorted(failures.items()))


def channel_statistics(
    images: UInt8[Tensor, "images channels height width"],
) -> tuple[Float32[Tensor, " channels"], Float32[Tensor, " channels"]]:
    """Mean and standard deviation of each channel [channels] over all images; white is 1.

    A channel without variation gets the standard deviation of one step in 255, so that dividing by
    it stays harmless.
    """
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in images.split(1024):
        values = part.transpose(0, 1).flatten(1).double() / 255
        total += values.sum(1)
        squares += values.square().sum(1)
    number = images.numel() / images.shape[1]
    mean = total / number
    std = (squares / number - mean.square()).clamp_min(0).sqrt().clamp_min(1 / 255)
    return mean.float(), std.float()
