"""What the ops are called elsewhere: in torch, Keras, timm and papers.

A word that is close to the name of an op in letters is often another op: `swish` is `silu`, and not
`hardswish`. So a word is looked up here before names of similar letters are guessed.
"""

import re
from collections.abc import Iterable, Mapping

from nifbuild.errors import did_you_mean

_ATTENTION = (
    "no op: a filter as large as the image is `conv` with `kind: implicit_frequency`, and any "
    "other op can come from an installed package (nifbuild explain ops)"
)
_SQUEEZE = (
    "`multiply` with the branches `identity` and [global_avg_pool, conv, relu, conv, sigmoid], the "
    "convs with `kernel_size: 1`"
)
_DEPTH = "a field of `residual`: `stochastic_depth: {rate: 0.1}`"
_DEPTHWISE = "`conv` with `groups: depthwise`"
_FREQUENCY = "`conv` with `kind: implicit_frequency`"

_HERE: Mapping[str, str] = {
    "swish": "`silu`",
    "hswish": "`hardswish`",
    "hsigmoid": "`hardsigmoid`",
    "prelu": "`leaky_relu`, whose slope is not learned",
    "lrelu": "`leaky_relu`",
    "gelutanh": "`gelu` with `approximate: tanh`",
    "newgelu": "`gelu` with `approximate: tanh`",
    "quickgelu": "`silu` but for a factor; `gelu` with `approximate: tanh` is closer to gelu",
    "logistic": "`sigmoid`",
    "linearactivation": "`identity`",
    "none": "`identity`",
    "noop": "`identity`",
    "skip": "`identity` as a branch, or `residual`",
    "softmax": "left out: the loss takes the numbers before it",
    "logsoftmax": "left out: the loss takes the numbers before it",
    "bn": "`batch_norm`",
    "batchnorm1d": "`batch_norm`",
    "batchnormalization": "`batch_norm`",
    "syncbatchnorm": "`batch_norm`: with several processes its statistics are those of all",
    "ln": "`layer_norm`",
    "layernormalization": "`layer_norm`",
    "gn": "`group_norm`",
    "groupnormalization": "`group_norm`",
    "instancenorm": "`group_norm` with as many groups as channels",
    "norm": "`batch_norm`, `layer_norm` or `group_norm`",
    "normalization": "`batch_norm`, `layer_norm` or `group_norm`",
    "globalresponsenorm": "`grn`",
    "globalresponsenormalization": "`grn`",
    "spatialdropout": "`dropout` with `per_channel: true`",
    "dropout2d": "`dropout` with `per_channel: true`",
    "droppath": _DEPTH,
    "dropconnect": _DEPTH,
    "stochasticdepth": _DEPTH,
    "survival": _DEPTH,
    "scale": "`layer_scale`",
    "gap": "`global_avg_pool`",
    "globalpool": "`global_avg_pool`",
    "globalaveragepool": "`global_avg_pool`",
    "globalaveragepooling": "`global_avg_pool`",
    "gmp": "`global_max_pool`",
    "globalmaxpooling": "`global_max_pool`",
    "averagepool": "`avg_pool`",
    "averagepooling": "`avg_pool`",
    "maxpooling": "`max_pool`",
    "pool": "`max_pool`, `avg_pool` or `global_avg_pool`",
    "adaptivepool": "`adaptive_avg_pool` or `adaptive_max_pool`",
    "adaptiveaveragepool": "`adaptive_avg_pool`",
    "convolution": "`conv`",
    "convolutional": "`conv`",
    "conv1x1": "`conv` with `kernel_size: 1`",
    "conv3x3": "`conv` with `kernel_size: 3`",
    "pointwise": "`conv` with `kernel_size: 1`",
    "pointwiseconv": "`conv` with `kernel_size: 1`",
    "pwconv": "`conv` with `kernel_size: 1`, or `linear` with `per_pixel: true`",
    "depthwise": _DEPTHWISE,
    "depthwiseconv": _DEPTHWISE,
    "dwconv": _DEPTHWISE,
    "separableconv": "two ops: `conv` with `groups: depthwise`, then one with `kernel_size: 1`",
    "groupconv": "`conv` with `groups`",
    "dilatedconv": "`conv` with `dilation`",
    "fftconv": _FREQUENCY,
    "fourierconv": _FREQUENCY,
    "frequencyconv": _FREQUENCY,
    "globalconv": _FREQUENCY,
    "implicitconv": _FREQUENCY,
    "nif": _FREQUENCY,
    "deconv": "`conv_transpose`",
    "deconvolution": "`conv_transpose`",
    "transposedconv": "`conv_transpose`",
    "transposeconv": "`conv_transpose`",
    "upconv": "`conv_transpose`",
    "interpolate": "`upsample`",
    "resize": "`upsample`",
    "unpool": "`upsample`",
    "dense": "`linear`",
    "fc": "`linear`",
    "fullyconnected": "`linear`",
    "classifier": "`linear`",
    "reshape": "`flatten`",
    "view": "`flatten`",
    "block": "`sequence`, or a block of your own under `blocks`",
    "sequential": "`sequence`",
    "add": "`sum`, or `residual`",
    "addition": "`sum`, or `residual`",
    "shortcut": "`residual`",
    "resblock": "`residual`",
    "cat": "`concat`",
    "concatenate": "`concat`",
    "mul": "`multiply`",
    "product": "`multiply`",
    "gate": "`multiply`",
    "chunk": "`concat` with `split: even`",
    "split": "`concat`, `sum` or `multiply` with `split`",
    "slice": "`channel_slice`",
    "shuffle": "`channel_shuffle`",
    "se": _SQUEEZE,
    "seblock": _SQUEEZE,
    "semodule": _SQUEEZE,
    "selayer": _SQUEEZE,
    "squeezeexcite": _SQUEEZE,
    "squeezeexcitation": _SQUEEZE,
    "squeezeandexcite": _SQUEEZE,
    "squeezeandexcitation": _SQUEEZE,
    "attention": _ATTENTION,
    "selfattention": _ATTENTION,
    "multiheadattention": _ATTENTION,
    "mha": _ATTENTION,
    "transformer": _ATTENTION,
}
"""Words, without capitals, underscores and hyphens, and what each is written as."""

