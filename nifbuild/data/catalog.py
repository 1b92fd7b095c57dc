"""From a source to sets of images: what is there, then decoding it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from nifbuild.data.class_names import check_num_classes, look_alikes
from nifbuild.data.columns import (
    check_paths,
    find_column,
    number_classes,
    read_labels,
)
from nifbuild.data.decode import Decoder, UnreadableImageError
from nifbuild.data.fingerprint import fingerprint
from nifbuild.data.images import (
    AnyDecoder,
    ImageData,
    ImageSet,
    LazyImages,
    MemoryImages,
    Progress,
    Source,
    channel_statistics,
    decode_all,
)
from nifbuild.data.listing import LeftOut
from nifbuild.data.masks import WithMask
from nifbuild.data.sources import open_source, shared_files
from nifbuild.data.splits import choose_splits, limited, random_stream, set_aside
from nifbuild.data.table_cache import Tell
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.data import DataSpec, Table
from nifbuild.spec.pixel_data import DistantMarkData, PixelData, SegmentationData
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    import datasets

MEMORY_BYTES = 2 * 2**30
MOST_WORKERS = 32
"""Of `workers: auto`: each holds some batches, and more of them feed no single device."""
STATISTICS_IMAGES = 10_000
_NAMED_PROBLEMS = 10


def open_data(spec: DataSpec, tell: Tell = lambda text: None) -> "Catalog":
    """Finds the rows, classes and splits of a source, without decoding an image.

    Args:
        spec: What the YAML says.
        tell: Is told of copies that are made.

    Raises:
        SpecError: The spec names something that is not there, or asserts what is not so.
        RunError: The data is broken, or cannot be reached.
    """
    left_out = LeftOut()
    found = open_source(spec, left_out, tell)
    roles = choose_splits(spec, found)
    for name in found:
        if name not in roles.values():
            left_out.add(name, "split that nothing uses")
    tables = {role: found[split] for role, split in roles.items()}
    if isinstance(spec, PixelData):
        return _with_masks(spec, tables, left_out)
    columns: dict[Role, tuple[str, str]] = {}
    for role, split in roles.items():
        image, label = (spec.image, spec.label) if isinstance(spec, Table) else ("image", "label")
        features = found[split].features
        columns[role] = (
            find_column("image", image, features, split),
            find_column("label", label, features, split),
        )
        check_paths(found[split], columns[role][0], split)
    # After the columns of all splits are known: reading labels takes longer.
    class_names, labels = number_classes(
        [read_labels(found[split], columns[role][1], split, role) for role, split in roles.items()]
    )
    check_num_classes(spec, class_names)
    images = {role: image for role, (image, _) in columns.items()}
    hashed = fingerprint(class_names, tables, images, labels)
    sources = {}
    for role, table in tables.items():
        rows = np.arange(len(table), dtype=np.int64)
        encoded = table.select_columns([images[role]])
        sources[role] = Source(role, encoded, rows, labels[role])
    notes = (left_out.text(), look_alikes(class_names), shared_files(spec, roles.values()))
    return Catalog.of(spec, class_names, hashed, sources, notes)


def _with_masks(
    spec: DistantMarkData | SegmentationData,
    tables: "dict[Role, datasets.Dataset]",
    left_out: LeftOut,
) -> "Catalog":
    """Data whose rows have an image and a mask; what is set aside is not in proportion to classes.

    Each pixel has a class, and the label of all images is 0.
    """
    class_names = spec.class_names
    labels = {role: np.zeros(len(table), dtype=np.int64) for role, table in tables.items()}
    hashed = fingerprint(class_names, tables, dict.fromkeys(tables, "image"), labels)
    masks = fingerprint(class_names, tables, dict.fromkeys(tables, "mask"), labels)
    hashed = hashlib.sha256(f"{hashed}{masks}".encode()).hexdigest()[: len(hashed)]
    sources = {
        role: Source(
            role, table.select_columns(["image", "mask"]), np.arange(len(table)), labels[role]
        )
        for role, table in tables.items()
    }
    return Catalog.of(spec, class_names, hashed, sources, (left_out.text(),))


@dataclass(frozen=True)
class Catalog:
    """A source that was opened.

    Attributes:
        spec: What the YAML says.
        class_names: In the order of the class numbers.
        fingerprint: Changes when the data does.
        sources: The rows of `train`, and of `validation` and `test` where there are any.
        notes: What people have to know of it: what was found and is not used, what looks like a
            slip.
        set_aside: The splits that the source does not have: their images are some of `train`.
    """

    spec: DataSpec
    class_names: tuple[str, ...]
    fingerprint: str
    sources: dict[Role, Source] = field(repr=False)
    notes: tuple[str, ...] = ()
    set_aside: frozenset[Role] = frozenset()

    @classmethod
    def of(
        cls,
        spec: DataSpec,
        class_names: tuple[str, ...],
        hashed: str,
        sources: dict[Role, Source],
        notes: Iterable[str],
    ) -> Self:
        """The catalog of what the source has, with test and validation set aside where it has none.

        Args:
            spec: What the YAML says.
            class_names: In the order of the class numbers.
            hashed: The fingerprint.
            sources: The splits that the source has.
            notes: What people have to know; empty ones are left out.
        """
        parts = _divided(spec, sources)
        aside = frozenset(parts) - frozenset(sources)
        return cls(spec, class_names, hashed, parts, tuple(filter(None, notes)), aside)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def sizes(self) -> dict[Role, int]:
        """How many images each split has, before unreadable ones are left out."""
        return {role: len(source) for role, source in self.sources.items()}

    def all_images(self) -> Source:
        """The images of all splits, as those of one that is called `test`.

        Raises:
            SpecError: The splits have columns of other names or types.
        """
        tables = {id(source.table): source.table for source in self.sources.values()}
        begins = dict(zip(tables, np.cumsum([0, *map(len, tables.values())]), strict=False))
        parts = [(begins[id(s.table)] + s.rows, s.labels) for s in self.sources.values()]
        rows, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(rows)
        return Source("test", _joined(list(tables.values())), rows[order], labels[order])

    def load(
        self,
        channels: Literal[1, 3],
        size: tuple[int, int],
        progress: Progress = lambda done, of: None,
        cores: int = 1,
    ) -> ImageData:
        """Decodes the images, or prepares for decoding them while training.

        Args:
            channels: 1 for gray, 3 for red, green and blue; images of the other kind are converted.
            size: Height and width in pixels.
            progress: Told how far long work has come.
            cores: Processors that this process has for decoding.

        Raises:
            SpecError: `normalize` has another number of channels.
            RunError: An image cannot be read and `unreadable` is `error`, or a split has no image
                that can.
        """
        spec = self.spec
        fixed = _fixed_statistics(spec, channels)  # fails before the long work
        decoder: AnyDecoder = Decoder.of(spec, channels, size)
        if isinstance(spec, PixelData):
            image = Decoder.of(spec, channels, size)
            decoder = WithMask.of(image, self.num_classes, spec.ignored)
        held = self._held(decoder.channels * size[0] * size[1])
        threads = min(cores, MOST_WORKERS if spec.workers == "auto" else spec.workers)
        loading = _Loading(decoder, spec, threads, _Counter(progress, sum(self.sizes.values())))
        splits: dict[Role, ImageSet] = {}
        problems: list[Problem] = []
        for role, source in self.sources.items():
            try:
                splits[role] = loading.in_memory(source) if role in held else loading.lazy(source)
            except RunError as error:  # the other splits are read nevertheless, to tell of all
                problems += error.problems
        if problems:
            raise RunError(problems)
        mean, std = fixed or loading.statistics(splits["train"])
        return ImageData(
            splits,
            self.class_names,
            mean,
            std,
            loading.unreadable,
            self.fingerprint,
            workers=threads,
            notes=self.notes,
        )

    def _held(self, image_bytes: int) -> set[Role]:
        """The splits that are decoded once and held in memory."""
        if self.spec.in_memory != "auto":
            return set(self.sources) if self.spec.in_memory else set()
        # Parts of training images are cut from the full ones, which may be of any size.
        crops = self.spec.augment.resized_crop is not None
        small = {role: size for role, size in self.sizes.items() if not (crops and role == "train")}
        return set(small) if sum(small.values()) * image_bytes <= MEMORY_BYTES else set()


class _Counter:
    """Adds up what several splits report."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, images: int) -> None:
        self.done += images
        self.progress(self.done, self.total)


