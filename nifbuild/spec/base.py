"""The base of every model that YAML may say, and the field types they share."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class Spec(BaseModel):
    """A frozen, strict mapping: unknown keys and values of another type are errors.

    Docstrings under the fields become the descriptions in the JSON Schema, and so the help that an
    editor shows; they state units and the meaning of the default.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,  # most commands need few of the models, and building one takes a while
    )


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model, by what YAML calls them."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def field_names(model: type[BaseModel]) -> list[str]:
    """The fields of a model as YAML calls them."""
    return list(fields(model))


def finding(what: str, fix: str = "", at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """What a validator raises to say also how to mend it, and where within its value.

    Args:
        what: As in `nifbuild.errors.Problem`.
        fix: As in `nifbuild.errors.Problem`.
        at: Path from the value that is validated to the one to edit.
    """
    return PydanticCustomError("finding", "{what}", {"what": what, "fix": fix, "at": at})


FORMS: dict[str, str] = {}
"""In words, what a text must look like that a pattern describes; by pattern."""


def text_like(pattern: str, words: str, **limits: Any) -> Any:
    """A field's texts must match `pattern`; errors say it in `words`."""
    FORMS[pattern] = words
    return Field(pattern=pattern, **limits)


def _broadcast(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise PydanticCustomError("pair_type", "a whole number or a list of two")


def _collapse(value: tuple[int, int]) -> int | list[int]:
    return value[0] if value[0] == value[1] else list(value)


class _Context(dict[str, str | int | float]):
    """Of an error; hashable, so that the type may stand in a union."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def by_name(default: str, *others: str, or_word: bool = False) -> Discriminator:
    """Chooses by `name`; fields without one, such as `{lr: 0.01}`, are those of the default.

    `or_word`: whether a name alone may stand there; a validator makes a mapping of it.
    """

    def tag(value: Any) -> str | None:
        if isinstance(value, dict):
            return str(value.get("name", default))
        return getattr(value, "name", None)

    expected = ", ".join((default, *others))
    context = _Context(discriminator="name", expected_tags=expected, tag="", word=or_word)
    return Discriminator(tag, custom_error_type="union_tag_invalid", custom_error_context=context)


LARGEST = 10**12
"""Largest number of a spec. Products of two of them are no float infinity, and fit into float32."""

PositiveInt = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=LARGEST)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
"""A part that is never the whole."""

_PAIR = (
    BeforeValidator(
        _broadcast, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]
    ),
    PlainSerializer(_collapse),
)
PositivePair = Annotated[tuple[PositiveInt, PositiveInt], *_PAIR]
"""Height and width; one number stands for both."""

_Pixels = Annotated[int, Field(ge=1, le=2**16)]
ImageSize = Annotated[
    tuple[_Pixels, _Pixels],
    BeforeValidator(_broadcast, json_schema_input_type=_Pixels | tuple[_Pixels, _Pixels]),
]
"""Height and width of images; one number stands for both."""

NonNegativePair = Annotated[
    tuple[NonNegativeInt, NonNegativeInt],
    BeforeValidator(
        _broadcast, json_schema_input_type=NonNegativeInt | tuple[NonNegativeInt, NonNegativeInt]
    ),
    PlainSerializer(_collapse),
]
"""Height and width, zero allowed; one number stands for both."""

_ID = r"[^.\x00-\x1f\x7f]+"

Identifier = Annotated[str, text_like(rf"^{_ID}$", "text without a dot", max_length=100)]
"""A module name: anything but a dot, which stands between names."""

Reference = Annotated[
    str,
    text_like(rf"^{_ID}(\.{_ID})*$", "an id, or ids joined by dots", max_length=500),
]
"""The id of an earlier op, with the ids of the levels around it where it stands in another one."""
