"""What every word of the language means: ops, sections, fields, functions of arithmetic.

Everything is read from the models that check a spec and from their docstrings, so that it says what
they do. `nifbuild explain` shows an entry, and examples/reference.md has them all.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.spec.base import Spec, fields
from nifbuild.spec.document import SpecFile
from nifbuild.spec.expressions import FUNCTIONS
from nifbuild.spec.ops import OPS, Op, built_in, installed, kinds_of, load_all_installed
from nifbuild.spec.ops.synonyms import op_meant_by
from nifbuild.spec.schema import repeat_fields
from nifbuild.spec.study import StudySpec
from nifbuild.spec.type_words import models_in, type_words

STUDY = "study"
"""The name of what the files of `nifbuild ablate` say."""
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


FUNCTION_MEANINGS: Mapping[str, tuple[str, str]] = {
    "min": ("min(a, b, ...)", "The smallest of the numbers."),
    "max": ("max(a, b, ...)", "The largest of the numbers."),
    "round": ("round(a, digits)", "The nearest whole number, or with `digits` a decimal one."),
    "floor": ("floor(a)", "The next whole number below."),
    "ceil": ("ceil(a)", "The next whole number above."),
    "round_to": (
        "round_to(a, divisor)",
        "The nearest multiple of `divisor`, at least one of it and at least 90 % of `a`: the "
        "rounding of channels in MobileNet (there `make_divisible`).",
    ),
}
"""How each function of arithmetic is called, and what it gives."""

_WORDS: Mapping[str, str] = {
    "$name": "The value of a variable under `vars`, of a block's argument, or of the `index` of a "
    "repetition; of any type. In a value with more than the name it is a number: `$width * 2`. "
    "Allowed are numbers, + - * / // %, parentheses and functions; a result without a fraction is "
    "a whole number. A comparison (== != < <= > >=), and `not $flag`, are true or false, as `when` "
    "needs it.",
    "$list[i]": "An entry of a list, counted from 0, and from the end with -1: `$depths[0]`, "
    "`$stages[$i]`. Within {...} it is quoted: `'$depths[0]'`.",
    "$( )": "Arithmetic as a part of an id or of `from`: `layer$($i + 1)`. A value needs no "
    "`$( )`, and may have it.",
    "position": "As an `id`: the number of modules before it in its level, as in a "
    "torch.nn.Sequential.",
    "previous": "Under `from`: the op before this one. `input` is the model's input.",
}
"""Words that are no field of a model."""
_SAME = {"$": "$name", "variable": "$name", "expression": "$name", "list[i]": "$list[i]"}
_SAME |= {"$list": "$list[i]", "$()": "$( )", "$(": "$( )", "index[i]": "$list[i]"}


def explained(name: str) -> Entry:
    """The entry of a word of the language.

    Args:
        name: An op (`conv`), a kind (`implicit_frequency`), a section (`train`), a field of one of
            these (`conv.padding_mode`, `train.optimizer.lr`), a name that a field can take
            (`sgd`), a field alone (`kernel_size`), a function (`round_to`), or another word
            (`position`, `$list[i]`).

    Raises:
        SpecError: There is no such word.
    """
    word = _SAME.get(name, name)
    if word in _WORDS:
        return Entry(word, "word", _WORDS[word])
    if word.strip("()") in FUNCTIONS:
        call, meaning = FUNCTION_MEANINGS[word.strip("()")]
        return Entry(call, "function", meaning)
    if word == "ops":
        return _all_ops()
    first, *rest = word.split(".")
    found = _start(first)
    if found is None and not rest:
        found = _field_alone(word)
    if found is None:
        raise SpecError(_unknown(name))
    for part in rest:
        found = _within(found, part, name)
    return _with_more(_entry(found), found)


def names() -> list[str]:
    """All words, a path of fields aside."""
    sections = [*fields(SpecFile), STUDY]
    return [
        *OPS,
        *installed.offered(),
        *_kinds(),
        *sections,
        *FUNCTIONS,
        *repeat_fields(),
        *_WORDS,
        *_alternatives(),
    ]


def overview() -> list[tuple[str, list[tuple[str, str]]]]:
    """What there is: for each group of words its title, and the words with a line on each."""
    load_all_installed()
    ops: dict[str, list[str]] = {}
    for name, kinds in built_in().items():
        ops.setdefault(_first_line(_doc(_common(kinds.values()))), []).append(name)
    sections = [(n, _first_line(_section_meaning(n))) for n in fields(SpecFile)]
    functions = [(call, _first_line(meaning)) for call, meaning in FUNCTION_MEANINGS.values()]
    repeats = [(name, _first_line(text)) for name, text in _repeats()]
    return [
        ("ops", [(", ".join(found), line) for line, found in ops.items()]),
        *([("ops of installed packages", _installed_lines())] if installed.offered() else []),
        ("kinds of conv", [(n, _first_line(_doc(c))) for n, c in OPS["conv"].items()]),
        ("fields of every op", [*_generic_lines(), *repeats]),
        ("sections of a spec", sections),
        ("files of nifbuild ablate", [(STUDY, _first_line(_section_meaning(STUDY)))]),
        ("values", [(word, _first_line(text)) for word, text in _WORDS.items()]),
        ("functions", functions),
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    """Something that has an entry: an op, a model, or a field of one."""

    name: str
    what: str
    models: tuple[tuple[str, type[BaseModel]], ...]
    info: tuple[tuple[str, FieldInfo], ...] = ()
    """Of a field: it as each of those that have it has it, by their names."""


def _start(word: str) -> _Found | None:
    """What the first word of a path means."""
    if word in fields(SpecFile):
        info = fields(SpecFile)[word]
        return _Found(word, "section", tuple(models_in(info.annotation)), (("", info),))
    if word == STUDY:
        return _Found(word, "section", (("", StudySpec),))
    if word in _kinds():
        return _Found(word, f"kind of {_kinds()[word][0]}", (("", _kinds()[word][1]),))
    if word in _alternatives():
        path, model = _alternatives()[word]
        return _Found(word, f"one of {path}", (("", model),))
    kinds = kinds_of(word)
    if kinds:
        origin = installed.origin_of(word)
        return _Found(word, f"op of {origin}" if origin else "op", tuple(kinds.items()))
    return None


def _within(found: _Found, part: str, asked: str) -> _Found:
    """A field of something, or one of its variants."""
    path = f"{found.name}.{part}"
    chosen = dict(found.models).get(part)
    if part and chosen is not None:
        return _Found(path, f"one of {found.name}", (("", chosen),))
    infos = {tag: fields(m)[part] for tag, m in found.models if part in fields(m)}
    if not infos:
        known = [n for _, model in found.models for n in fields(model) if n not in ("op", "id")]
        known = list(dict.fromkeys([*(tag for tag, _ in found.models if tag), *known]))
        listed = f"fields of {found.name}: {', '.join(known) or 'none'}"
        what = f"'{found.name}' has no field '{part}'"
        mark = Mark(f"explain {asked}")
        raise SpecError(Problem(what, mark, "", suggestion(part, known, listed), "unknown-word"))
    models = dict.fromkeys(m for info in infos.values() for m in models_in(info.annotation))
    alike = len({_field(part, info) for info in infos.values()}) == 1
    if alike and len(infos) == len(found.models):
        infos = {"": next(iter(infos.values()))}
    return _Found(path, "field", tuple(models), tuple(infos.items()))


def _field_alone(word: str) -> _Found | None:
    """A field that is asked for without what has it, where it means one thing."""
    if word in repeat_fields():
        return None if word not in dict(_repeats()) else _Found(word, "field of every op", ())
    holders = [h for h in _holders() if word in fields(h[1])]
    if not holders:
        return None
    infos = [(name, fields(model)[word]) for name, model in holders]
    if len(infos) == 1:
        name, info = infos[0]
        path = f"{name.partition(' ')[0]}.{word}"
        return _Found(path, "field", tuple(models_in(info.annotation)), (("", info),))
    own = fields(Op).get(word)
    if own is not None:
        infos = [("every op", own), *((n, i) for n, i in infos if i.description != own.description)]
    return _Found(word, "field", tuple(models_in(infos[0][1].annotation)), tuple(infos))


def _holders() -> Iterator[tuple[str, type[BaseModel]]]:
    """All that has fields, by the name that it is shown under."""
    for name, kinds in OPS.items():
        for kind, op_class in kinds.items():
            yield f"{name} ({kind})" if kind else name, op_class
    for path, tag, model in _nested():
        yield f"{path} ({tag})" if tag else path, model


def _entry(found: _Found) -> Entry:
    if found.info:
        return _field_entry(found)
    if not found.models:
        return Entry(found.name, found.what, dict(_repeats())[found.name])
    classes = [model for _, model in found.models]
    meaning = _doc(_common(classes))
    if len(classes) == 1:
        return Entry(found.name, found.what, meaning, _fields(classes[0]))
    return Entry(found.name, found.what, meaning, _shared(classes), _variants(found.models))


def _field_entry(found: _Found) -> Entry:
    holders: dict[Field, list[str]] = {}
    for holder, info in found.info:
        holders.setdefault(_field(found.name, info), []).append(holder)
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
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _MOST_PLACES} more" if len(names) > _MOST_PLACES else ""
    return f"{', '.join(names[:_MOST_PLACES])}{more}"


def _with_more(entry: Entry, found: _Found) -> Entry:
    """With the names of entries that have the fields of its mappings, and those of every op."""
    inner = [
        f"{found.name}.{field.name}"
        for field in (*entry.fields, *(f for v in entry.variants for f in v.fields))
        if "mapping" in field.type and _nested_models(found, field.name)
    ]
    lines = [f"more: nifbuild explain {' | '.join(dict.fromkeys(inner))}"] if inner else []
    if any(issubclass(model, Op) for _, model in found.models) and not found.info:
        generic = ", ".join(["id", "from", *repeat_fields()])
        lines.append(f"and, as every op: {generic} (nifbuild explain ops)")
    return replace(entry, more="\n".join(lines))


def _nested_models(found: _Found, field: str) -> bool:
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
        Entry(", ".join(tags), "variant", _doc(model), tuple(groups.get((model,), ())))
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
        _field(name, info)
        for name, info in fields(model).items()
        if name not in generic or (name == "from" and info.description != _FROM)
    )


_FROM = fields(Op)["from"].description


def _field(name: str, info: FieldInfo) -> Field:
    name = name.rpartition(".")[2]
    default = None if info.is_required() else _shown(info.get_default(call_default_factory=True))
    kind = type_words(info.annotation, info.metadata, null=default != "null")
    return Field(name, kind, default, " ".join((info.description or "").split()))


def _shown(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", "that of its fields"))
    if isinstance(value, tuple):
        same = len(value) == 2 and value[0] == value[1]  # one number stands for both
        return _shown(value[0]) if same else f"[{', '.join(_shown(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


def _all_ops() -> Entry:
    generic = [_field(name, fields(Op)[name]) for name in ("id", "from")]
    repeats = [Field(name, "", "null", text) for name, text in _repeats()]
    meaning = (
        f"An op is its name, or a mapping with `op`. Ops: {', '.join(built_in())}. Every op has "
        "the fields below. Others come from installed packages that have an entry point in the "
        "group `nifbuild.ops`: a class with fields, a shape and a module, as those of nifbuild."
    )
    return Entry("ops", "section", meaning, (*generic, *repeats))


def _installed_lines() -> list[tuple[str, str]]:
    lines = [
        (name, f"{_first_line(_doc(found.op_class))} From {installed.origin_of(name)}.")
        for name, found in installed.LOADED.items()
    ]
    return [*lines, *((name, why) for name, why in installed.FAILED.items())]


def _generic_lines() -> list[tuple[str, str]]:
    return [(n, _first_line(fields(Op)[n].description or "")) for n in ("id", "from")]


def _repeats() -> list[tuple[str, str]]:
    return [(name, str(rule["description"])) for name, rule in repeat_fields().items()]


def _kinds() -> dict[str, tuple[str, type[Op]]]:
    return {k: (op, c) for op, kinds in OPS.items() for k, c in kinds.items() if k}


def _alternatives() -> dict[str, tuple[str, type[BaseModel]]]:
    """Words that choose what a section or field is, such as `sgd`, where one place has them."""
    found: dict[str, tuple[str, type[BaseModel]]] = {}
    twice = set()
    for path, tag, model in _nested():
        if tag and found.setdefault(tag, (path, model))[1] is not model:
            twice.add(tag)
    taken = {*OPS, *_kinds(), *fields(SpecFile), *FUNCTIONS, *twice}
    return {tag: place for tag, place in found.items() if tag not in taken}


def _nested() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """The models within a spec, ops aside: the first path to each, its tag, and itself."""
    seen: set[tuple[str, type[BaseModel]]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", SpecFile), (STUDY, StudySpec)]
    waiting += [(n, c) for n, kinds in OPS.items() for c in kinds.values()]
    while waiting:
        path, model = waiting.pop(0)
        for name, info in fields(model).items():
            inner = f"{path}.{name}".lstrip(".")
            for tag, part in models_in(info.annotation):
                if (tag, part) not in seen:
                    seen.add((tag, part))
                    yield inner, tag, part
                    waiting.append((inner, part))


def _section_meaning(name: str) -> str:
    if name == STUDY:
        return _doc(StudySpec)
    return " ".join((fields(SpecFile)[name].description or "").split())


def _common(classes: Iterable[type[BaseModel]]) -> type[BaseModel]:
    """The class itself, or of several the one that they all are."""
    first, *others = classes
    return next(c for c in first.__mro__ if all(issubclass(o, c) for o in others))


def _doc(model: type[BaseModel]) -> str:
    if model is Spec:
        return ""
    paragraphs = (inspect.getdoc(model) or "").split("\n\n")
    return "\n".join(" ".join(part.split()) for part in paragraphs)


def _first_line(text: str) -> str:
    return re.split(r"(?<=[.])\s|\n", text, maxsplit=1)[0]


def _unknown(name: str) -> Problem:
    here = installed.FAILED.get(name)
    if here is None and (meant := op_meant_by(name, OPS)):
        here = f"here that is {meant}"
    listed = "`nifbuild explain` lists all words"
    known = [*names(), *(field for _, model in _holders() for field in fields(model))]
    fix = f"{here}\n{listed}" if here else suggestion(name, known, listed)
    what = f"'{name}' is no word of the language"
    return Problem(what, Mark(f"explain {name}"), "", fix, "unknown-word")
