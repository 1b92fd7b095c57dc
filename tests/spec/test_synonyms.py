"""Words of other libraries lead to the op that does what they say, not to one that looks alike."""

import re

import pytest
from torch import nn

from nifbuild.spec.ops import OP_CLASSES, OPS
from nifbuild.spec.ops.synonyms import _FIELDS, _HERE, op_meant_by

MODEL = "version: 1\ninput: {size: 8}\nmodel: [%s]"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("swish", "`silu`"),
        ("drop_path", "a field of `residual`: `stochastic_depth: {rate: 0.1}`"),
        ("DropPath", "a field of `residual`: `stochastic_depth: {rate: 0.1}`"),
        ("se", "`multiply` with the branches `identity` and [global_avg_pool, conv, relu, conv,"),
        ("SqueezeExcitation", "`multiply` with the branches"),
        ("attention", "no op: a filter as large as the image is `conv` with `kind: implicit_fr"),
        ("batchnorm2d", "`batch_norm`"),
        ("BatchNorm2d", "`batch_norm`"),
        ("nn.Conv2d", "`conv`"),
        ("Conv2D", "`conv`"),
        ("dense", "`linear`"),
        ("fc", "`linear`"),
        ("maxpool", "`max_pool`"),
        ("AdaptiveAvgPool2d", "`adaptive_avg_pool`"),
        ("avgpool", "`avg_pool`"),
        ("gap", "`global_avg_pool`"),
        ("dropout2d", "`dropout` with `per_channel: true`"),
        ("gelu_tanh", "`gelu` with `approximate: tanh`"),
        ("instance_norm", "`group_norm` with as many groups as channels"),
        ("implicit_frequency", "`conv` with `kind: implicit_frequency`"),
        ("free_frequency", "`conv` with `kind: free_frequency`"),
        ("ConvTranspose2d", "`conv_transpose`"),
    ],
)
def test_ops_of_other_libraries(problems, word, meant):
    (found,) = problems(MODEL % word)
    assert f"unknown op '{word}'\n  here that is {meant}" in found
    assert "did you mean" not in found and "\n  ops: conv, " in found


def test_where_else_an_op_is_named(problems):
    for text in ("defaults: {swish: {}}", "vars: {act: swish}\nblocks: {b: {body: {op: $act}}}"):
        model = "b" if "blocks" in text else "relu"
        (found,) = problems(f"{MODEL % model}\n{text}")
        assert "unknown op 'swish'\n  here that is `silu`" in found


def test_letters_still_count_where_nothing_is_known(problems):
    (found,) = problems(MODEL % "cnov")
    assert "did you mean 'conv'?" in found
    (found,) = problems(f"{MODEL % 'my_blok'}\nblocks: {{my_block: {{body: [relu]}}}}")
    assert "did you mean 'my_block'?" in found and "blocks of this spec: my_block" in found


@pytest.mark.parametrize(
    ("op", "field", "said"),
    [
        ("conv", "in_channels: 3", "channels of the input are inferred: leave it out"),
        ("conv", "filters: 3", "here that is `out_channels`"),
        ("linear", "out_features: 3, in_features: 4", "the length of the input is inferred"),
        ("batch_norm", "num_features: 3", "channels of the input are inferred: leave it out"),
        ("dropout", "inplace: true", "leave it out"),
        ("max_pool", "kernel_size: 2, strides: 2", "here that is `stride`"),
        ("conv", "activation: relu", "write `- relu` after this one"),
        ("dropout", "filters: 3", "fields of dropout"),
    ],
)
def test_fields_of_other_libraries(problems, op, field, said):
    found = problems(MODEL % f"{{op: {op}, {field}}}")
    assert any(said in problem and "fields of" in problem for problem in found)


def test_what_the_table_says_is_there():
    """Whatever stands in backquotes is an op, a field of one, or one of these words."""
    fields = {name for c in OP_CLASSES for name in c.model_fields} | {"rate"}
    words = {"blocks", "true", "depthwise", "tanh", "even", "implicit_frequency", "split", *OPS}
    for meaning in (*_HERE.values(), *_FIELDS.values()):
        for quoted in re.findall("`([^`]*)`", meaning):
            for word in re.findall(r"[a-z_]{2,}", quoted):
                assert word in fields | words, (meaning, word)
    assert not {*OPS} & {*_HERE}
    assert all(word == word.lower() and "_" not in word for word in _HERE)


def test_the_modules_of_torch_that_ops_build_are_known():
    known = ("ReLU6", "LeakyReLU", "GELU", "Dropout", "MaxPool2d", "AvgPool2d", "Upsample")
    more = ("Flatten", "GroupNorm", "LayerNorm", "Hardswish", "ChannelShuffle", "Identity")
    for name in (*known, *more, "PixelShuffle"):
        assert hasattr(nn, name)
        assert bool(op_meant_by(name, OPS)) is (name != "PixelShuffle"), name
