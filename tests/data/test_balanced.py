"""Each class is drawn equally often, by whoever loads, and again after an interruption."""

import collections

import numpy as np
import pytest

from nifbuild.data.balanced import BalancedSampler
from nifbuild.train.run import train_run
from tests.children import in_child, in_children
from tests.loading import seen, train
from tests.tiny_runs import contents, losses, photo_text

COUNTS = {"zero": 17, "one": 4, "two": 9}


def drawn(labels, seed=0, epoch=0):
    sampler = BalancedSampler(np.asarray(labels), seed)
    sampler.set_epoch(epoch)
    return np.array(list(sampler))


@pytest.mark.parametrize("counts", [[10, 10, 10], [50, 3, 7], [1, 1, 98], [5, 0, 6], [2, 2, 1]])
def test_classes_are_drawn_equally_often(counts):
    labels = np.repeat([0, 1, 2], counts)
    draws = drawn(labels)
    assert len(draws) == len(labels) and len(set(draws.tolist())) == len(draws)
    found = np.bincount(labels[draws % len(labels)], minlength=3)
    present = [number for number, images in zip(found, counts, strict=True) if images]
    assert max(present) - min(present) <= 1
    assert all(not n for n, images in zip(found, counts, strict=True) if not images)
    for label, images in enumerate(counts):
        own = draws[labels[draws % len(labels)] == label]
        times = collections.Counter((own % len(labels)).tolist())
        if len(own) >= images > 0:  # none is drawn twice before all others once
            assert len(times) == images and max(times.values()) - min(times.values()) <= 1
        again = {image: set() for image in times}
        for draw in own.tolist():
            again[draw % len(labels)].add(draw // len(labels))
        assert all(again[image] == set(range(number)) for image, number in times.items())


def test_large_classes_are_seen_as_a_whole_over_epochs():
    labels = np.repeat([0, 1], [40, 4])
    seen = set()
    for epoch in range(12):
        seen |= set((drawn(labels, epoch=epoch) % 44).tolist())
    assert seen == set(range(44))


def test_the_order_is_of_seed_and_epoch():
    labels = np.repeat([0, 1, 2], [20, 5, 9])
    assert drawn(labels).tolist() == drawn(labels).tolist()
    others = [
        drawn(labels),
        drawn(labels, seed=1),
        drawn(labels, epoch=1),
        drawn(labels, seed=2**62),
    ]
    assert len({tuple(each.tolist()) for each in others}) == 4
    # Mixed: classes follow each other as by chance.
    classes = labels[drawn(labels) % len(labels)]
    assert 10 < (classes[1:] != classes[:-1]).sum() < 33


@pytest.fixture
def spec(photos, tmp_path):
    """Photos of three classes, of which one has many more than the others, cut at random."""
    for name, count in COUNTS.items():
        folder = tmp_path / "few" / "train" / name
        folder.mkdir(parents=True)
        for path in sorted((photos / "train" / name).iterdir())[:count]:
            (folder / path.name).symlink_to(path)
    fields = "validation: 0, test: 0.1, in_memory: false, augment: {resized_crop: [0.3, 0.9]}"
    path = tmp_path / "few.yaml"
    path.write_text(f"{photo_text(tmp_path / 'few', fields)}  sampling: balanced\n")
    return path


def test_whoever_loads_sees_the_same(spec):
    alone = in_child(seen, spec, 0, 0)
    assert len(alone) == 2 * 24  # of 27 images, in batches of 8
    for epoch in (3, 4):
        labels = collections.Counter(label for e, _, label, _ in alone if e == epoch)
        assert min(labels.values()) >= 6  # nine of each were drawn, and three images wait
        small = [(place, text) for e, place, label, text in alone if e == epoch and label == 0]
        assert len({place for place, _ in small}) < len(small)
        assert len(set(small)) == len(small)  # the same image is cut anew
    assert in_child(seen, spec, 3, 0) == alone
    for workers in (0, 3):
        assert in_child(seen, spec, workers, 2) == alone[2 * 8 :]
    both = in_children(seen, spec, 1, 1)
    assert sorted([*both[0], *both[1]]) == sorted(alone[8:])


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_within_an_epoch(spec, tmp_path, workers):
    in_child(train, spec, tmp_path / "whole", 0, None)
    in_child(train, spec, tmp_path / "parts", workers, 5)
    whole, parts = (contents(tmp_path / name) for name in ("whole", "parts"))
    assert parts[2:] == whole[2:]
    last = "step_00000009/model.safetensors"
    assert parts[0][last] == whole[0][last]


def test_two_processes_learn_the_same(spec, tmp_path):
    in_child(train, spec, tmp_path / "one", 0, None)
    in_children(train, spec, tmp_path / "two", 0, 4)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_it_has_an_effect_where_images_are_held(resolve, two_epochs, tmp_path):
    train_run(resolve("train.epochs=2", "train.sampling=balanced"), tmp_path / "run")
    assert losses(tmp_path / "run") != losses(two_epochs)
