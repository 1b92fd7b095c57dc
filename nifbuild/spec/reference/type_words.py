"""The type of a field in words, from its annotation."""

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator, Tag
from pydantic.fields import FieldInfo

from nifbuild.spec.base import FORMS, LARGEST
from nifbuild.spec.ops import Op, is_union_by_name

_SIMPLE: dict[Any, str] = {
    type(None): "null",
    bool: "true or false",
    str: "text",
    Any: "anything",
}


def type_words(annotation: Any, metadata: Sequence[Any] = (), null: bool = True) -> str:
    """What may stand in a field: `whole number >= 1, or a list of 2`.

    Args:
        annotation: The type, as a model has it.
        metadata: What pydantic keeps beside it, such as bounds.
        null: Whether to say that null may stand there.
    """
    written = _as_written(metadata)
    if written is not None:
        return type_words(written, null=null)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0], (*_flat(arguments[1:]), *metadata), null)
    if origin in (Union, types.UnionType):
        return _union(arguments, null)
    if origin is Literal:
        return ", ".join(str(word) for word in arguments)
    if origin is tuple:
        return _list(arguments)
    if origin is dict or _is_model(annotation):
        return "an op" if _is_op(annotation) else "mapping"
    if annotation in (int, float):
        return _number("whole number" if annotation is int else "number", metadata)
    pattern = next((m.pattern for m in metadata if getattr(m, "pattern", None)), None)
    return FORMS[pattern] if pattern is not None else _SIMPLE[annotation]


def models_in(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that may stand in a field, ops aside, each with the word that chooses it."""
    if _is_model(annotation):
        if not issubclass(annotation, Op):
            source = annotation.model_fields.get("source")
            yield tag or (get_args(source.annotation)[0] if source else ""), annotation
        return
    if get_origin(annotation) is Annotated:
        own = [item.tag for item in get_args(annotation)[1:] if isinstance(item, Tag)]
        yield from models_in(get_args(annotation)[0], own[0] if own else tag)
        return
    for part in get_args(annotation):
        yield from models_in(part, tag)


def _as_written(metadata: Sequence[Any]) -> Any:
    """What YAML may say, where a validator turns that into the type."""
    for item in metadata:
        if isinstance(item, BeforeValidator) and get_origin(item.json_schema_input_type):
            return item.json_schema_input_type
    return None


def _flat(items: Sequence[Any]) -> list[Any]:
    return [m for i in items for m in (i.metadata if isinstance(i, FieldInfo) else (i,))]


def _union(parts: Sequence[Any], null: bool) -> str:
    parts = list(_flattened(parts))
    models = [found for part in parts for found in models_in(part)]
    names = list(dict.fromkeys(tag for tag, _ in models if tag))
    literals = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    words = [", ".join(str(word) for word in literals)] if literals else []
    for part in parts:
        if part is type(None) or get_origin(part) is Literal:
            continue
        word = "mapping" if _is_mapping(part) else type_words(part)
        if word not in words:
            words.append(word)
    if names:
        key = "source" if "source" in models[0][1].model_fields else "name"
        with_name = f"mapping with {key}: {', '.join(names)}"
        words = ["a name" if {*names} <= {*literals} else "", with_name]
    if "number" in words and "whole number" in words:
        words.remove("whole number")
    words = [
        "a list of 2" if word in [f"list of 2: {w}" for w in words] else word for word in words
    ]
    if null and type(None) in parts:
        words.append("null")
    return ", or ".join(filter(None, words))


def _flattened(parts: Sequence[Any]) -> Iterator[Any]:
    """The alternatives, those of alternatives that are unions themselves included."""
    for part in parts:
        inner = part
        if get_origin(part) is Annotated:
            written = _as_written(_flat(get_args(part)[1:]))
            inner = written if written is not None else get_args(part)[0]
        if get_origin(inner) in (Union, types.UnionType) and not _is_op(inner):
            yield from _flattened(get_args(inner))
        else:
            yield part


def _list(parts: Sequence[Any]) -> str:
    if _is_op(parts[0]):
        return "ops"
    if parts[-1] is Ellipsis:
        return f"list: {type_words(parts[0])}"
    words = dict.fromkeys(type_words(part) for part in parts)
    return f"list of {len(parts)}: {', '.join(words)}"


def _number(name: str, metadata: Sequence[Any]) -> str:
    below = above = ""
    for bound in metadata:
        if isinstance(bound, Ge) and abs(float(bound.ge)) < LARGEST:  # type: ignore[arg-type]
            above = f">= {_figure(bound.ge)}"
        elif isinstance(bound, Gt):
            above = f"> {_figure(bound.gt)}"
        elif isinstance(bound, Le) and float(bound.le) < LARGEST:  # type: ignore[arg-type]
            below = f"<= {_figure(bound.le)}"
        elif isinstance(bound, Lt) and float(bound.lt) < LARGEST:  # type: ignore[arg-type]
            below = f"< {_figure(bound.lt)}"
    return " ".join(filter(None, (name, " and ".join(filter(None, (above, below))))))


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_mapping(annotation: Any) -> bool:
    return next(models_in(annotation), None) is not None and get_origin(annotation) is not tuple


def _is_op(annotation: Any) -> bool:
    if is_union_by_name(annotation):
        return True
    if _is_model(annotation):
        return issubclass(annotation, Op)
    parts = get_args(annotation)
    return get_origin(annotation) in (Annotated, Union) and bool(parts) and _is_op(parts[0])
