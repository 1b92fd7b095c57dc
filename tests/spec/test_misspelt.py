"""A misspelt kind, op or name is told once, where it is written, whatever way it goes then."""

import re

import pytest

ARCHITECTURE = """\
version: 1
name: base
input: {channels: 4, size: 8}
vars: {kind: standard, act: relu}
defaults: {conv: {kernel_size: 3}}
blocks:
  unit:
    args: {kind: standard}
    body:
      - {id: c, op: conv, kind: $kind}
      - {id: d, op: conv, kind: $kind}
model:
  - {id: a, op: conv, repeat: 4}
  - {id: b, op: unit, repeat: 3}
  - {id: e, op: conv, kind: $kind}
  - {id: f, op: residual, body: [{op: conv, kind: $kind}, {op: $act}], then: {op: $act}}
train: {optimizer: {name: sgd}}
"""
EXTENDS = "version: 1\nextends: base.yaml\n"
HEAD = "version: 1\nname: x\ninput: {channels: 4, size: 8}\n"
KIND = "implicit_freqency"
MEANT = "unknown kind 'implicit_freqency'\n  did you mean 'implicit_frequency'?\n  kinds: standard,"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("model: [{op: conv, kind: KIND, repeat: 3}]", "2:26: kind"),
        ("model: [{op: conv, repeat: 4, first: {kind: KIND}}]", "2:45: kind"),
        ("model: [{id: x, op: conv, repeat: 4, last: {kind: KIND}}]", "2:51: kind"),
        ("model: [{id: x, op: conv, repeat: [{}, {kind: KIND}]}]", "2:47: kind"),
        ("vars: {s: [{kind: KIND}, {}]}\nmodel: [{op: conv, repeat: $s}]", "2:19: kind"),
        ("model: [{op: residual, body: relu, then: {op: conv, kind: KIND}}]", "2:59: kind"),
        ("model: [{op: concat, branches: {a: [{op: conv, kind: KIND}]}}]", "2:54: kind"),
        ("blocks: {u: {args: {kind: str}, body: [{op: conv, kind: $kind}, relu, "
         "{op: conv, kind: $kind}]}}\nmodel: [{op: u, kind: KIND, repeat: 3}]", "3:23: kind"),
        ("blocks: {u: {args: {kind: KIND}, body: [{op: conv, kind: $kind}, relu, "
         "{op: conv, kind: $kind}]}}\nmodel: [{op: u, repeat: 3}]", "2:27: kind"),
        ("extends: base.yaml\nvars: {kind: KIND}", "3:14: vars.kind"),
        ("extends: base.yaml\ndefaults: {conv: {kind: KIND}}", "3:25: defaults.conv.kind"),
        ("extends: base.yaml\npatch: [{where: {op: conv}, set: {kind: KIND}}]",
         "3:41: patch.set.kind"),
        ("extends: base.yaml\npatch: [{where: {kind: KIND}, set: {bias: false}}]",
         "3:24: patch.where.kind"),
        ("extends: base.yaml\n"
         "patch: [{match: a.0, set: {op: residual, body: [{op: conv, kind: KIND}]}}]",
         "3:66: model[0].body[0].body[0].kind"),
        ("extends: base.yaml\nvars: {k: KIND}\npatch: [{match: 'a.*', set: {kind: $k}}]",
         "3:11: vars.k"),
    ],
)  # fmt: skip
def test_kinds(problems, write, text, place):
    write(ARCHITECTURE, "base.yaml")
    (found,) = problems("version: 1\n" + text.replace("KIND", KIND))
    assert found.startswith(f"spec.yaml:{place}: {MEANT}")


@pytest.mark.parametrize(
    ("flag", "path", "said"),
    [
        (f"vars.kind={KIND}", "vars.kind", MEANT),
        (f"model.2.kind={KIND}", "kind", MEANT),
        (f"defaults.conv.kind={KIND}", "defaults.conv.kind", MEANT),
        ("vars.act=swish", "vars.act", "unknown op 'swish'\n  here that is `silu`\n  ops: conv,"),
        ("train.optimizer.name=adamm", "train.optimizer.name",
         "unknown name 'adamm'\n  did you mean 'adam'"),
        ("train.optimizer=adamw", "train.optimizer",
         "expected a mapping\n  write {name: adamw}"),
        ("train.schedule.name=cosin", "train.schedule.name",
         "unknown name 'cosin'\n  did you mean 'cosine'?\n  name: cosine, "),
        ("data.source=digit", "data.source",
         "unknown source 'digit'\n  did you mean 'digits'?\n  source: digits,"),
        ("init.conv=kaiming_norml", "init.conv.name",
         "unknown name 'kaiming_norml'\n  did you mean 'kaiming_normal'?\n  name: default,"),
    ],
)  # fmt: skip
def test_by_a_flag(problems, write, flag, path, said):
    write(ARCHITECTURE, "base.yaml")
    (found,) = problems(EXTENDS, overrides=[flag])
    assert found.startswith(f"--set {flag}: {path}: {said}")


