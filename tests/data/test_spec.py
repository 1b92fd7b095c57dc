import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from nifbuild.errors import SpecError
from nifbuild.spec.data import DataSpec, DigitsData, HubData
from nifbuild.spec.data_file import load_data_spec

ADAPTER: TypeAdapter[Any] = TypeAdapter(DataSpec)
SPECS = Path(__file__).parents[2] / "specs" / "data"
NAMES = (
    "cifar10",
    "cifar10_file",
    "cifar100",
    "imagenet",
    "imagenet_folder",
    "digits",
    "folder",
)


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_json(text)
    return [(".".join(map(str, e["loc"])), e["msg"]) for e in caught.value.errors()]


def test_one_number_is_a_square() -> None:
    """As in `input.size`; written out it is a list, as it was when runs were made."""
    for text in ('"size": 64', '"size": [64, 64]'):
        spec = ADAPTER.validate_json(f'{{"source": "digits", {text}}}')
        assert (spec.size, spec.model_dump(mode="json")["size"]) == ((64, 64), [64, 64])


def test_defaults_are_a_sensible_study() -> None:
    spec = ADAPTER.validate_json('{"source": "digits"}')
    assert isinstance(spec, DigitsData)
    assert (spec.validation, spec.test, spec.seed) == (0.1, 0.2, 0)
    assert (spec.normalize, spec.in_memory, spec.unreadable) == ("auto", "auto", "error")
    assert spec.augment.model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"source": "digits", "path": "x"}', ("digits.path", "Extra inputs")),
        ('{"source": "digits", "splits": {}}', ("digits.splits", "Extra inputs")),
        ('{"source": "digits", "test": 1}', ("digits.test", "less than 1")),
        ('{"source": "digits", "validation": -0.1}', ("digits.validation", "greater than or")),
        ('{"source": "digits", "seed": -1}', ("digits.seed", "greater than or equal to 0")),
        (
            '{"source": "digits", "workers": 2.5}',
            ("digits.workers.constrained-int", "valid integer"),
        ),
        ('{"source": "digits", "crop_share": 1.5}', ("digits.crop_share", "less than or equal")),
        ('{"source": "digits", "size": [8]}', ("digits.size.1", "Field required")),
        ('{"source": "digits", "size": [8, 0]}', ("digits.size.1", "greater than or equal to 1")),
        ('{"source": "digits", "num_classes": 0}', ("digits.num_classes", "greater than or")),
        ('{"source": "digits", "limit": {"train": 0}}', ("digits.limit.train", "greater than")),
        ('{"source": "digits", "resize": "pad"}', ("digits.resize", "'crop' or 'stretch'")),
        ('{"source": "digits", "unreadable": "warn"}', ("digits.unreadable", "'error' or 'skip'")),
        (
            '{"source": "digits", "interpolation": "cubic"}',
            ("digits.interpolation", "'nearest', 'bilinear', 'bicubic' or 'lanczos'"),
        ),
        (
            '{"source": "digits", "normalize": {"mean": [0], "std": [0]}}',
            ("digits.normalize.Normalize.std.0", "greater than or equal to 0.000001"),
        ),
        ('{"source": "digits", "augment": {"flip": 2}}', ("digits.augment.flip", "less than")),
        ('{"source": "digits", "augment": {"crop": 0.5}}', ("digits.augment.crop", "integer")),
        (
            '{"source": "digits", "augment": {"resized_crop": [0.9, 0.1]}}',
            ("digits.augment.resized_crop", "[0.9, 0.1] is no range"),
        ),
        (
            '{"source": "digits", "augment": {"resized_crop": {"ratio": [2, 1]}}}',
            ("digits.augment.resized_crop", "[2.0, 1.0] is no range"),
        ),
        (
            '{"source": "digits", "augment": {"resized_crop": [0, 1]}}',
            ("digits.augment.resized_crop.scale.0", "greater than 0"),
        ),
        (
            '{"source": "digits", "augment": {"randaugment": {"magnitude": 31}}}',
            ("digits.augment.randaugment", "the strongest magnitude is 30, not 31"),
        ),
        (
            '{"source": "digits", "augment":'
            ' {"randaugment": {"magnitude": 11, "max_magnitude": 10}}}',
            ("digits.augment.randaugment", "the strongest magnitude is 10, not 11"),
        ),
        *(
            (
                f'{{"source": "digits", "augment": {{"{field}": {value}}}}}',
                (f"digits.augment.{field}", "Input should be"),
            )
            for field in ("mixup", "cutmix", "flip", "erasing")
            for value in ("Infinity", "NaN", "-1", "1e400", "1" + "0" * 320)
        ),
        (
            '{"source": "digits", "augment": {"crop": 1e30}}',
            ("digits.augment.crop", "valid integer"),
        ),
        (
            f'{{"source": "digits", "augment": {{"crop": {10**30}}}}}',
            ("digits.augment.crop", "less than or equal to 1024"),
        ),
        (
            '{"source": "digits", "augment": {"randaugment": {"magnitude": Infinity}}}',
            ("digits.augment.randaugment.magnitude", "less than or equal to 1000"),
        ),
        # Statistics of values up to 255 would make every image almost black.
        (
            '{"source": "digits", "normalize": {"mean": [123.7], "std": [1]}}',
            ("digits.normalize.Normalize.mean.0", "less than or equal to 10"),
        ),
        (
            '{"source": "digits", "normalize": {"mean": [NaN], "std": [1]}}',
            ("digits.normalize.Normalize.mean.0", "less than or equal to 10"),
        ),
        (
            '{"source": "digits", "normalize": {"mean": [0], "std": [Infinity]}}',
            ("digits.normalize.Normalize.std.0", "less than or equal to 10"),
        ),
        (
            f'{{"source": "digits", "size": [{10**9}, 8]}}',
            ("digits.size.0", "less than or equal to"),
        ),
        (
            f'{{"source": "digits", "limit": {{"train": {10**400}}}}}',
            ("digits.limit.train", "less than or equal to"),
        ),
        (
            '{"source": "distant_pair", "distance": 2, "size": [60000, 60000]}',
            ("distant_pair", "2,000 images of 60,000 x 60,000 pixels are more than"),
        ),
        ('{"source": "parquet", "files": {}}', ("parquet.files", "at least 1 item")),
        ('{"source": "arrow", "files": {"a b": "x"}}', ("arrow.files.a b.[key]", "pattern")),
        ('{"source": "hub", "id": "a/b"}', ("hub.revision", "Field required")),
        (
            '{"source": "hub", "id": "a", "revision": "m", "splits": {"train": "x", "test": "x"}}',
            ("hub.splits", "'x' is used twice"),
        ),
        ('{"source": "imagefolder", "path": ""}', ("imagefolder.path", "at least 1 character")),
    ],
)
def test_a_wrong_value_is_named(text: str, expected: tuple[str, str]) -> None:
    ((path, message),) = [found for found in problems(text) if "literal['auto']" not in found[0]]
    assert path == expected[0]
    assert expected[1] in message


