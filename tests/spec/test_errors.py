"""What people read when a spec is wrong: the whole list, word for word."""

import pytest


def test_all_problems_at_once_each_with_its_place(problems):
    assert problems(
        """\
        version: 1
        nmae: x
        vars: {widht: 3}
        input: {channels: 3, size: [8, x]}
        data: {source: digits, tst: 0.3}
        train: {epochs: -1, precision: bf15, ema: yes, optimizer: {name: adamm}}
        model:
          - {op: conv, out_channels: 4.5, kernal_size: 3}
          - {op: dropout, p: 2}
          - {op: linear}
        """
    ) == [
        "spec.yaml:2:1: nmae: unknown section 'nmae'\n"
        "  did you mean 'name'?\n"
        "  sections: version, name, input, model, auxiliary, init, data, train, budget, license, "
        "extends, vars, defaults, blocks, patch",
        "spec.yaml:3:8: vars.widht: nothing uses the variable 'widht'\n"
        "  write $widht where it should stand",
        'spec.yaml:4:32: input.size[1]: expected a whole number, got "x"\n'
        "  size: Height and width, in pixels",
        "spec.yaml:5:24: data.tst: unknown field 'tst'\n"
        "  did you mean 'test'?\n"
        "  fields of digits: validation, test, limit, seed, num_classes, size, resize, "
        "interpolation, crop_share, normalize, unreadable, in_memory, workers, augment, source",
        "spec.yaml:6:17: train.epochs: expected at least 0, got -1\n"
        "  epochs: Passes over the training images (default 50)",
        'spec.yaml:6:32: train.precision: expected fp32, bf16 or fp16, got "bf15"\n'
        "  did you mean 'bf16'?",
        'spec.yaml:6:43: train.ema: expected a number, got "yes"\n'
        "  ema: Decay of an exponential moving average of the weights, which is then what is "
        "evaluated and selected",
        "spec.yaml:6:66: train.optimizer.name: unknown name 'adamm'\n"
        "  did you mean 'adam'?\n"
        "  name: adamw, adam, nadam, radam, rmsprop, adagrad, lars, lamb, muon, sgd",
        "spec.yaml:8:30: model[0].out_channels: expected a whole number, got 4.5\n"
        "  out_channels: Output channels",
        "spec.yaml:8:35: model[0].kernal_size: unknown field 'kernal_size'\n"
        "  did you mean 'kernel_size'?\n"
        "  fields of conv: id, from, kind, out_channels, kernel_size, stride, padding, dilation, "
        "groups, bias, init, padding_mode",
        "spec.yaml:9:22: model[1].p: expected at most 1, got 2\n"
        "  p: Probability of a zero (default 0.5)",
        "spec.yaml:10:5: model[2].out_features: missing field `out_features`\n"
        "  out_features: Length of the output vector",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [relu]", "spec.yaml:1:1: version: missing field `version`"),
        ("version: 2\nmodel: [relu]", "spec.yaml:1:10: version: expected 1, got 2"),
        ("version: 1", "spec.yaml:1:1: model: missing section `model`"),
        ("version: 1\nmodel: [relu]\nvars: [a]", "vars is a mapping of names to values"),
        ("version: 1\nmodel: [relu]\nvars: {a: $b, b: $a}", "in a circle: a, b"),
        ("version: 1\nmodel: [relu]\nvars: {a-b: 1}", "'a-b' is not a variable name"),
        ("version: 1\nmodel: [relu]\nblocks: 3", "blocks is a mapping"),
        ("version: 1\nmodel: [relu]\ndefaults: {cnov: {}}", "did you mean 'conv'?"),
        ("version: 1\nmodel: [relu]\ndefaults: {conv: {bais: 1}}", "did you mean 'bias'?"),
        ("version: 1\nmodel: [relu]\ndefaults: {conv: 3}", "the defaults of an op are a mapping"),
        ("version: 1\nmodel: [relu]\ninput: {size: 0}", "input.size: expected at least 1, got 0"),
        ("version: 1\nmodel: [relu]\ninput: {size: [1, 2, 3]}", "input.size: expected"),
        ("version: 1\nmodel: [relu]\nname: a/b", "name: expected letters, digits, dots, hyphens"),
        (
            "version: 1\nmodel: [relu]\ntrain: {device: gpu}",
            'train.device: expected auto, cpu, cuda, cuda:1 or mps, got "gpu"',
        ),
        ("version: 1\nmodel: [relu]\ndata: {}", "data: missing field `source`"),
        ("version: 1\nmodel: [relu]\ndata: {source: digit}", "did you mean 'digits'?"),
        (
            "version: 1\nmodel: [relu]\ntrain: {optimizer: {momentum: 0}}",
            "unknown field 'momentum'\n  fields of adamw, the default: name, lr, weight_decay",
        ),
        (
            "version: 1\nmodel: [relu]\ntrain: {optimizer: {name: sgd, eps: 0}}",
            "unknown field 'eps'\n  fields of sgd: name, lr, weight_decay",
        ),
        (
            "version: 1\nmodel: [relu]\ntrain: {optimizer: 3}",
            "train.optimizer: expected a mapping\n"
            "  name: adamw, adam, nadam, radam, rmsprop, adagrad, lars, lamb, muon, sgd",
        ),
        (
            "version: 1\nmodel: [relu]\ndata: {source: digits, limit: 400}",
            "data.limit: expected a mapping, got 400\n"
            "  limit: Use only so many images of each split, for a short study or a trial\n"
            "  write {train: ...}; fields: train, validation, test",
        ),
        (
            "version: 1\nmodel: [relu]\ndata: {source: digits, limit: {train:400, test:100}}",
            "within {...} a space follows the colon: {train: 400}",
        ),
        ("version: 1\nmodel: [relu]\ntrain: [a]", "train: expected a mapping, got"),
        ("version: 1\nmodel: {relu: 3}", "an op is its name, or a mapping with `op`"),
        (
            "version: 1\nmodel: [{op: conv, padding: same}]",
            'expected a whole number or a list of two or auto, got "same"\n'
            '  padding: Pixels added on each side (default "auto")',
        ),
        ("version: 1\nmodel: [{op: conv, bias: no}]", 'true or false, got "no"\n  write true or'),
    ],
)
def test_single_problems(problems, text, message):
    found = problems(text)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        (
            "{id: big, op: conv, kernel_size: 11, padding: 0}",
            "spec.yaml:3:42: big: the 11x11 kernel is larger than its input of 3x8x8, padding "
            "included",
        ),
        ("{op: conv, groups: 2}", "conv: 2 groups do not divide 3 input channels"),
        ("{op: conv, out_channels: 4, groups: depthwise}", "3 groups do not divide 4 output"),
        (
            "{op: linear, out_features: 2}",
            "linear takes vectors, and its input is an image of 3x8x8",
        ),
        ("{op: flatten}, {op: conv}", "conv takes images, and its input is a vector of 192"),
        ("{op: flatten}, global_avg_pool", "global_avg_pool takes images"),
        ("{op: max_pool, kernel_size: 9}", "the 9x9 window is larger than its input of 3x8x8"),
        ("{op: max_pool, kernel_size: 2, padding: 2}", "padding is more than half the window"),
        ("{op: group_norm, num_groups: 2}", "2 groups do not divide 3 channels"),
        (
            "{op: residual, shortcut: identity, body: [{op: conv, out_channels: 5}]}",
            "residual: the body ends with 5x8x8 and the shortcut with 3x8x8: they cannot be added",
        ),
        (
            "{op: residual, shortcut: [{op: conv, out_channels: 4}], body: [relu]}",
            "the body ends with 3x8x8 and the shortcut with 4x8x8",
        ),
        (
            "{op: residual, body: [{op: conv, padding: 3}]}",
            "no 1x1 convolution turns the input of 3x8x8 into the body's output of 3x12x12",
        ),
        ("{op: residual, body: [flatten]}", "no 1x1 convolution turns the input of 3x8x8 into"),
        (
            "{op: conv, kind: implicit_frequency, kernel_size: 9, padding: 0}",
            "the 9x9 kernel is larger than its input of 3x8x8",
        ),
        ("{op: conv, kind: free_frequency, rank: 2}", "rank has no meaning with separable mixing"),
        (
            "{op: conv, kind: implicit_spatial, mixing: low_rank, groups: 3, rank: 2}",
            "3 groups do not divide a rank of 2",
        ),
        (
            "{op: conv, kind: implicit_frequency, mixing: depthwise, groups: 3, out_channels: 6}, "
            "{op: conv, kind: implicit_frequency, mixing: depthwise, groups: 2}",
            "depthwise filters mix no channels, and groups is 2",
        ),
        (
            "{op: conv, kind: implicit_frequency, mixing: depthwise, out_channels: 4}",
            "out_channels (4) is no multiple of the input's 3",
        ),
    ],
)
def test_shapes(problems, ops, message):
    found = problems(f"version: 1\ninput: {{size: 8}}\nmodel: [{ops}]")
    assert len(found) == 1 and message in found[0], found
    assert found[0].startswith("spec.yaml:3:")