@dataclass
class _Loading:
    """The state of one `load`."""

    decoder: AnyDecoder
    spec: CommonData
    threads: int
    counter: _Counter
    unreadable: list[tuple[Role, str, str]] = field(default_factory=list)

    def in_memory(self, source: Source) -> ImageSet:
        images, failures = decode_all(
            source, self.decoder, threads=self.threads, progress=self.counter
        )
        assert images is not None
        if not failures:
            return MemoryImages(source, self.decoder, images)
        readable = self._readable(source, failures)
        keep = torch.ones(len(source), dtype=torch.bool)
        keep[list(failures)] = False
        return MemoryImages(readable, self.decoder, images[keep])

    def lazy(self, source: Source) -> ImageSet:
        """A set that decodes on demand.

        Its length has to be right before the first batch, so that `skip` tries every image now. One
        pixel is enough for that: the whole file is read, at a JPEG's cheapest scale.
        """
        if self.spec.unreadable == "skip":
            one_pixel = self.decoder.of_one_pixel()
            _, failures = decode_all(
                source, one_pixel, threads=self.threads, progress=self.counter, keep=False
            )
            if failures:
                source = self._readable(source, failures)
        return LazyImages(source, self.decoder)

    def _readable(self, source: Source, failures: dict[int, str]) -> Source:
        """The source less what cannot be read.

        Raises:
            RunError: Such images are an error, or none is left.
        """
        if self.spec.unreadable == "error":
            raise _unreadable(source, failures)
        self.unreadable += [
            (source.split, source.name(place), reason) for place, reason in failures.items()
        ]
        if len(failures) == len(source):
            raise RunError(
                Problem(
                    f"none of the {len(source)} images of '{source.split}' can be read; the first, "
                    f"{source.name(0)}: {failures[0]}",
                    path="data",
                    fix="check that the image column holds encoded images, such as PNG or JPEG",
                    code="unreadable-image",
                )
            )
        return source.chosen(np.delete(np.arange(len(source)), list(failures)))

    def statistics(
        self, train: ImageSet
    ) -> tuple[Float32[Tensor, " channels"], Float32[Tensor, " channels"]]:
        colours = slice(self.decoder.colours)
        if isinstance(train, MemoryImages):
            return channel_statistics(train.images[:, colours])
        chosen = np.arange(len(train))
        if len(train) > STATISTICS_IMAGES:
            stream = random_stream(self.spec.seed, "statistics")
            chosen = np.sort(stream.permutation(len(train))[:STATISTICS_IMAGES])
        sample = train.source.chosen(chosen)
        images, failures = decode_all(sample, self.decoder, threads=self.threads)
        if failures:
            raise _unreadable(sample, failures)
        assert images is not None
        return channel_statistics(images[:, colours])