@pytest.mark.parametrize(
    ("value", "place", "path"),
    [
        ("mixup: .inf", "4:12", "mixup"),
        ("cutmix: .nan", "4:13", "cutmix"),
        ("erasing: 1.0e+400", "4:14", "erasing"),
        ("randaugment: {magnitude: 31}", "4:19", "randaugment.magnitude"),
    ],
)
def test_values_without_bounds_are_refused_with_their_place(
    value: str, place: str, path: str, tmp_path: Path
) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(f"data:\n  source: digits\n  augment:\n    {value}\n")
    with pytest.raises(SpecError) as caught:
        load_data_spec(file)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{file}:{place}: data.augment.{path}: ")


def test_an_unknown_source_lists_the_known() -> None:
    ((_, message),) = problems('{"source": "digit"}')
    known = "'digits', 'distant_pair', 'imagefolder', 'parquet', 'arrow', 'webdataset', 'hub'"
    assert known in message


def test_every_field_has_a_description() -> None:
    schema = ADAPTER.json_schema()
    missing = [
        f"{name}.{field}"
        for name, model in schema["$defs"].items()
        for field, value in model["properties"].items()
        if not value.get("description")
    ]
    assert missing == []


def test_torch_is_not_imported() -> None:
    code = "import sys, nifbuild.spec.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_shipped_specs_are_valid(name: str) -> None:
    text = (SPECS / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    content = yaml.safe_load(text)
    assert list(content) == ["data"]
    parsed = ADAPTER.validate_json(json.dumps(content["data"]))
    assert parsed.size is not None
    assert parsed.augment.model_dump(exclude_defaults=True)
    if isinstance(parsed, HubData):
        assert len(parsed.revision) == 40


def test_all_shipped_specs_are_tested() -> None:
    assert {path.stem for path in SPECS.glob("*.yaml")} == set(NAMES)