FILES = "version: 1\nmodel: [relu]\ndata:\n  source: parquet\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            "  files:\n    train: a\n    tset: b\n",
            "spec.yaml:7:5: data.files.tset: nothing uses the split 'tset'\n"
            "  did you mean 'test'?\n"
            "  usual names: train, training, validation, val, valid, dev, test, testing\n"
            "  for any other say what it is: `splits: {test: tset}`",
        ),
        ("  files: {train: a, val: b, dev: c}\n", "nothing uses the split 'dev'"),
        (
            "  splits: {test: tsets}\n  files: {train: a, tset: b}\n",
            "spec.yaml:5:12: data.splits.test: `files` has no split 'tsets'\n"
            "  did you mean 'tset'?\n"
            "  `files` has: train, tset",
        ),
        (
            "  files: {a: a, b: b}\n",
            "spec.yaml:5:3: data.files: no split for training among a, b\n"
            "  say which it is: `splits: {train: ...}`",
        ),
        ("  files: {test: a}\n", "data.files: no split for training among test"),
    ],
)
def test_split_without_effect(problems, data, expected):
    (problem,) = problems(FILES + data)
    assert expected in problem


@pytest.mark.parametrize(
    "data",
    [
        "files: {all: a}",
        "files: {training: a, valid: b, testing: c}",
        "splits: {test: tset}, files: {train: a, tset: b}",
    ],
)
def test_splits_with_an_effect(resolve, data):
    assert resolve(f"version: 1\nmodel: [flatten]\ndata: {{source: parquet, {data}}}")


