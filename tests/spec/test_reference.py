"""What `nifbuild explain` says of each word: that it is what the models check."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from nifbuild.errors import SpecError
from nifbuild.spec.base import fields
from nifbuild.spec.document import SpecFile
from nifbuild.spec.expressions import FUNCTIONS
from nifbuild.spec.ops import OP_CLASSES, OPS, Op
from nifbuild.spec.reference import explained, names, overview
from nifbuild.spec.reference.markdown_page import reference_page
from nifbuild.spec.reference.type_words import models_in
from nifbuild.spec.reference.words import FUNCTION_MEANINGS
from nifbuild.spec.schema import json_schema

PAGE = Path(__file__).parents[2] / "examples" / "reference.md"


def every_field(entry):
    own = [field for variant in entry.variants for field in variant.fields]
    return {field.name: field for field in (*entry.fields, *own)}


def test_the_page_is_current():
    """Otherwise: nifbuild explain --markdown > examples/reference.md."""
    assert PAGE.read_text() == reference_page()


def test_every_field_of_every_op_is_told_with_its_meaning():
    generic = {"op", "id", "from"}
    for name, kinds in OPS.items():
        told = every_field(explained(name))
        for op_class in kinds.values():
            for field, info in fields(op_class).items():
                if field not in generic:
                    assert field in told or field == "kind", (name, field)
                    entry = explained(f"{name}.{field}")
                    assert entry.meaning or all(v.meaning for v in entry.variants), (name, field)
                    assert info.description, (name, field)


def test_every_path_of_fields_is_told():
    """Down to the last: whatever the models hold is found by its path."""
    waiting = [(section, [m for _, m in models_in(info.annotation)])
               for section, info in fields(SpecFile).items()]  # fmt: skip
    count = 0
    while waiting:
        path, models = waiting.pop()
        entry = explained(path)
        assert entry.name == path
        assert entry.meaning or all(variant.meaning for variant in entry.variants)
        for model in models:
            for field, info in fields(model).items():
                inner = explained(f"{path}.{field}")
                assert inner.field is not None or inner.variants, f"{path}.{field}"
                waiting.append((f"{path}.{field}", [m for _, m in models_in(info.annotation)]))
                count += 1
    assert count > 150


def test_types_and_defaults():
    """Those of some fields, word for word."""
    conv = every_field(explained("conv"))
    assert (conv["stride"].type, conv["stride"].default) == (
        "whole number >= 1, or a list of 2",
        "1",
    )
    assert conv["padding"].type == "auto, or whole number >= 0, or a list of 2"
    assert conv["groups"].type == "depthwise, or whole number >= 1"
    assert (conv["bias"].type, conv["bias"].default) == ("true or false", "true")
    assert conv["out_channels"].default == "null"
    assert conv["init"].type.startswith("a name, or mapping with name: default, zeros, ones, kaim")
    train = every_field(explained("train"))
    assert train["optimizer"].type.startswith("mapping with name: adamw, ")
    assert train["optimizer"].default == "{name: adamw}"
    assert train["label_smoothing"].type == "number >= 0 and < 1"
    assert train["trackers"].type.startswith("list: tensorboard, wandb, mlflow, ")
    assert train["trackers"].default == "[tensorboard]"
    data = explained("data")
    assert data.field.type.startswith("mapping with source: digits, distant_pair, imagefolder")
    assert every_field(explained("linear"))["out_features"].default is None
    assert every_field(explained("residual"))["shortcut"].type == (
        "auto, identity, if_same_shape, or ops"
    )
    assert explained("vars").field.type == "mapping"


def test_choices_are_those_of_the_schema():
    """Every word that the JSON Schema allows in a field stands in its type."""
    definitions = json_schema()["$defs"]
    for op_class in OP_CLASSES:
        op = get_args(op_class.model_fields["op"].annotation)[0]
        for field, rule in definitions[op_class.__name__]["properties"].items():
            if field in ("op", "id", "from", "kind", "body", "then"):
                continue
            words = re.findall(r'"enum": (\[[^\]]*\])', json.dumps(rule))
            allowed = [w for found in words for w in json.loads(found)]
            if allowed and field in every_field(explained(op)):
                entry = explained(f"{op}.{field}")
                types = " ".join(v.field.type for v in entry.variants if v.field)
                types += entry.field.type if entry.field else ""
                assert all(str(word) in types for word in allowed), (op, field, types)


def test_kinds_differ():
    entry = explained("conv.padding_mode")
    assert [(v.name, v.field.default) for v in entry.variants] == [
        ("standard", "zeros"),
        ("implicit_frequency, free_frequency, implicit_spatial", "circular"),
    ]
    names_of = [variant.name for variant in explained("conv").variants]
    assert names_of[-4:] == list(OPS["conv"])
    assert explained("implicit_frequency").what == "kind of conv"
    assert "hidden" in every_field(explained("implicit_frequency"))
    assert explained("conv.implicit_frequency.hidden").field.default == "[16, 8]"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("round_to", "make_divisible"),
        ("round_to()", "make_divisible"),
        ("position", "the number of modules before it in its level"),
        ("$list[i]", "counted from 0"),
        ("$( )", "`layer$($i + 1)`"),
        ("$name", "`$width * 2`"),
        ("repeat", "How often the op stands here"),
        ("index", "the number of the repetition, from 0"),
        ("ops", "entry point in the group `nifbuild.ops`"),
        ("sgd", "Stochastic gradient descent"),
        ("cosine", "half a cosine"),
        ("imagefolder", "Folders of image files"),
        ("study", "runs of one spec that differ in chosen places"),
        ("rate", "Probability of leaving it out"),
        ("relu", "An activation"),
        ("search", "values are drawn from ranges"),
    ],
)
def test_other_words(word, said):
    assert said in explained(word).meaning


def test_a_field_of_several_ops():
    entry = explained("eps")
    defaults = {variant.name: variant.field.default for variant in entry.variants}
    (optimizers,) = (name for name in defaults if name.startswith("train.optimizer (adamw"))
    assert defaults == {
        "batch_norm, group_norm": "1e-05",
        "layer_norm": "1e-06",
        "grn": "1e-06",
        optimizers: "1e-08",
        "train.optimizer (adagrad)": "1e-10",
        "train.optimizer (lamb)": "1e-06",
    }
    first, *_ = explained("kernel_size").variants
    assert first.name == ("conv (standard, implicit_frequency, free_frequency, implicit_spatial)")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("cnov", "'cnov' is no word of the language\n  did you mean 'conv'?"),
        ("swish", "here that is `silu`"),
        ("kernal_size", "did you mean 'kernel_size'?"),
        ("conv.strid", "'conv' has no field 'strid'\n  did you mean 'stride'?\n  fields of conv:"),
        ("train.optimzer", "did you mean 'optimizer'?\n  fields of train: epochs,"),
        ("train.optimizer.learning_rate", "fields of train.optimizer: adamw, "),
        ("train.epochs.x", "'train.epochs' has no field 'x'\n  fields of train.epochs: none"),
        ("round_too", "did you mean 'round_to'?"),
        ("", "'' is no word"),
        ("...", "'...' is no word"),
    ],
)
def test_a_misspelt_word(word, said):
    with pytest.raises(SpecError) as caught:
        explained(word)
    text = str(caught.value)
    assert text.startswith(f"explain {word}: ") and said in text


def test_the_list_has_all_of_them():
    listed = json.dumps(overview())
    for word in (*OPS, *fields(SpecFile), *(f"{name}(" for name in FUNCTIONS), "$list[i]"):
        assert word in listed
    assert "position" in listed and "repeat" in listed
    for word in names():
        assert explained(word).what


def test_every_function_has_a_meaning():
    assert set(FUNCTION_MEANINGS) == set(FUNCTIONS)
    for name, (call, _) in FUNCTION_MEANINGS.items():
        assert call.startswith(f"{name}(")


def test_every_model_has_a_meaning():
    def visit(model: type[BaseModel], seen: set):
        if model in seen:
            return
        seen.add(model)
        assert model.__doc__, model
        for name, info in fields(model).items():
            assert info.description or (issubclass(model, Op) and name == "op"), (model, name)
            for _, inner in models_in(info.annotation):
                visit(inner, seen)

    seen: set = set()
    for model in (SpecFile, *OP_CLASSES):
        visit(model, seen)
    assert len(seen) > 50
