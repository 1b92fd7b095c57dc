"""Images with a mask beside each: reading, checks, and changes that move both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nifbuild.data import Preprocess, open_data
from nifbuild.errors import NifbuildError, RunError, SpecError
from nifbuild.spec.augment import Augment


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Ten images 12x8 with masks, split by a folder: gray values are 20 times the class."""
    draw = np.random.RandomState(0)
    for number in range(10):
        split = "train" if number < 7 else "val"
        classes = draw.randint(0, 3, (8, 12)).astype(np.uint8)
        write(tmp_path / split / "images" / f"{number}.png", 20 * classes)
        write(tmp_path / split / "masks" / f"{number}.png", classes)
    return tmp_path


def write(path: Path, values: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def opened(spec: Any, folder: Path, size: tuple[int, int] = (8, 12), **fields: Any) -> Any:
    data = spec(source="segmentation", path=folder, **{"classes": ["a", "b", "c"], **fields})
    return open_data(data).load(1, size)


def batch_of(data: Any, split: str = "train") -> Any:
    images = data.splits[split]
    return images.__getitems__(range(len(images)))


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_come_with_their_masks(spec: Any, scenes: Path, in_memory: bool) -> None:
    data = opened(spec, scenes, in_memory=in_memory)
    assert data.class_names == ("a", "b", "c")
    assert {split: len(images) for split, images in data.splits.items()} == {
        "train": 6,
        "validation": 1,
        "test": 3,
    }
    for split in data.splits:
        batch = batch_of(data, split)
        assert torch.equal(batch["images"][:, 0], 20 * batch["labels"])
    every = torch.cat([batch_of(data, s)["images"] for s in ("train", "validation")])
    assert data.mean.item() == pytest.approx(every[:6].double().mean().item() / 255, rel=1e-6)


def test_one_folder_is_divided(spec: Any, scenes: Path) -> None:
    data = opened(spec, scenes / "train", classes=3)
    assert data.class_names == ("0", "1", "2")
    assert sum(map(len, data.splits.values())) == 7 and set(data.splits) >= {"train", "test"}


def test_numbers_of_a_palette_and_ignored_values(spec: Any, tmp_path: Path) -> None:
    classes = np.array([[0, 7, 1], [2, 7, 0]], np.uint8)
    palette = Image.fromarray(classes, "P")
    palette.putpalette([200, 0, 0, 0, 200, 0, 9, 9, 9] * 20)
    for number in range(4):
        write(tmp_path / f"images/{number}.png", classes)
        (tmp_path / "masks").mkdir(exist_ok=True)
        palette.save(tmp_path / f"masks/{number}.png")
    data = opened(spec, tmp_path, (2, 3), ignore_index=7, test=0, validation=0)
    assert batch_of(data)["labels"][0].tolist() == [[0, 255, 1], [2, 255, 0]]


def test_masks_are_cut_as_images_and_never_blended(spec: Any, scenes: Path) -> None:
    """Nearest values of both, at half the height: then one is still 20 times the other."""
    for resize, size in (("crop", (4, 4)), ("stretch", (4, 4)), ("crop", (16, 24))):
        data = opened(spec, scenes, size, resize=resize, interpolation="nearest")
        batch = batch_of(data)
        assert batch["labels"].shape == (6, *size)
        assert torch.equal(batch["images"][:, 0], 20 * batch["labels"])
    smooth = batch_of(opened(spec, scenes, (5, 7)))["labels"]
    assert set(smooth.unique().tolist()) == {0, 1, 2}


def test_crops_and_flips_move_both(spec: Any, scenes: Path) -> None:
    batch = batch_of(opened(spec, scenes))
    preprocess = Preprocess(Augment(crop=3, flip=0.5), 3, torch.zeros(1), torch.ones(1))
    moved = set()
    for seed in range(20):
        images, masks = preprocess.train(batch["images"], batch["labels"], seed)
        values = (images[:, 0] * 255).round()
        known = masks != 255
        assert torch.equal(values[known], 20.0 * masks[known])
        assert (values[~known] == 0).all()  # what the crop has added
        moved.add(masks.numpy().tobytes())
    assert len(moved) == 20
    alone, _ = preprocess.train(batch["images"], torch.zeros(6, dtype=torch.int64), 0)
    assert torch.equal(alone, preprocess.train(batch["images"], batch["labels"], 0)[0])


def test_the_fingerprint_is_of_masks_too(spec: Any, scenes: Path) -> None:
    before = opened(spec, scenes).fingerprint
    mask = scenes / "train/masks/3.png"
    write(mask, 2 - np.asarray(Image.open(mask)))
    assert opened(spec, scenes).fingerprint != before


def rgb(folder: Path) -> None:
    write(folder / "train/masks/3.png", np.zeros((8, 12, 3), np.uint8))


def jpeg(folder: Path) -> None:
    (folder / "train/masks/3.png").unlink()
    write(folder / "train/masks/3.jpg", np.zeros((8, 12), np.uint8))


def other_size(folder: Path) -> None:
    write(folder / "train/masks/3.png", np.zeros((8, 11), np.uint8))


def wrong_number(folder: Path) -> None:
    write(folder / "train/masks/3.png", np.full((8, 12), 3, np.uint8))


def no_mask(folder: Path) -> None:
    (folder / "train/masks/3.png").unlink()


def two_of_a_name(folder: Path) -> None:
    write(folder / "train/images/3.bmp", np.zeros((8, 12), np.uint8))


BROKEN = {
    rgb: r"3.png' .*its mask '.*masks/3.png': its pixels are no class numbers .*mode RGB",
    jpeg: r"its mask '.*masks/3.jpg': JPEG changes class numbers: write masks as PNG",
    other_size: r"its mask .*: it is 11x8 pixels wide and high, and the image 12x8",
    wrong_number: r"it has the value 3, and the 3 classes are 0 to 2; 255 is ignored",
    no_mask: r"there is no mask '.*train/masks/3.png' for the image '3'",
    two_of_a_name: r"3.bmp' and '.*3.png' have the same name but for the ending",
}


@pytest.mark.parametrize("damage", BROKEN)
def test_what_does_not_belong_together_is_told(spec: Any, scenes: Path, damage: Any) -> None:
    damage(scenes)
    with pytest.raises(RunError, match=f"(?s){BROKEN[damage]}"):
        opened(spec, scenes)


def test_images_with_a_broken_mask_are_left_out(spec: Any, scenes: Path) -> None:
    wrong_number(scenes)
    for in_memory in (True, False):
        data = opened(spec, scenes, unreadable="skip", in_memory=in_memory)
        assert sum(map(len, data.splits.values())) == 9
        ((split, name, reason),) = data.unreadable
        assert split in ("train", "validation") and "3.png" in name and "value 3" in reason


def test_folders_without_masks_are_told(spec: Any, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"(?s)no `images/` with `masks/`.*train/masks/NAME.png"):
        opened(spec, scenes / "train/images")
    with pytest.raises(SpecError, match="there is no folder"):
        opened(spec, tmp_path / "nowhere")


@pytest.mark.parametrize("fields", [{"classes": ["a"]}, {"classes": 1}, {"ignore_index": 256}])
def test_fields_out_of_range(spec: Any, fields: dict[str, Any]) -> None:
    with pytest.raises((NifbuildError, ValueError)):
        spec(source="segmentation", path="x", **{"classes": 3, **fields})
