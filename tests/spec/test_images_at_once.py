"""Normalisation of one value, an error of torch's in the first step, is told from the spec."""

import pytest
import torch

from nifbuild import build_model
from nifbuild.data.batches import check_statistics
from nifbuild.errors import SpecError

HEAD = "version: 1\ninput: {channels: 4, size: 8}\n"
POOLED = "model: [global_avg_pool, {id: norm, op: batch_norm}, flatten]\n"


@pytest.mark.parametrize(
    "model",
    [
        "[global_avg_pool, {op: batch_norm}]",
        "[global_max_pool, flatten, {op: batch_norm}]",
        "[{op: avg_pool, kernel_size: 8}, {op: batch_norm}]",
        "[{op: conv, kernel_size: 8, padding: 0}, {op: batch_norm}]",
        "[{op: conv, stride: 2, repeat: 3}, {op: residual, body: [conv, batch_norm]}]",
    ],
)
def test_one_image_of_one_value(problems, resolve, model):
    """As torch has it: with two images every such model trains, with one none does."""
    text = f"{HEAD}model: {model}\ntrain: {{batch_size: 2}}\n"
    built = build_model(resolve(text)).train()
    built(torch.randn(2, 4, 8, 8))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        built(torch.randn(1, 4, 8, 8))
    (problem,) = problems(text.replace("batch_size: 2", "batch_size: 1"))
    assert problem.startswith("spec.yaml:4:21: train.batch_size: a batch of 1 cannot be trained: ")
    assert "batch_norm needs more than one value for each channel" in problem
    assert "let 2 images or more pass at once: a larger batch_size, a smaller accumulate" in problem


@pytest.mark.parametrize(
    ("train", "fits"),
    [
        ("batch_size: 4, accumulate: 4", False),
        ("batch_size: 4, accumulate: 2", True),
        ("batch_size: 2", True),
    ],
)
def test_micro_batches_count(problems, resolve, train, fits):
    text = f"{HEAD}{POOLED}train: {{{train}}}"
    if fits:
        assert resolve(text)
    else:
        assert len(problems(text)) == 1


@pytest.mark.parametrize(
    "model", ["[batch_norm]", "[{op: global_avg_pool}, {op: layer_norm}]", "[flatten, relu]"]
)
def test_one_image_of_several_values(resolve, model):
    resolved = resolve(f"{HEAD}model: {model}\ntrain: {{batch_size: 1}}")
    build_model(resolved).train()(torch.randn(1, 4, 8, 8))


def test_each_process_has_its_share(resolve):
    text = f"{HEAD}{POOLED}train: {{batch_size: 4, accumulate: 2, sync_batch_norm: false}}"
    check_statistics(resolve(text), 1)
    check_statistics(resolve(text.replace("false", "true")), 2)
    with pytest.raises(SpecError, match=r"spec.yaml:4:21: .*\n.*\n.*sync_batch_norm: 2 processes"):
        check_statistics(resolve(text), 2)


def test_groups_of_one_value(problems, resolve):
    """Nothing is left of a value without its mean, whatever the batch; torch refuses one image."""
    text = HEAD + "model: [global_avg_pool, {op: group_norm, num_groups: 4}]"
    (problem,) = problems(text)
    assert problem.startswith("spec.yaml:3:55: group_norm: 4 groups of an input of 4x1x1 have one")
    build_model(resolve(text.replace("4}", "2}")))(torch.randn(1, 4, 8, 8))
