"""Random changes of batches, each against what it should be in plain NumPy."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from nifbuild.data import Preprocess
from nifbuild.spec.augment import Augment

MEAN = {1: torch.tensor([0.4]), 3: torch.tensor([0.1, 0.4, 0.7])}
STD = {1: torch.tensor([0.2]), 3: torch.tensor([0.2, 0.3, 0.5])}
EVERYTHING: dict[str, Any] = {
    "crop": 2,
    "flip": 0.5,
    "randaugment": {"num_ops": 2, "magnitude": 9},
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}
ALONE = [{name: value} for name, value in EVERYTHING.items()]


def preprocess(channels: int = 3, num_classes: int = 10, **augment: Any) -> Preprocess:
    return Preprocess(
        Augment.model_validate(augment, strict=True), num_classes, MEAN[channels], STD[channels]
    )


def batch(number: int = 32, channels: int = 3, height: int = 12, width: int = 10) -> Any:
    generator = torch.Generator().manual_seed(1)
    shape = (number, channels, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return images, torch.arange(number) % 10


def bytes_of(pixels: torch.Tensor) -> np.ndarray:
    """Undoes normalisation."""
    channels = pixels.shape[1]
    values = pixels * STD[channels].view(-1, 1, 1) + MEAN[channels].view(-1, 1, 1)
    return (values * 255).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_eval_normalises(channels: int) -> None:
    images, _ = batch(channels=channels)
    result = preprocess(channels, **EVERYTHING).eval(images)
    mean, std = (s[channels].numpy()[:, None, None] for s in (MEAN, STD))
    assert result.dtype == torch.float32
    assert np.allclose(result, (images.numpy() / 255 - mean) / std, atol=1e-6)


def test_without_augmentation_train_is_eval() -> None:
    images, labels = batch()
    pixels, targets = preprocess().train(images, labels, seed=0)
    assert torch.equal(pixels, preprocess().eval(images))
    assert torch.equal(targets, labels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", [*ALONE, EVERYTHING], ids=lambda a: "+".join(a))
def test_a_seed_fixes_everything(augment: dict[str, Any], channels: int) -> None:
    images, labels = batch(channels=channels)
    before = images.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = preprocess(channels, **augment).train(images, labels, seed=5)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    torch.manual_seed(123), random.seed(9), np.random.seed(4)
    again = preprocess(channels, **augment).train(images, labels, seed=5)
    other = preprocess(channels, **augment).train(images, labels, seed=6)
    assert torch.equal(images, before)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == images.shape
    assert first[0].dtype == torch.float32
    assert first[0].isfinite().all()


@pytest.mark.parametrize("augment", ALONE, ids=lambda a: "+".join(a))
def test_equal_images_of_a_batch_are_changed_differently(augment: dict[str, Any]) -> None:
    image = batch(1)[0]
    others = batch(16)[0]
    images = image.expand(16, -1, -1, -1).contiguous()
    if augment.keys() & {"mixup", "cutmix"}:
        images = torch.cat([images[:8], others[8:]])  # blending with itself changes nothing
    pixels, _ = preprocess(**augment).train(images, torch.zeros(16, dtype=torch.long), seed=0)
    assert len({p.numpy().round(4).tobytes() for p in pixels[:8]}) >= (
        2 if "flip" in augment else 4
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_of_one(channels: int) -> None:
    images, labels = batch(1, channels)
    for seed in range(10):
        pixels, targets = preprocess(channels, **EVERYTHING).train(images, labels, seed)
        assert pixels.shape == images.shape
        assert targets.tolist() == [[1.0] + [0.0] * 9]


@pytest.mark.parametrize(("height", "width"), [(12, 10), (10, 12), (7, 7)])
def test_crops_are_windows_of_the_padded_image(height: int, width: int) -> None:
    images, labels = batch(300, 3, height, width)
    cropped = bytes_of(preprocess(crop=2).train(images, labels, seed=0)[0])
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    places = []
    for image, result in zip(padded, cropped, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.allclose(image[:, top : top + height, left : left + width], result, atol=1e-3)
        ]
        places += found
        assert len(found) == 1
    counts = [places.count((top, left)) for top in range(5) for left in range(5)]
    assert min(counts) >= 2  # by chance 12 of 300
    assert max(counts) <= 26


def test_flips_are_mirror_images_with_their_probability() -> None:
    images, labels = batch(400)
    flipped = bytes_of(preprocess(flip=0.3).train(images, labels, seed=0)[0])
    mirrored = [
        np.allclose(r, i[..., ::-1], atol=1e-3)
        for r, i in zip(flipped, images.numpy(), strict=True)
    ]
    same = [np.allclose(r, i, atol=1e-3) for r, i in zip(flipped, images.numpy(), strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 80 <= sum(mirrored) <= 160
    every = bytes_of(preprocess(flip=1.0).train(images, labels, seed=0)[0])
    assert np.allclose(every, images.numpy()[..., ::-1], atol=1e-3)


def test_erased_places_are_rectangles_of_the_mean_colour() -> None:
    images, labels = batch(300, 3, 30, 24)
    plain = preprocess().eval(images)
    erased = preprocess(erasing=0.4).train(images, labels, seed=0)[0]
    changed = (erased != plain).any(1).numpy()
    shares = []
    for mask, result in zip(changed, erased, strict=True):
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = result[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (box == 0).all()
            assert mask.sum() == box[0].numel()
            shares.append(box[0].numel() / mask.size)
    assert 85 <= len(shares) <= 155
    assert 0.01 < min(shares) < 0.05
    assert 0.25 < max(shares) <= 0.36


def blended(name: str, alpha: float, number: int = 64) -> Any:
    """Blends images of which each has a colour and a class of its own."""
    images = (torch.arange(number) * 4 % 256).to(torch.uint8).view(-1, 1, 1, 1)
    images = images.expand(-1, 3, 20, 16).contiguous()
    module = preprocess(num_classes=number, **{name: alpha})
    assert module.blends
    return images.numpy(), *module.train(images, torch.arange(number), seed=0)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_targets_are_the_shares_of_the_images(name: str, alpha: float) -> None:
    images, pixels, targets = blended(name, alpha)
    assert targets.dtype == torch.float32
    assert torch.allclose(targets.sum(1), torch.ones(64), atol=1e-6)
    assert ((targets > 0).sum(1) <= 2).all()
    colours = images[:, 0, 0, 0].astype(float)
    assert np.allclose(bytes_of(pixels).mean((1, 2, 3)), targets.numpy() @ colours, atol=0.02)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_each_partner_serves_once(name: str) -> None:
    _, _, targets = blended(name, 1.0)
    partners = targets.clone().fill_diagonal_(0).argmax(1)[targets.diagonal() < 1]
    assert len(partners.unique()) == len(partners) > 50


@pytest.mark.parametrize(("alpha", "spread"), [(0.2, 0.25 / 1.4), (1.0, 1 / 12), (8.0, 0.25 / 17)])
def test_mixup_shares_follow_the_beta_distribution(alpha: float, spread: float) -> None:
    _, _, targets = blended("mixup", alpha, number=2000)
    share = targets.diagonal().numpy()
    assert abs(share.mean() - 0.5) < 0.05
    assert share.var() == pytest.approx(spread, rel=0.15)


def test_mixup_is_even_over_the_image() -> None:
    _, pixels, _ = blended("mixup", 1.0)
    assert (bytes_of(pixels).std((2, 3)) < 1e-3).all()


def test_cutmix_replaces_a_rectangle() -> None:
    images, pixels, targets = blended("cutmix", 1.0)
    values = bytes_of(pixels)[:, 0].round().astype(int)
    for own, result, target in zip(images[:, 0, 0, 0], values, targets, strict=True):
        mask = result != own
        if not mask.any():
            continue
        assert len(np.unique(result[mask])) == 1
        rows, columns = mask.any(1), mask.any(0)
        assert np.array_equal(mask, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert np.diff(np.flatnonzero(line)).max(initial=1) == 1
        partner = target.clone()
        partner[int(own) // 4] = 0
        assert partner.max().item() == pytest.approx(mask.mean(), abs=1e-6)


def test_with_mixup_and_cutmix_each_batch_gets_one() -> None:
    images, _ = batch(16)
    images[:] = images[:, :1, :1, :1]
    module = preprocess(mixup=1.0, cutmix=1.0)
    even = []
    for seed in range(60):
        pixels, _ = module.train(images, torch.arange(16) % 10, seed)
        even.append(bool((pixels.std((2, 3)) < 1e-4).all()))
    assert 15 <= sum(even) <= 45


def test_blends_only_where_asked() -> None:
    images, labels = batch()
    assert not preprocess(crop=2, randaugment={}).blends
    assert preprocess(crop=2).train(images, labels, 0)[1].dtype == torch.int64


def test_kornia_is_imported_only_when_needed_and_warns_of_nothing() -> None:
    code = """
import sys, torch
from nifbuild.data import Preprocess
from nifbuild.spec.augment import Augment
images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
def train(**augment):
    Preprocess(Augment(**augment), 4, torch.zeros(3), torch.ones(3)).train(images, labels, 0)
train(crop=2, flip=0.5, mixup=1.0, cutmix=1.0)
assert "kornia" not in sys.modules
train(randaugment={"num_ops": 14}, erasing=1.0)
assert "kornia" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
