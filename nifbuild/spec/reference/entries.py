"""Entries of the reference, made of the models: fields with their types, defaults and meanings."""

import inspect
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nifbuild.spec.base import Spec, fields
from nifbuild.spec.ops import Op
from nifbuild.spec.reference.type_words import models_in, type_words
from nifbuild.spec.reference.words import repeat_meanings

_MOST_PLACES = 12
"""Most places that are named for a field of many ops."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an op or a section.

    Attributes:
        name: As YAML calls it.
        type: What may stand there, in words.
        default: What holds where it is left out, as YAML has it; None: it has to be given.
        meaning: What it does.
    """

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A word of the language.

    Attributes:
        name: The word, or the path of a field: `train.optimizer.lr`.
        what: Which kind of word it is, such as `op`.
        meaning: What it is or does, in sentences.
        fields: Its fields.
        variants: What it can be, such as the kinds of an op, each with fields of its own.
        field: Of a field, its type and default.
        more: Where more of it is told.
    """

    name: str
    what: str
    meaning: str
    fields: tuple[Field, ...] = ()
    variants: "tuple[Entry, ...]" = ()
    field: Field | None = None
    more: str = ""

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Found:
    """Something that has an entry: an op, a model, or a field of one."""

    name: str
    what: str
    models: tuple[tuple[str, type[BaseModel]], ...]
    info: tuple[tuple[str, FieldInfo], ...] = ()
    """Of a field: it as each of those that have it has it, by their names."""


def entry_of(found: Found) -> Entry:
    """The entry of an op, a model or a field."""
    if found.info:
        return _field_entry(found)
    if not found.models:
        return Entry(found.name, found.what, repeat_meanings()[found.name])
    classes = [model for _, model in found.models]
    meaning = meaning_of(common_class(classes))
    if len(classes) == 1:
        return Entry(found.name, found.what, meaning, _fields(classes[0]))
    return Entry(found.name, found.what, meaning, _shared(classes), _variants(found.models))


def _field_entry(found: Found) -> Entry:
    holders: dict[Field, list[str]] = {}
    for holder, info in found.info:
        holders.setdefault(field_of(found.name, info), []).append(holder)
    (field, having), *others = holders.items()
    classes = [model for _, model in found.models]
    if others:  # the kinds of an op, or several ops, have it with other values
        variants = tuple(
            Entry(_listed(names), "field", f.meaning, field=f) for f, names in holders.items()
        )
        return Entry(found.name, found.what, "", variants=variants)
    meaning = f"Of {_listed(having)}. {field.meaning}" if any(having) else field.meaning
    inner = _shared(classes) if classes else ()
    variants = _variants(found.models) if len(classes) > 1 else ()
    return Entry(found.name, found.what, meaning, inner, variants, field)


def _listed(names: list[str]) -> str:
    """Those that have a field: `conv (standard, implicit_frequency), max_pool`."""
    by_place: dict[str, list[str]] = {}
    for name in names:
        place, _, variant = name.partition(" (")
        by_place.setdefault(place, []).append(variant.removesuffix(")"))
    parts = [f"{p} ({', '.join(v)})" if any(v) else p for p, v in by_place.items()]
    more = f" and {len(parts) - _MOST_PLACES} more" if len(parts) > _MOST_PLACES else ""
    return f"{', '.join(parts[:_MOST_PLACES])}{more}"


def with_more(entry: Entry, found: Found) -> Entry:
    """With the names of entries that have the fields of its mappings, and those of every op."""
    inner = [
        f"{found.name}.{field.name}"
        for field in (*entry.fields, *(f for v in entry.variants for f in v.fields))
        if "mapping" in field.type and _nested_models(found, field.name)
    ]
    lines = [f"more: nifbuild explain {' | '.join(dict.fromkeys(inner))}"] if inner else []
    if any(issubclass(model, Op) for _, model in found.models) and not found.info:
        generic = ", ".join(["id", "from", *repeat_meanings()])
        lines.append(f"and, as every op: {generic} (nifbuild explain ops)")
    return replace(entry, more="\n".join(lines))


def _nested_models(found: Found, field: str) -> bool:
    infos = (fields(model).get(field) for _, model in found.models)
    return any(next(models_in(i.annotation), None) is not None for i in infos if i is not None)


def _variants(models: Iterable[tuple[str, type[BaseModel]]]) -> tuple[Entry, ...]:
    """The fields that several have alike, for these together; then each with its own."""
    by_model: dict[type[BaseModel], list[str]] = {}
    for tag, model in models:
        by_model.setdefault(model, []).append(tag)
    shared = _shared(by_model)
    holders: dict[Field, list[type[BaseModel]]] = {}
    for model in by_model:
        for field in _fields(model):
            if field not in shared and field.name not in _CHOOSING:
                holders.setdefault(field, []).append(model)
    groups: dict[tuple[type[BaseModel], ...], list[Field]] = {}
    for field, having in holders.items():
        groups.setdefault(tuple(having), []).append(field)
    together = [
        Entry(", ".join(t for m in having for t in by_model[m]), "variants", "", tuple(own))
        for having, own in groups.items()
        if len(having) > 1
    ]
    alone = [
        Entry(", ".join(tags), "variant", meaning_of(model), tuple(groups.get((model,), ())))
        for model, tags in by_model.items()
    ]
    return (*together, *alone)


_CHOOSING = ("op", "kind", "source", "name")
"""Fields that say which variant it is."""


def _shared(models: Iterable[type[BaseModel]]) -> tuple[Field, ...]:
    """The fields that all of them have alike."""
    first, *others = (_fields(model) for model in dict.fromkeys(models))
    return tuple(f for f in first if all(f in other for other in others))


def _fields(model: type[BaseModel]) -> tuple[Field, ...]:
    generic = ("op", *fields(Op)) if issubclass(model, Op) else ()
    return tuple(
        field_of(name, info)
        for name, info in fields(model).items()
        if name not in generic or (name == "from" and info.description != _FROM)
    )


_FROM = fields(Op)["from"].description


def field_of(name: str, info: FieldInfo) -> Field:
    """A field as the reference has it; of a path, the last name is its own."""
    name = name.rpartition(".")[2]
    default = None if info.is_required() else _shown(info.get_default(call_default_factory=True))
    kind = type_words(info.annotation, info.metadata, null=default != "null")
    return Field(name, kind, default, " ".join((info.description or "").split()))


def _shown(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return "that of its fields" if name is None else f"{{name: {name}}}"
    if isinstance(value, tuple):
        same = len(value) == 2 and value[0] == value[1]  # one number stands for both
        return _shown(value[0]) if same else f"[{', '.join(_shown(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


def common_class(classes: Iterable[type[BaseModel]]) -> type[BaseModel]:
    """The class itself, or of several the one that they all are."""
    first, *others = classes
    return next(c for c in first.__mro__ if all(issubclass(o, c) for o in others))


def meaning_of(model: type[BaseModel]) -> str:
    """What a model's docstring says, a line for each paragraph."""
    if model is Spec:
        return ""
    paragraphs = (inspect.getdoc(model) or "").split("\n\n")
    return "\n".join(" ".join(part.split()) for part in paragraphs)
