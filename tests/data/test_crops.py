"""What is seen of an image, against torchvision's rules, written out here with Pillow alone."""

import functools
import io
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from nifbuild import load_spec
from nifbuild.data import open_data
from nifbuild.data.batches import training_images
from nifbuild.data.crops import RandomCrops, random_box
from nifbuild.data.decode import Decoder
from nifbuild.data.images import LazyImages, MemoryImages

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SIZES = [(90, 60), (61, 97), (33, 33), (7, 300), (300, 7), (1, 40), (2, 1), (160, 120)]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Waves and noise, in colour, so that no two places are alike."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = np.stack([np.sin(x / 9 + y / 5), np.cos(x / 17 - y / 11), np.sin((x + y) / 31)], -1)
    noise = np.random.RandomState(seed).uniform(-0.2, 0.2, waves.shape)
    return Image.fromarray(np.rint(127.5 + 100 * (waves + noise).clip(-1.2, 1.2)).astype(np.uint8))


def as_file(image: Image.Image, kind: str = "PNG", orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **options)
    return file.getvalue()


def opened(content: bytes, channels: int) -> Image.Image:
    """As torchvision's reference opens it, and upright."""
    image = Image.open(io.BytesIO(content))
    return ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")


def array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)


def reference_training(
    image: Image.Image,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draw: Callable[[], float],
    kind: str,
) -> np.ndarray:
    """`RandomResizedCrop`: `get_params`, then `resized_crop`; `size` is height and width."""
    width, height = image.size
    for _ in range(10):
        target_area = width * height * (scale[0] + draw() * (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect_ratio = math.exp(low + draw() * (high - low))
        w = int(round(math.sqrt(target_area * aspect_ratio)))  # noqa: RUF046
        h = int(round(math.sqrt(target_area / aspect_ratio)))  # noqa: RUF046
        if 0 < w <= width and 0 < h <= height:
            i = math.floor(draw() * (height - h + 1))
            j = math.floor(draw() * (width - w + 1))
            break
    else:
        w, h = width, height
        if width / height < min(ratio):
            h = round(w / min(ratio))
        elif width / height > max(ratio):
            w = round(h * max(ratio))
        i, j = (height - h) // 2, (width - w) // 2
    cut = image.crop((j, i, j + w, i + h))
    return array(cut.resize(size[::-1], RESAMPLING[kind]))


def reference_evaluation(image: Image.Image, size: int, share: float, kind: str) -> np.ndarray:
    """`Resize(size / share)`, then `CenterCrop(size)`."""
    width, height = image.size
    short = round(size / share)
    if width <= height:
        image = image.resize((short, int(short * height / width)), RESAMPLING[kind])
    else:
        image = image.resize((int(short * width / height), short), RESAMPLING[kind])
    top, left = round((image.height - size) / 2.0), round((image.width - size) / 2.0)
    return array(image.crop((left, top, left + size, top + size)))


def draws(seed: int, epoch: int, index: int) -> Callable[[], float]:
    return random.Random(f"crop/{seed}/{epoch}/{index}").random


# Pixels ------------------------------------------------------------------------------------------


@functools.cache
def files(size: tuple[int, int]) -> dict[str, bytes]:
    """An image in kinds of files that keep every pixel, one of them turned; gray and CMYK, too."""
    image = picture(*size)
    stored = {f"turned {way}": as_file(image, orientation=way) for way in range(2, 9)}
    gray = as_file(image.convert("L"))
    cmyk = as_file(image.convert("CMYK"), "TIFF", compression="tiff_lzw")
    return {"png": as_file(image), "gray": gray, "cmyk": cmyk, **stored}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_training_crops_are_torchvisions_bit_for_bit(size: tuple[int, int], channels: Any) -> None:
    for scale, ratio, kind in (
        ((0.08, 1.0), (3 / 4, 4 / 3), "bilinear"),
        ((0.5, 0.6), (0.2, 3.0), "bicubic"),
        ((0.9, 1.0), (1.0, 1.0), "nearest"),  # of few images any fits
    ):
        crops = RandomCrops(scale, ratio, seed=5)
        decoder = Decoder(channels, 24, 30, interpolation=kind)  # type: ignore[arg-type]
        for index, (name, content) in enumerate(files(size).items()):
            for epoch in (0, 3):
                found = decoder(content, partial(crops.box, epoch, index))
                image, draw = opened(content, channels), draws(5, epoch, index)
                expected = reference_training(image, (24, 30), scale, ratio, draw, kind)
                assert np.array_equal(found, expected), (name, kind, epoch)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_is_torchvisions_bit_for_bit(size: tuple[int, int], channels: Any) -> None:
    for share, kind in ((1.0, "bilinear"), (0.875, "bilinear"), (0.5, "bicubic"), (0.7, "nearest")):
        decoder = Decoder(channels, 28, 28, "crop", kind, share)  # type: ignore[arg-type]
        for name, content in files(size).items():
            expected = reference_evaluation(opened(content, channels), 28, share, kind)
            assert np.array_equal(decoder(content), expected), (name, kind, share)


@pytest.mark.parametrize(
    ("mode", "orientation", "size"),
    [
        *(("RGB", way, (500, 375)) for way in range(1, 9)),
        *((mode, 6, (400, 799)) for mode in ("L", "CMYK", "RGB")),
        *(("RGB", way, (1203, 160)) for way in (1, 7)),
    ],
)
def test_reduced_jpeg_decoding_stays_close(
    mode: str, orientation: int, size: tuple[int, int]
) -> None:
    """Within 1.5 of 255 steps on average and 20 anywhere, of a picture that is a fifth noise."""
    content = as_file(picture(*size).convert(mode), "JPEG", orientation, quality=92)
    image, scale, ratio = opened(content, 3), (0.08, 1.0), (3 / 4, 4 / 3)
    crops = RandomCrops(scale, ratio, seed=1)
    decoder = Decoder(3, 32, 32, crop_share=0.875)
    pairs = [(decoder(content), reference_evaluation(image, 32, 0.875, "bilinear"))]
    for index in range(8):
        expected = reference_training(image, (32, 32), scale, ratio, draws(1, 2, index), "bilinear")
        pairs.append((decoder(content, partial(crops.box, 2, index)), expected))
    differences = [np.abs(a.astype(int) - b.astype(int)) for a, b in pairs]
    assert max(d.mean() for d in differences) <= 1.5
    assert max(d.max() for d in differences) <= 20


def test_a_part_that_the_input_size_nearly_fills_is_decoded_in_full() -> None:
    """Then a JPEG file is no exception: bit for bit."""
    content = as_file(picture(90, 70), "JPEG", 6, quality=92)
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    decoder, crops = Decoder(3, 64, 64), RandomCrops(scale, ratio, seed=0)
    for index in range(5):
        draw = draws(0, 0, index)
        expected = reference_training(opened(content, 3), (64, 64), scale, ratio, draw, "bilinear")
        assert np.array_equal(decoder(content, partial(crops.box, 0, index)), expected)


def test_stretched_images_are_cut_too() -> None:
    image = picture(50, 90)
    expected = array(image.resize((40, 32), RESAMPLING["bilinear"]).crop((10, 8, 30, 24)))
    assert np.array_equal(Decoder(3, 16, 20, "stretch", crop_share=0.5)(as_file(image)), expected)


def test_an_image_of_any_length_takes_little_memory() -> None:
    """Of a ribbon the middle is scaled, and looks as that of a shorter one."""
    ribbon = Image.fromarray(np.tile(np.asarray(picture(40, 2)), (1, 1500, 1)))
    found = Decoder(3, 16, 16, crop_share=0.5)(as_file(ribbon)).astype(int)
    middle = ribbon.crop((ribbon.width // 2 - 40, 0, ribbon.width // 2 + 40, 2))
    expected = reference_evaluation(middle, 16, 0.5, "bilinear").astype(int)
    assert np.abs(found - expected).max() <= 3


# The rule ----------------------------------------------------------------------------------------


def test_a_box_by_hand() -> None:
    numbers = iter([0.5, 0.0, 0.25, 0.75])
    # Half of 10,000 pixels: a square of round(sqrt(5000)) = 71; 30 places for each edge.
    assert random_box((100, 100), (0.5, 0.5), (1, 1), lambda: next(numbers)) == (22, 7, 93, 78)


def test_the_tenth_try_counts_and_the_eleventh_is_not_made() -> None:
    def tries(fitting: int) -> list[float]:
        """Before the one that fits, shapes four times as wide as a square image allows."""
        return [1.0, 1.0] * fitting + [0.0, 0.0, 0.0, 0.0]

    numbers = iter(tries(9))
    assert random_box((64, 64), (0.25, 1), (1, 4), lambda: next(numbers)) == (0, 0, 32, 32)
    numbers = iter(tries(10))
    assert random_box((64, 64), (0.25, 1), (1, 4), lambda: next(numbers)) == (0, 0, 64, 64)
    assert len(list(numbers)) == 4


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((100, 10), (43, 0, 56, 10)),  # round(10 * 4/3) = 13 wide
        ((10, 100), (0, 43, 10, 56)),
        ((1, 1), (0, 0, 1, 1)),
        ((1, 500), (0, 249, 1, 250)),
    ],
)
def test_the_fallback_is_the_middle(size: tuple[int, int], box: tuple[int, ...]) -> None:
    assert random_box(size, (0.9, 1), (3 / 4, 4 / 3), lambda: 0.999) == box


def test_parts_are_spread_as_asked() -> None:
    crops = RandomCrops((0.1, 0.5), (0.5, 2.0), seed=0)
    boxes = np.array([crops.box(0, index, (400, 400)) for index in range(4000)])
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, aspects = across * down / 400**2, np.log(across / down)
    assert np.allclose(np.quantile(areas, [0, 0.5, 1]), [0.1, 0.3, 0.5], atol=0.02)
    assert np.allclose(np.quantile(aspects, [0, 0.5, 1]), np.log([0.5, 1, 2]), atol=0.05)
    shares = boxes[:, 0] / np.maximum(1, 400 - across)
    assert np.allclose(np.quantile(shares, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    other = [crops.box(1, index, (400, 400)) for index in range(4000)]
    assert sum(tuple(a) == b for a, b in zip(boxes.tolist(), other, strict=True)) < 5


# Sets --------------------------------------------------------------------------------------------


def training_set(data: Any, **fields: Any) -> Any:
    """The training images of a spec with this data section."""
    overrides = [f"data.{name}={value}" for name, value in fields.items()]
    resolved = load_spec(data, overrides=overrides)
    assert resolved.spec.data is not None
    catalog = open_data(resolved.spec.data)
    return catalog, training_images(catalog.load(3, (16, 16)), resolved)


@pytest.fixture
def spec_with_photos(folder: Any, tmp_path: Any) -> Any:
    root = folder({"train/cat": 3, "train/dog": 3, "test/cat": 2})
    for at, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(as_file(picture(60 + at, 45, at)))
    path = tmp_path / "spec.yaml"
    path.write_text(
        "extends: nifbuild:resnet18\nname: x\ndata: {source: imagefolder, size: [16, 16],"
        f" path: {root}, validation: 0, augment: {{resized_crop: [0.2, 1]}}}}\ntrain: {{seed: 4}}\n"
    )
    return path


def test_the_full_image_is_cut_and_only_for_training(spec_with_photos: Any) -> None:
    catalog, images = training_set(spec_with_photos)
    data = catalog.load(3, (16, 16))
    assert isinstance(images, LazyImages)
    assert isinstance(data.splits["test"], MemoryImages)
    whole = images.source
    for epoch in (0, 7):
        images.set_epoch(epoch)
        batch = images.__getitems__([5, 2])
        for place, found in zip((5, 2), batch["images"], strict=True):
            image = Image.open(whole.name(place).strip("'"))
            draw, ranges = draws(4, epoch, place), ((0.2, 1.0), (3 / 4, 4 / 3))
            expected = reference_training(image, (16, 16), *ranges, draw, "bilinear")
            assert np.array_equal(found.numpy(), expected)
    plain = data.splits["train"].__getitems__([5])["images"][0]
    image = Image.open(whole.name(5).strip("'"))
    assert np.array_equal(plain.numpy(), reference_evaluation(image, 16, 1.0, "bilinear"))


def test_what_is_held_in_memory_is_cut_from_what_is_held(spec_with_photos: Any) -> None:
    catalog, images = training_set(spec_with_photos, in_memory="true")
    assert isinstance(images, MemoryImages)
    held = catalog.load(3, (16, 16)).splits["train"].__getitems__(range(6))["images"]
    images.set_epoch(2)
    for place, found in enumerate(images.__getitems__(range(6))["images"]):
        image = Image.fromarray(held[place].permute(1, 2, 0).numpy())
        draw, ranges = draws(4, 2, place), ((0.2, 1.0), (3 / 4, 4 / 3))
        expected = reference_training(image, (16, 16), *ranges, draw, "bilinear")
        assert np.array_equal(found.numpy(), expected)


def test_the_short_form_and_the_seed_of_training(spec_with_photos: Any) -> None:
    def first(**fields: Any) -> bytes:
        _, images = training_set(spec_with_photos, **fields)
        batch: bytes = images.__getitems__([0])["images"].numpy().tobytes()
        return batch

    same = first(**{"augment.resized_crop": "{scale: [0.2, 1]}"})
    assert first() == same
    assert first(**{"augment.resized_crop": "{scale: [0.2, 1], ratio: [1, 1]}"}) != same
    assert first(**{"augment.resized_crop": "[0.2, 0.3]"}) != same
    text = spec_with_photos.read_text()
    spec_with_photos.write_text(text.replace("seed: 4", "seed: 5"))
    assert first() != same
