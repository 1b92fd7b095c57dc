"""Training images as they are, and as training changes them at random."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from nifbuild.data import Catalog, ImageData, Preprocess
from nifbuild.data.batches import training_images
from nifbuild.data.decode import colours
from nifbuild.data.images import Source
from nifbuild.machine.processes import own_cores
from nifbuild.machine.seeds import derive_seed
from nifbuild.report.output_file import require_files, written_file
from nifbuild.report.show.plots import (
    COLORS,
    SCREEN,
    common_legend,
    fitting,
    in_plot,
    new_figure,
)
from nifbuild.runs.opened_data import open_for
from nifbuild.spec.common_data import Normalize
from nifbuild.spec.pixel_data import IGNORED
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nifbuild.spec.resolve import Resolved

OPTION = "--augmented"
ENDINGS = (".png", ".svg", ".pdf")

_ROWS, _COLUMNS = 6, 7
_LETTERS = 16
_GAP = 0.06
"""Between images, over their width."""
_OPACITY = 0.45
"""Of a mask over its image."""


@dataclass(frozen=True)
class AugmentedImages:
    """Some training images, and versions of them.

    Attributes:
        class_names: In the order of class numbers.
        labels: The class of each image, shape [images]; 0 where each pixel has one.
        originals: As evaluation would see them; black is 0, white is 1.
        versions: As a step of training sees them, in that many steps.
        masks: The class of each pixel of the originals, and of each version; None where an image
            has one class.
    """

    class_names: tuple[str, ...]
    labels: Int64[Tensor, " images"]
    originals: Float32[Tensor, "images channels height width"]
    versions: Float32[Tensor, "versions images channels height width"]
    masks: UInt8[Tensor, "versions_and_original images height width"] | None


def augmented_images(
    resolved: "Resolved", data: ImageData, rows: int = _ROWS, columns: int = _COLUMNS
) -> AugmentedImages:
    """Images from all over the training split, cut and changed as in the first epochs.

    Version n of all of them is what step n of training would make of them as its batch, in epoch n,
    both counted from 0; blends are of images that are shown.

    Args:
        resolved: Says how images are augmented.
        data: Its training images.
        rows: At most so many images.
        columns: So many versions of each.
    """
    assert resolved.spec.data is not None
    images = data.splits["train"]
    changed = training_images(data, resolved)
    preprocess = Preprocess(resolved.spec.data.augment, len(data.class_names), data.mean, data.std)
    places = torch.linspace(0, len(images) - 1, min(rows, len(images))).round().long().tolist()
    original = images.__getitems__(places)
    versions, masks = [], [original["labels"]]
    for number in range(columns):
        changed.set_epoch(number)
        batch = changed.__getitems__(places)
        seed = derive_seed(resolved.spec.train.seed, "augment", number, 0, 0)
        pixels, targets = preprocess.train(batch["images"], batch["labels"], seed=seed)
        versions.append(pixels)
        masks.append(targets)
    changed.set_epoch(0)
    mean, std = (values.view(-1, 1, 1) for values in (data.mean, data.std))
    return AugmentedImages(
        data.class_names,
        images.labels[places],
        original["images"] / 255,
        (torch.stack(versions) * std + mean).clamp(0, 1),
        torch.stack(masks) if resolved.graph.output_shape.is_image else None,
    )


def require_writable(path: Path, *, overwrite: bool) -> None:
    """Raises SpecError unless the picture can be written there."""
    require_files(OPTION, [path], ENDINGS, overwrite=overwrite)


def save_augmented(resolved: "Resolved", path: Path, *, overwrite: bool) -> None:
    """Draws training images of a spec to a file; little more than those are decoded.

    Raises:
        SpecError: The spec has no data, or it does not suit the model.
        RunError: An image cannot be read, or the file cannot be written.
    """
    catalog, resolved = open_for(resolved)
    shape = resolved.spec.input
    data = _enough(catalog).load(colours(shape.channels), shape.size, cores=own_cores())
    figure = plot_augmented(augmented_images(resolved, data))
    with written_file(OPTION, path, overwrite=overwrite) as file:
        SCREEN.save(figure, file)


def _enough(catalog: Catalog) -> Catalog:
    """The data, without the long work that has no effect on what is drawn."""
    spec = catalog.spec
    if spec.augment.erasing:  # to the mean colour, which is known once all images were seen
        return catalog
    cut_from_held = spec.in_memory is True and spec.augment.resized_crop is not None
    changes = {
        "normalize": Normalize(mean=(0.0,), std=(1.0,)),
        "in_memory": cut_from_held,
    }
    only: dict[Role, Source] = {"train": catalog.sources["train"]}
    return replace(catalog, spec=spec.model_copy(update=changes), sources=only)


@SCREEN.applied()
def plot_augmented(found: AugmentedImages) -> "Figure":
    """A row for each image: its class, the image, its versions."""
    rows, columns = len(found.originals), len(found.versions)
    height, width = found.originals.shape[2:]
    aspect = height / width
    cell = 10 / (columns + 2)
    figure = new_figure(11, 0.6 + rows * cell * aspect * (1 + _GAP))
    axes = figure.subplots()
    axes.axis("off")
    across = columns + 1.25 + columns * _GAP
    axes.set(xlim=(0, across), ylim=(rows * aspect * (1 + _GAP), 0), aspect="equal")
    for row in range(rows):
        images = (found.originals[row], *found.versions[:, row])
        for column, image in enumerate(images):
            left = column * (1 + _GAP) + (0.25 if column else 0)
            top = row * aspect * (1 + _GAP)
            extent = (left, left + 1, top + aspect, top)
            _draw(axes, image, extent)
            if found.masks is not None:
                _draw_mask(axes, found.masks[column, row], extent)
        if found.masks is None:
            name = in_plot(fitting(found.class_names[int(found.labels[row])], _LETTERS))
            middle = (row * (1 + _GAP) + 0.5) * aspect
            axes.text(-0.08, middle, name, ha="right", va="center")
    axes.text(0, -0.05, "image", ha="left", va="bottom")
    axes.text(1.25 + _GAP, -0.05, "as training sees it", ha="left", va="bottom")
    if found.masks is not None:
        _legend(figure, axes, found)
    return figure


def _draw(axes: "Axes", image: Tensor, extent: tuple[float, float, float, float]) -> None:
    pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")


def _draw_mask(axes: "Axes", mask: Tensor, extent: tuple[float, float, float, float]) -> None:
    from matplotlib.colors import to_rgba

    looks = [to_rgba(COLORS[index % len(COLORS)], _OPACITY) for index in range(IGNORED)]
    looks.append((0.0, 0.0, 0.0, 0.0))
    axes.imshow(torch.tensor(looks)[mask.long()].numpy(), extent=extent, interpolation="nearest")


def _legend(figure: "Figure", axes: "Axes", found: AugmentedImages) -> None:
    for name, color in _coloured(found.class_names):
        axes.plot([], [], marker="s", linestyle="", color=color, alpha=0.6, label=name)
    common_legend(figure, axes, columns=4)


def _coloured(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Classes with a colour of their own."""
    for name, color in zip(names, COLORS, strict=False):
        yield in_plot(fitting(name, _LETTERS)), color
