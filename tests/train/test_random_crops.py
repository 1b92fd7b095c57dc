"""Parts of images that are cut where they are decoded: the same whoever decodes, and when."""

import json

import pytest

from nifbuild.runs.directory import RunDirectory
from tests.children import in_child, in_children
from tests.loading import seen, train
from tests.tiny_runs import contents, losses, photo_text

LARGE_BATCHES = ("train.batch_size=12",)


@pytest.fixture
def spec(photos, tmp_path):
    """The tiny spec on photos, of which it sees parts; 60 to train on."""
    fields = "validation: 0, interpolation: bicubic, augment: {resized_crop: [0.2, 1]}"
    path = tmp_path / "crops.yaml"
    path.write_text(photo_text(photos, fields))
    return path


def test_whoever_decodes_sees_the_same_parts(spec):
    alone = in_child(seen, spec, 0, 0, LARGE_BATCHES)
    assert len(alone) == len(set(alone)) == 2 * 60
    epochs = [{text for epoch, *_, text in alone if epoch == number} for number in (3, 4)]
    assert len(epochs[0] & epochs[1]) < 3  # other parts in another epoch
    for workers in (1, 3):
        assert in_child(seen, spec, workers, 0, LARGE_BATCHES) == alone
    for workers in (0, 3):
        assert in_child(seen, spec, workers, 2, LARGE_BATCHES) == alone[2 * 12 :]
        both = in_children(seen, spec, workers, 2, LARGE_BATCHES)
        assert {*both[0], *both[1]} == {*alone[2 * 12 :]} and not {*both[0]} & {*both[1]}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_resumed_within_an_epoch_by_any_number_of_workers(spec, tmp_path, workers):
    """Seven steps in each of three epochs; it is stopped in the middle of the second."""
    in_child(train, spec, tmp_path / "whole", 0, None)
    in_child(train, spec, tmp_path / "parts", workers, 10)
    assert len(json.loads((tmp_path / "parts/environment.json").read_text())["starts"]) == 2
    whole, parts = (contents(tmp_path / name) for name in ("whole", "parts"))
    assert parts[2:] == whole[2:]
    last = "step_00000021/model.safetensors"
    assert parts[0][last] == whole[0][last]


@pytest.mark.parametrize("workers", [0, 3])
def test_resumed_on_two_processes(spec, tmp_path, workers):
    in_children(train, spec, tmp_path / "whole", 1, None)
    in_children(train, spec, tmp_path / "parts", workers, 10)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    last = RunDirectory(tmp_path / "parts").checkpoints[-1] / "model.safetensors"
    name = last.relative_to(tmp_path / "parts")
    assert last.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one = in_child(train, spec, tmp_path / "one", 0, None)
    assert one["train_loss"] == pytest.approx(losses(tmp_path / "whole")[-1], rel=1e-5)
