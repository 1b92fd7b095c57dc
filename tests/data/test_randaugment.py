"""Each operation against Pillow's, which the paper used."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nifbuild.data.randaugment import (
    GEOMETRIC,
    OPERATIONS,
    PHOTOMETRIC,
    apply_operations,
    randaugment,
)
from nifbuild.spec.augment import RandAugment

RNG = np.random.default_rng(0)


def image(channels: int = 3, size: int = 32) -> Image.Image:
    """Smooth colours, with some noise and less than the full range."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(5 * x + 3 * y + k) * np.cos(4 * y - k * x) for k in range(channels)]
    pixels = 128 + 70 * np.stack(waves, -1) + RNG.integers(-20, 21, (size, size, channels))
    pixels = pixels.astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def tensor(picture: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(picture))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return pixels[None].float() / 255


def apply(name: str, picture: Image.Image, amount: float) -> np.ndarray:
    chosen = torch.tensor([OPERATIONS.index(name)])
    return apply_operations(tensor(picture), chosen, torch.tensor([amount]))[0].numpy() * 255


def enhancer(kind: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, amount: kind(picture).enhance(1 + 0.9 * amount)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda picture, amount: ImageOps.autocontrast(picture),
    "equalize": lambda picture, amount: ImageOps.equalize(picture),
    "solarize": lambda picture, amount: ImageOps.solarize(picture, 256 - int(256 * abs(amount))),
    "posterize": lambda picture, amount: ImageOps.posterize(picture, 8 - round(4 * abs(amount))),
    "color": enhancer(ImageEnhance.Color),
    "contrast": enhancer(ImageEnhance.Contrast),
    "brightness": enhancer(ImageEnhance.Brightness),
    "sharpness": enhancer(ImageEnhance.Sharpness),
}