def _unreadable(source: Source, failures: dict[int, str]) -> RunError:
    problems = [
        problem
        for place, reason in list(failures.items())[:_NAMED_PROBLEMS]
        for problem in UnreadableImageError.of(source.name(place), reason).problems
    ]
    rest = len(failures) - len(problems)
    if rest:
        what = f"{rest} more images of '{source.split}' cannot be read"
        problems.append(Problem(what, path="data.unreadable", code="unreadable-image"))
    return RunError(problems)


def _divided(spec: CommonData, sources: dict[Role, Source]) -> dict[Role, Source]:
    """The roles in order, with test and validation set aside from train where they are missing."""
    parts = dict(sources)
    shares: dict[Role, float] = {"test": spec.test, "validation": spec.validation}
    for role, share in shares.items():
        if role not in parts and share > 0:
            train = parts["train"]
            stay, aside = set_aside(role, train.labels, share, spec.seed)
            parts["train"], parts[role] = train.chosen(stay), train.chosen(aside, role)
    limits: dict[Role, int | None] = {
        "train": spec.limit.train,
        "validation": spec.limit.validation,
        "test": spec.limit.test,
    }
    return {
        role: parts[role].chosen(limited(len(parts[role]), limit, spec.seed))
        for role, limit in limits.items()
        if role in parts
    }


def _joined(tables: "Sequence[datasets.Dataset]") -> "datasets.Dataset":
    if len(tables) == 1:
        return tables[0]
    from datasets import concatenate_datasets

    try:
        return concatenate_datasets(list(tables))
    except ValueError as error:
        what = "its splits cannot be joined, as their columns differ"
        fix = "evaluate one at a time: --split test"
        raise SpecError(Problem(what, path="data.splits", fix=fix, code="no-split")) from error


def _fixed_statistics(
    spec: CommonData, channels: int
) -> tuple[Float32[Tensor, " channels"], Float32[Tensor, " channels"]] | None:
    if spec.normalize == "auto":
        return None
    for name in ("mean", "std"):
        number = len(getattr(spec.normalize, name))
        if number not in (1, channels):
            raise SpecError(
                Problem(
                    f"{number} numbers for {channels} channel{'s' if channels > 1 else ''}",
                    path=f"data.normalize.{name}",
                    fix="give one for each channel of the model's input, or one for all",
                    code="wrong-channels",
                )
            )
    mean, std = (
        torch.tensor(values, dtype=torch.float32).expand(channels).clone()
        for values in (spec.normalize.mean, spec.normalize.std)
    )
    return mean, std
