"""What every word of the language means: ops, sections, fields, functions of arithmetic.

Everything is read from the models that check a spec and from their docstrings, so that it says what
they do. `nifbuild explain` shows an entry, and examples/reference.md has them all.
"""

import re
from collections.abc import Iterator

from pydantic import BaseModel

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.spec.base import fields
from nifbuild.spec.document import SpecFile
from nifbuild.spec.expressions import FUNCTIONS
from nifbuild.spec.ops import OPS, Op, built_in, installed, kinds_of, load_all_installed
from nifbuild.spec.ops.synonyms import op_meant_by
from nifbuild.spec.reference.entries import (
    Entry,
    Field,
    Found,
    common_class,
    entry_of,
    field_of,
    meaning_of,
    with_more,
)
from nifbuild.spec.reference.type_words import models_in
from nifbuild.spec.reference.words import (
    FUNCTION_MEANINGS,
    SAME,
    STUDY,
    WORDS,
    alternatives,
    holders,
    kinds_of_ops,
    repeat_meanings,
)
from nifbuild.spec.study import StudySpec


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
    word = SAME.get(name, name)
    if word in WORDS:
        return Entry(word, "word", WORDS[word])
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
    return with_more(entry_of(found), found)


def names() -> list[str]:
    """All words, a path of fields aside."""
    sections = [*fields(SpecFile), STUDY]
    return [
        *OPS,
        *installed.offered(),
        *kinds_of_ops(),
        *sections,
        *FUNCTIONS,
        *repeat_meanings(),
        *WORDS,
        *alternatives(),
    ]


def overview() -> list[tuple[str, list[tuple[str, str]]]]:
    """What there is: for each group of words its title, and the words with a line on each."""
    load_all_installed()
    ops: dict[str, list[str]] = {}
    for name, kinds in built_in().items():
        ops.setdefault(_first_line(meaning_of(common_class(kinds.values()))), []).append(name)
    sections = [(n, _first_line(_section_meaning(n))) for n in fields(SpecFile)]
    functions = [(call, _first_line(meaning)) for call, meaning in FUNCTION_MEANINGS.values()]
    repeats = [(name, _first_line(text)) for name, text in repeat_meanings().items()]
    return [
        ("ops", [(", ".join(found), line) for line, found in ops.items()]),
        *([("ops of installed packages", _installed_lines())] if installed.offered() else []),
        ("kinds of conv", [(n, _first_line(meaning_of(c))) for n, c in OPS["conv"].items()]),
        ("fields of every op", [*_generic_lines(), *repeats]),
        ("sections of a spec", sections),
        ("files of nifbuild ablate", [(STUDY, _first_line(_section_meaning(STUDY)))]),
        ("values", [(word, _first_line(text)) for word, text in WORDS.items()]),
        ("functions", functions),
    ]


def _start(word: str) -> Found | None:
    """What the first word of a path means."""
    if word in fields(SpecFile):
        info = fields(SpecFile)[word]
        return Found(word, "section", tuple(models_in(info.annotation)), (("", info),))
    if word == STUDY:
        return Found(word, "section", (("", StudySpec),))
    if word in kinds_of_ops():
        return Found(word, f"kind of {kinds_of_ops()[word][0]}", (("", kinds_of_ops()[word][1]),))
    if word in alternatives():
        path, model = alternatives()[word]
        return Found(word, f"one of {path}", (("", model),))
    kinds = kinds_of(word)
    if kinds:
        origin = installed.origin_of(word)
        return Found(word, f"op of {origin}" if origin else "op", tuple(kinds.items()))
    return None


def _within(found: Found, part: str, asked: str) -> Found:
    """A field of something, or one of its variants."""
    path = f"{found.name}.{part}"
    chosen = dict(found.models).get(part)
    if part and chosen is not None:
        return Found(path, f"one of {found.name}", (("", chosen),))
    infos = {tag: fields(m)[part] for tag, m in found.models if part in fields(m)}
    if not infos:
        known = [n for _, model in found.models for n in fields(model) if n not in ("op", "id")]
        known = list(dict.fromkeys([*(tag for tag, _ in found.models if tag), *known]))
        listed = f"fields of {found.name}: {', '.join(known) or 'none'}"
        what = f"'{found.name}' has no field '{part}'"
        mark = Mark(f"explain {asked}")
        raise SpecError(Problem(what, mark, "", suggestion(part, known, listed), "unknown-word"))
    models = dict.fromkeys(m for info in infos.values() for m in models_in(info.annotation))
    alike = len({field_of(part, info) for info in infos.values()}) == 1
    if alike and len(infos) == len(found.models):
        infos = {"": next(iter(infos.values()))}
    return Found(path, "field", tuple(models), tuple(infos.items()))


def _field_alone(word: str) -> Found | None:
    """A field that is asked for without what has it, where it means one thing."""
    if word in repeat_meanings():
        return Found(word, "field of every op", ())
    having = [holder for holder in _holders() if word in fields(holder[1])]
    if not having:
        return None
    infos = [(name, fields(model)[word]) for name, model in having]
    if len(infos) == 1:
        name, info = infos[0]
        path = f"{name.partition(' ')[0]}.{word}"
        return Found(path, "field", tuple(models_in(info.annotation)), (("", info),))
    own = fields(Op).get(word)
    if own is not None:
        infos = [("every op", own), *((n, i) for n, i in infos if i.description != own.description)]
    return Found(word, "field", tuple(models_in(infos[0][1].annotation)), tuple(infos))


def _holders() -> Iterator[tuple[str, type[BaseModel]]]:
    yield from holders()
    yield STUDY, StudySpec


def _all_ops() -> Entry:
    generic = [field_of(name, fields(Op)[name]) for name in ("id", "from")]
    repeats = [Field(name, "", "null", text) for name, text in repeat_meanings().items()]
    meaning = (
        f"An op is its name, or a mapping with `op`. Ops: {', '.join(built_in())}. Every op has "
        "the fields below. Others come from installed packages that have an entry point in the "
        "group `nifbuild.ops`: a class with fields, a shape and a module, as those of nifbuild."
    )
    return Entry("ops", "section", meaning, (*generic, *repeats))


def _installed_lines() -> list[tuple[str, str]]:
    lines = [
        (name, f"{_first_line(meaning_of(found.op_class))} From {installed.origin_of(name)}.")
        for name, found in installed.LOADED.items()
    ]
    return [*lines, *((name, why) for name, why in installed.FAILED.items())]


def _generic_lines() -> list[tuple[str, str]]:
    return [(n, _first_line(fields(Op)[n].description or "")) for n in ("id", "from")]


def _section_meaning(name: str) -> str:
    if name == STUDY:
        return meaning_of(StudySpec)
    return " ".join((fields(SpecFile)[name].description or "").split())


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