def test_the_paper_has_fourteen_operations() -> None:
    assert len(OPERATIONS) == 14
    assert tuple(PILLOW) == PHOTOMETRIC


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("amount", [-1.0, -0.4, 0.3, 1.0])
@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_colour_operations_are_those_of_pillow(name: str, amount: float, channels: int) -> None:
    picture = image(channels)
    expected = tensor(PILLOW[name](picture, amount))[0].numpy() * 255
    result = apply(name, picture, amount)
    # Pillow rounds to bytes at each step.
    different = np.abs(result - expected) > 2
    assert different.mean() <= (0.02 if name == "equalize" else 0), np.abs(result - expected).max()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("amount", [-0.7, 0.35, 1.0])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_are_those_of_pillow(name: str, amount: float, channels: int) -> None:
    picture = image(channels)
    size, middle = 32, 15.5
    angle = np.deg2rad(30 * amount * (name == "rotate"))
    shear_x, shear_y = 0.3 * amount * (name == "shear_x"), 0.3 * amount * (name == "shear_y")
    linear = np.array(
        [[np.cos(angle), np.sin(angle) + shear_x], [-np.sin(angle) + shear_y, np.cos(angle)]]
    )
    shift = 150 / 331 * size * amount * np.array([name == "translate_x", name == "translate_y"])
    # Pillow asks where each pixel comes from, and counts from the corner of a pixel.
    inverse = np.linalg.inv(linear)
    offset = (middle + 0.5) - inverse @ (middle + 0.5 + shift)
    coefficients = np.column_stack([inverse, offset]).flatten().tolist()
    moved = picture.transform(
        (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    expected = tensor(moved)[0].numpy() * 255
    result = apply(name, picture, amount)
    inside = (expected.min(0) > 0) & (result.min(0) > 30)  # borders are blended differently
    assert inside.mean() > 0.4
    difference = np.abs(result - expected)[:, inside]
    assert np.quantile(difference, 0.95) <= 2
    assert (difference > 8).mean() < 0.05


def test_translation_by_whole_pixels_is_a_shift() -> None:
    picture = image()
    amount = 4 / (150 / 331 * 32)
    result = apply("translate_x", picture, amount)
    expected = np.zeros((3, 32, 32))
    expected[:, :, 4:] = (tensor(picture)[0].numpy() * 255)[:, :, :-4]
    assert np.allclose(result, expected, atol=0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted({*OPERATIONS} - {"autocontrast", "equalize"}))
def test_no_strength_is_no_change(name: str, channels: int) -> None:
    picture = image(channels)
    white = np.array(picture)
    white[:4] = 255
    for given in (picture, Image.fromarray(white)):
        assert np.allclose(apply(name, given, 0.0), tensor(given)[0].numpy() * 255, atol=0.02)


def test_a_flat_image_stays() -> None:
    flat = Image.new("RGB", (8, 8), (10, 100, 200))
    assert np.allclose(apply("autocontrast", flat, 1.0), tensor(flat)[0].numpy() * 255, atol=0.01)


def test_images_of_a_batch_are_changed_as_if_alone() -> None:
    pictures = torch.cat([tensor(image()) for _ in OPERATIONS])
    before = pictures.clone()
    amounts = torch.linspace(-1, 1, len(OPERATIONS))
    order = torch.randperm(len(OPERATIONS), generator=torch.Generator().manual_seed(0))
    together = apply_operations(pictures, order, amounts)
    for i in range(len(order)):
        alone = apply_operations(pictures[i : i + 1], order[i : i + 1], amounts[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-6)
    assert torch.equal(pictures, before)
    assert together.min() >= 0
    assert together.max() <= 1


def test_operations_and_signs_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "nifbuild.data.randaugment.apply_operations", lambda *given: drawn.append(given) or given[0]
    )
    randaugment(torch.zeros(1400, 1, 1, 1), RandAugment(num_ops=3, magnitude=12))
    assert len(drawn) == 3
    chosen = torch.cat([given[1] for given in drawn])
    amounts = torch.cat([given[2] for given in drawn])
    assert not torch.equal(drawn[0][1], drawn[1][1])
    counts = torch.bincount(chosen, minlength=14)  # by chance 300 each
    assert len(counts) == 14
    assert counts.min() > 230
    assert counts.max() < 370
    assert torch.allclose(amounts.abs(), torch.tensor(0.4))
    assert 1900 < (amounts > 0).sum() < 2300
    assert 90 < (amounts[chosen == 5] > 0).sum() < 210


def test_stronger_magnitudes_change_more() -> None:
    pictures = torch.cat([tensor(image()) for _ in range(64)])
    changes = []
    for magnitude in (1, 10, 20, 30):
        torch.manual_seed(0)
        result = randaugment(pictures, RandAugment(num_ops=1, magnitude=magnitude))
        changes.append((result - pictures).abs().mean().item())
    assert changes == sorted(changes)
    assert changes[-1] > 2 * changes[0]


def test_more_operations_change_more() -> None:
    pictures = torch.cat([tensor(image()) for _ in range(64)])
    changed = []
    for number in (1, 3):
        torch.manual_seed(0)
        result = randaugment(pictures, RandAugment(num_ops=number, magnitude=15))
        changed.append((result != pictures).flatten(1).any(1).sum().item())
    assert changed[0] < 64  # the identity is one of the operations
    assert changed[1] > changed[0]


# AutoAugment (arXiv 1805.09501), table 6: how far each goes at the largest magnitude; what
# RandAugment takes over. The colours by a factor of 0.1 to 1.9, from 1 one way or the other.
STRONGEST_FACTOR = 0.9


@pytest.mark.parametrize(("magnitude", "largest"), [(9, 10), (9, 30), (10, 10), (27, 30)])
def test_the_scale_of_magnitudes(magnitude: int, largest: int) -> None:
    picture = image()
    share = magnitude / largest
    torch.manual_seed(0)
    spec = RandAugment(num_ops=1, magnitude=magnitude, max_magnitude=largest)
    results = randaugment(tensor(picture).repeat(300, 1, 1, 1), spec).numpy() * 255

    def drawn(expected: Image.Image) -> bool:
        return bool(
            (np.abs(results - np.array(expected).transpose(2, 0, 1)) <= 2).all((1, 2, 3)).any()
        )

    for kind in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
        for sign in (1, -1):
            assert drawn(kind(picture).enhance(1 + sign * STRONGEST_FACTOR * share))
        assert not drawn(kind(picture).enhance(1 + STRONGEST_FACTOR * (share + 0.25)))
    assert drawn(ImageOps.solarize(picture, 256 - int(256 * share)))
    assert drawn(ImageOps.posterize(picture, 8 - round(4 * share)))


def test_the_default_scale_is_that_of_torchvision() -> None:
    """`RandAugment(num_ops=2, magnitude=9, num_magnitude_bins=31)`: 9 of 30."""
    assert RandAugment().model_dump() == {"num_ops": 2, "magnitude": 9, "max_magnitude": 30}


@pytest.mark.parametrize("amount", [k / 30 for k in (0, 1, 9, 15, 29, 30)])
def test_solarize_inverts_from_its_threshold_on(amount: float) -> None:
    levels = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    threshold = 256 - int(256 * amount + 1e-9)
    expected = np.array(ImageOps.solarize(levels, threshold)).astype(float)
    assert np.allclose(apply("solarize", levels, amount)[0], expected, atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 2), (2, 2), (3, 3)])
def test_images_with_short_sides(size: tuple[int, int]) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8))
    for name in PHOTOMETRIC:
        expected = tensor(PILLOW[name](picture, 0.7))[0].numpy() * 255
        assert np.abs(apply(name, picture, 0.7) - expected).max() <= 2, name
    torch.manual_seed(0)
    result = randaugment(tensor(picture).repeat(64, 1, 1, 1), RandAugment(num_ops=4))
    assert torch.isfinite(result).all()