def test_the_place_of_a_value_set_by_a_flag(problems):
    text = FILES + "  files: {train: a}\n"
    (problem,) = problems(text, overrides=["data.files={test: a}"])
    assert problem.startswith("--set data.files={test: a}: data.files: no split for training")


def test_an_op_that_cannot_be_read_hides_nothing(problems):
    found = problems(
        """\
        version: 1
        model:
          - {op: conv, kind: implict_frequency, hidden: [8], out_chanels: 3, bias: x}
          - {op: cnov, kernel_size: x}
          - {op: dropout, p: 2}
        """
    )
    assert [problem.splitlines()[0] for problem in found] == [
        "spec.yaml:3:22: kind: unknown kind 'implict_frequency'",
        "spec.yaml:3:54: model[0].out_chanels: unknown field 'out_chanels'",
        'spec.yaml:3:76: model[0].bias: expected true or false, got "x"',
        "spec.yaml:4:10: model: unknown op 'cnov'",
        "spec.yaml:5:22: model[2].p: expected at most 1, got 2",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: [relu]\ndata: {source: imagefolder}", "spec.yaml:3:7: data.path: missing field"),
        (
            "vars: {widht: 3}\nmodel: [{op: conv, out_channels: $width}]",
            "spec.yaml:3:34: unknown variable $width\n  did you mean 'widht'?",
        ),
        (
            "model: [{op: dropout, probability: 1, repeat: 3}]",
            "spec.yaml:2:23: model[0].probability: unknown field 'probability'",
        ),
        (
            "model: [{op: residual, body: []}]",
            "spec.yaml:2:30: body: no ops here\n  write an op",
        ),
        (
            "model: [relu, {op: relu, from: _a.}]",
            'spec.yaml:2:32: model[1].from: expected an id, or ids joined by dots, got "_a."\n'
            "  from: Where the input comes from",
        ),
        (
            "vars: {n: [3, 0]}\nmodel: [{op: conv, out_channels: '$n[$i]', repeat: 2, index: i}]",
            "spec.yaml:3:34: model[1].out_channels: expected at least 1, got 0",
        ),
        (
            "vars: {n: 0}\nmodel: [{op: conv, out_channels: $n + $i, repeat: 2, index: i}]",
            "spec.yaml:2:11: vars.n: model[0].out_channels: expected at least 1, got 0",
        ),
        (
            "vars: {n: 0}\nmodel: [{op: conv, out_channels: $n}, {op: conv, groups: $n}]",
            "spec.yaml:2:11: vars.n: model[0].out_channels: expected at least 1, got 0\n"
            "  out_channels: Output channels\n"
            "  used at spec.yaml:3:34, and at 1 more",
        ),
    ],
)
def test_one_mistake_is_one_problem(problems, text, expected):
    (problem,) = problems("version: 1\n" + text)
    assert expected in problem