_FIELDS: Mapping[str, str] = {
    "in_channels": "channels of the input are inferred: leave it out",
    "in_features": "the length of the input is inferred: leave it out",
    "input_shape": "shapes are inferred: leave it out",
    "num_features": "channels of the input are inferred: leave it out",
    "num_channels": "channels of the input are inferred: leave it out",
    "normalized_shape": "channels of the input are inferred: leave it out",
    "inplace": "memory is taken care of: leave it out",
    "activation": "an activation is an op of its own: write `- relu` after this one",
    "act": "an activation is an op of its own: write `- relu` after this one",
    "norm": "a norm is an op of its own: write `- batch_norm` after this one",
    "use_bias": "here that is `bias`",
    "filters": "here that is `out_channels`",
    "units": "here that is `out_features`",
    "kernel": "here that is `kernel_size`",
    "ks": "here that is `kernel_size`",
    "pool_size": "here that is `kernel_size`",
    "strides": "here that is `stride`",
    "pad": "here that is `padding`",
    "dilation_rate": "here that is `dilation`",
    "epsilon": "here that is `eps`",
    "drop_prob": "here that is `p`",
    "drop_path": f"here that is {_DEPTH}",
    "size": "here that is `output_size`",
}
"""Fields of ops elsewhere, and what to write."""


def unknown_op_fix(word: str, ops: Mapping[str, Iterable[str]], blocks: Iterable[str] = ()) -> str:
    """How to mend a name that is neither an op nor a block: what is meant, and what there is.

    Args:
        word: The name.
        ops: The ops, with their kinds.
        blocks: Names of the spec's own blocks.
    """
    blocks = list(blocks)
    here = op_meant_by(word, ops)
    guess = f"here that is {here}" if here else did_you_mean(word, [*ops, *blocks])
    return "\n".join(filter(None, (guess, f"ops: {', '.join(ops)}")))


def op_meant_by(word: str, ops: Mapping[str, Iterable[str]]) -> str:
    """What a word of other libraries is written as here; empty where that is not known.

    Args:
        word: Such as `swish`, `BatchNorm2d` or the name of a kind.
        ops: The ops, with their kinds.
    """
    for name, kinds in ops.items():
        if word and word in kinds:
            return f"`{name}` with `kind: {word}`"
    plain = _plain(word.rpartition(".")[2])
    names = {_plain(name): name for name in ops}
    for form in (plain, plain.removesuffix("2d")):
        if form in _HERE:
            return _HERE[form]
        if form in names:
            return f"`{names[form]}`"
    return ""


def field_meant_by(word: str, fields: Iterable[str]) -> str:
    """What to write instead of a field of other libraries; empty where that is not known.

    Args:
        word: The field.
        fields: Those that the op has.
    """
    advice = _FIELDS.get(word, "")
    named = re.findall(r"^here that is `(\w+)`$", advice)
    return advice if not named or named[0] in set(fields) else ""


def _plain(word: str) -> str:
    return re.sub("[-_ ]", "", word.lower())[:100]