INIT = "unknown name 'kaiming_normall'\n  did you mean 'kaiming_normal'?\n  name: default, zeros,"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patch: [{where: {op: conv}, set: {init: kaiming_normall}}]", INIT),
        ("patch: [{where: {op: conv}, set: {init: {name: kaiming_normall}}}]", INIT),
        ("defaults: {conv: {init: kaiming_normall}}", INIT),
        ("defaults: {conv: {init: {name: kaiming_normall}}}", INIT),
        ("patch: [{where: {op: conv}, set: {init: {name: normal, sdt: 1}}}]",
         "unknown field 'sdt'\n  did you mean 'std'?\n  fields of normal: name, bias, std, bound"),
        ("defaults: {residual: {stochastic_depth: {rate: 0.1, schedule: liner}}}",
         "expected linear, linear_all or constant, got \"liner\"\n  did you mean 'linear'"),
        ("patch: [{where: {op: cnov}, set: {bias: false}}]",
         "patch.where.op: unknown op 'cnov'\n  did you mean 'conv'?\n  ops: conv,"),
        ("patch: [{match: 'a.*', set: {op: cnov}}]", "unknown op 'cnov'\n  did you mean 'conv'?"),
        ("patch: [{match: 'a.*', set: {hidden: [8]}}]",
         "unknown field 'hidden'\n  a field of the kind implicit_frequency or implicit_spatial\n"),
        ("patch: [{match: a.0, set: {op: residual, body: [cnov]}}]",
         "unknown op 'cnov'\n  did you mean 'conv'?"),
        ("patch: [{match: a.0, set: {op: residual, body: [conv]}}]",
         "an op is a mapping with `op` here\n  write {op: conv}"),
    ],
)  # fmt: skip
def test_other_names_through_patches_and_defaults(problems, write, text, said):
    write(ARCHITECTURE, "base.yaml")
    (found,) = problems(EXTENDS + text)
    assert found.startswith("spec.yaml:3:") and said in found


@pytest.mark.parametrize(("given", "word"), [("3", "3"), ("null", "null"), ("[a]", "a collection")])
def test_kinds_and_ops_that_are_no_words(problems, given, word):
    (found,) = problems(f"{HEAD}model: [{{op: conv, kind: {given}}}]")
    assert f"unknown kind '{word}'\n  kinds: standard" in found
    (found,) = problems(f"{HEAD}model: [{{op: {given}}}]")
    assert f"unknown op '{word}'\n  ops: conv" in found


def test_several_wrong_patches_are_told_at_once(problems):
    """The ops of one with a wrong count are changed, so that the last finds what it looks for."""
    found = problems(
        """\
        version: 1
        model: [{id: a, op: conv}, {id: b, op: conv}, {id: c, op: batch_norm}]
        patch:
          - {match: zz, set: {kind: standard}}
          - {match: a, set: {kidn: standard}}
          - {match: b, where: {kernl: 3}, set: {kind: standard}}
          - {match: b, set: {kind: implicit_frequency}, expect: 3}
          - {match: c, set: {op: swish}}
          - {where: {kind: implicit_frequency}, set: {mixing: depthwise}, expect: 1}
        """
    )
    assert [re.sub(r"\n.*", "", problem, flags=re.DOTALL) for problem in found] == [
        "spec.yaml:4:13: patch: the patch is for at least 1 ops and finds 0",
        "spec.yaml:5:22: model[0].kidn: unknown field 'kidn'",
        "spec.yaml:6:24: patch: no op has a field 'kernl'",
        "spec.yaml:7:57: patch: the patch is for 3 ops and finds 1",
        "spec.yaml:8:26: model[2].op: unknown op 'swish'",
    ]
    assert "write `expect: 1` in the patch, or no `expect`" in found[3]


KINDS = """
version: 1
name: x
{head}
model:
  - {{id: a, op: conv}}
  - {{id: b, op: conv}}
  - {{id: c, op: batch_norm}}
"""


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("{where: {op: conv}, set: {op: batch_norn}}", "unknown op 'batch_norn'\n  did you mean"),
        ("{match: a, set: {op: sequence, body: [{op: conv, kind: standart}]}}",
         "unknown kind 'standart'"),
        ("{match: c, set: {kind: standard}}", "batch_norm has no kinds"),
    ],
)  # fmt: skip
def test_what_a_patch_puts_in_the_wrong_place(problems, patch, said):
    (found,) = problems(KINDS.format(head=f"patch: [{patch}]"))
    assert found.startswith("spec.yaml:4:") and said in found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[{id: train, op: relu}]", "l.0.train: no module can be named 'train'"),
        ("[{id: a, op: relu}, {id: a, op: relu}]", "l.0.a: two modules are named 'l.0.a'"),
    ],
)
def test_an_id_under_repeat_is_told_once(problems, body, said):
    text = f"version: 1\nblocks: {{u: {{body: {body}}}}}\nmodel: [{{id: l, op: u, repeat: 16}}]"
    (found,) = problems(text)
    assert said in found and "(15 more like it)" in found