def test_what_grows_too_large_hides_nothing_elsewhere(problems):
    found = problems(
        """\
        version: 1
        model: [{op: relu, repeat: 50000}, relu, relu]
        train: {epochs: -1}
        """
    )
    assert [problem.splitlines()[0] for problem in found] == [
        "spec.yaml:2:36: model: the model has more than 50,000 ops",
        "spec.yaml:3:17: train.epochs: expected at least 0, got -1",
    ]


WIDE = """
version: 1
vars: {width: 4, twice: $width * 2}
blocks: {b: {args: {out: int}, body: [{op: conv, out_channels: $out}]}}
model:
  - {op: conv, out_channels: $width}
  - {op: b, out: $twice, repeat: 3}
  - {op: b, out: $width - $twice + 4}
"""


def test_values_that_come_from_a_flag_name_it_once(problems):
    assert problems(WIDE.lstrip("\n"), overrides=["vars.width=0"]) == [
        "--set vars.width=0: vars.width: model[0].out_channels: expected at least 1, got 0\n"
        "  out_channels: Output channels\n"
        "  used at spec.yaml:5:30, and at 1 more"
    ]


def test_variables_of_an_extended_file_need_no_use(problems, resolve, write):
    write(WIDE, "base.yaml")
    text = "extends: base.yaml\nmodel: [relu]\n"
    assert resolve(text).graph.nodes
    (mine,) = problems(text + "vars: {mine: 3}\n")
    assert mine.startswith("spec.yaml:3:8: vars.mine: nothing uses the variable 'mine'")
    (flag,) = problems(text, overrides=["vars.twice=3"])
    assert flag.startswith("--set vars.twice=3: vars.twice: nothing uses")


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        (
            "vars.width=abc",
            "vars.width: cannot evaluate '$width * 2': $width is not a number\n"
            "  used at spec.yaml:7:30",
        ),
        (
            "input.size=abc",
            'input.size: expected a whole number or a list of two, got "abc"\n'
            "  size: Height and width, in pixels",
        ),
        (
            "train.batch_size=abc",
            'train.batch_size: expected a whole number, got "abc"\n'
            "  batch_size: Images for each step of the optimizer, over all processes and "
            "micro-batches together (default 128)",
        ),
    ],
)
def test_text_for_a_number_is_one_mistake(problems, flag, problem):
    """Also where a variable spoils an op, a block's argument and two expressions."""
    text = """\
        version: 1
        vars: {width: 4}
        data: {source: digits, size: [8, 8]}
        input: {channels: 1, size: 8}
        blocks: {unit: {args: {out_channels: int}, body: [{op: conv, out_channels: $out_channels}]}}
        model:
          - {op: conv, out_channels: $width * 2}
          - {op: unit, out_channels: $width}
          - {op: conv, out_channels: $width}
          - {op: conv, out_channels: $width * 3}
          - global_avg_pool
          - flatten
          - {op: linear, out_features: 10}
        """
    assert problems(text, overrides=[flag]) == [f"--set {flag}: {problem}"]
