import json

import pytest
from pydantic import ValidationError

from nifbuild.spec.optimizers import AdamW, FilterSettings, Sgd
from nifbuild.spec.schedules import Cosine, Step
from nifbuild.spec.training import TrainSpec


def read(**fields):
    return TrainSpec.model_validate_json(json.dumps(fields))


def test_defaults_are_a_whole_recipe():
    spec = TrainSpec()
    assert spec.optimizer == AdamW(name="adamw")
    assert spec.schedule == Cosine(name="cosine")
    assert (spec.device, spec.precision, spec.ema) == ("auto", "fp32", None)


def test_reads_each_kind_of_optimizer_and_schedule():
    assert read(optimizer={"name": "sgd", "lr": 1}).optimizer == Sgd(name="sgd", lr=1.0)
    assert read(optimizer={"name": "adamw", "betas": [0.8, 0.9]}).optimizer.betas == (0.8, 0.9)
    assert isinstance(read(schedule={"name": "step", "at_epochs": [10]}).schedule, Step)
    assert read(schedule={"name": "constant", "warmup_epochs": 0.5}).schedule.warmup_epochs == 0.5


def test_filters_have_settings_of_their_own():
    defaults = read().optimizer.filters
    assert (defaults.lr_factor, defaults.weight_decay) == (5.0, 0.0)
    assert read(optimizer={"filters": {"lr_factor": 2}}).optimizer.filters.weight_decay == 0.0
    assert read(optimizer={"filters": None}).optimizer.filters is None


def test_fields_without_a_name_are_those_of_the_default():
    assert read(optimizer={"lr": 0.5}).optimizer == AdamW(lr=0.5)
    assert read(schedule={"min_lr": 0.5}).schedule == Cosine(min_lr=0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": 3},
        {"epochs": -1},
        {"epochs": "3"},
        {"optimizer": {"name": "sgd", "betas": [0.9, 0.9]}},
        {"optimizer": {"name": "lion"}},
        {"optimizer": {"momentum": 0.9}},
        {"optimizer": 3},
        {"optimizer": {"filters": {"lr": 0.1}}},
        {"optimizer": {"groups": [{"lr_factor": 0.1}]}},
        {"optimizer": {"groups": [{"match": "fc"}]}},
        {"early_stopping": {}},
        {"early_stopping": {"patience": 0}},
        {"optimizer": {"name": "sgd", "lr": 0}},
        {"schedule": {"name": "constant", "min_lr": 0.1}},
        {"schedule": {"name": "step", "at_epochs": []}},
        {"ema": 1.0},
        {"precision": "fp8"},
        {"device": "gpu"},
        {"device": "cuda:"},
        {"device": "cuda:0x"},
        {"trackers": ["neptune"]},
        {"sampling": "equal"},
        {"sampling": "balanced", "class_weights": "balanced"},
        {"seed": -1},
    ],
)
def test_refuses(fields):
    with pytest.raises(ValidationError):
        read(**fields)


def test_groups_of_weights():
    optimizer = read(optimizer={"filters": {"lr_factor": 0.3, "weight_decay": 0}}).optimizer
    assert optimizer == AdamW(filters=FilterSettings(lr_factor=0.3, weight_decay=0.0))
    groups = [{"match": "fc", "lr_factor": 10}]
    assert read(optimizer={"name": "sgd", "groups": groups}).optimizer.groups[0].match == "fc"


def test_fields_that_disagree():
    with pytest.raises(ValidationError, match=r"batch_size \(10\) must be a multiple of accum"):
        read(batch_size=10, accumulate=4)
    with pytest.raises(ValidationError, match=r"warmup_epochs \(5\) is more than epochs \(2\)"):
        read(epochs=2, schedule={"name": "cosine", "warmup_epochs": 5})


def test_every_field_has_a_description():
    def descriptions(schema):
        for definition in (schema, *schema.get("$defs", {}).values()):
            for name, field in definition.get("properties", {}).items():
                yield name, field.get("description")

    missing = [name for name, text in descriptions(TrainSpec.model_json_schema()) if not text]
    assert missing == []
