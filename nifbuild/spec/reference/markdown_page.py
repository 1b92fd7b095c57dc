"""examples/reference.md: all that `nifbuild explain` knows, on one page."""

from collections.abc import Iterable, Iterator

from nifbuild.spec.base import fields
from nifbuild.spec.document import SpecFile
from nifbuild.spec.ops import built_in
from nifbuild.spec.reference import explained, overview
from nifbuild.spec.reference.entries import Entry, Field
from nifbuild.spec.reference.words import STUDY

_HEAD = """\
# The language, word by word

Written by `nifbuild explain --markdown` from the models that check a spec; [the language by
example](language.md) is the way to learn it. `nifbuild explain conv` shows one entry in a terminal.
"""

_Told = dict[tuple[tuple[Field, ...], tuple[Entry, ...]], str]
"""The contents of mappings that stand on the page, and where."""


def reference_page() -> str:
    """The page, as Markdown."""
    groups = dict(overview())
    parts = [_HEAD, "## Ops\n"]
    ops = explained("ops")
    parts += [f"{ops.meaning}\n", *_table(ops.fields)]
    seen: set[type] = set()
    told: _Told = {}
    ops_here = built_in()
    for name, kinds in ops_here.items():
        first = next(iter(kinds.values()))
        if first not in seen:
            seen.add(first)
            alike = [n for n, other in ops_here.items() if first in other.values()]
            parts += _section(explained(name), "### ", ", ".join(alike), told)
    parts.append("## Sections\n")
    for name in (*fields(SpecFile), STUDY):
        parts += _section(explained(name), "### ", name, told)
    parts.append("## Values\n")
    words = (*groups["values"], *groups["functions"])
    for word, _ in words:
        entry = explained(word.partition("(")[0] if word[0] != "$" else word)
        parts.append(f"**`{entry.name}`**: {_text(entry.meaning)}\n")
    return "\n".join(parts)


def _section(entry: Entry, marks: str, title: str, told: _Told) -> Iterator[str]:
    yield f"{marks}{title}\n"
    if entry.field is not None:
        yield f"{_cell(entry.field.type)}; {_default(entry.field)}\n"
    if entry.meaning:
        yield _text(entry.meaning) + "\n"
    yield from _table(entry.fields)
    for variant in entry.variants:
        yield f"#### {title}: {variant.name}\n"
        if variant.meaning:
            yield _text(variant.meaning) + "\n"
        yield from _table(variant.fields)
    yield from _nested(entry, told)


def _nested(entry: Entry, told: _Told) -> Iterator[str]:
    """The fields of the mappings that stand in fields, each once."""
    for field in dict.fromkeys([*entry.fields, *(f for v in entry.variants for f in v.fields)]):
        inner = explained(f"{entry.name}.{field.name}") if "mapping" in field.type else None
        if inner is None or not (inner.fields or inner.variants):
            continue
        content = (inner.fields, inner.variants)
        if content not in told:
            told[content] = inner.name
            yield from _section(inner, "#### ", inner.name, told)
        else:
            anchor = told[content].replace(".", "")
            yield f"`{inner.name}` is as [{_text(told[content])}](#{anchor}).\n"


def _table(rows: Iterable[Field]) -> Iterator[str]:
    lines = [
        f"| `{row.name}` | {_cell(row.type)} | {_default(row)} | {_cell(row.meaning)} |"
        for row in rows
    ]
    if lines:
        yield "\n".join(("| field | type | default | meaning |", "|:--|:--|:--|:--|", *lines, ""))


def _default(field: Field) -> str:
    return "required" if field.default is None else f"`{field.default or ' '}`"


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    """Markdown: `*` and `_` are themselves, but in code, and so are angle brackets."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for character in ("\\", "*", "_", "<", "["):
            parts[index] = parts[index].replace(character, f"\\{character}")
    return "`".join(parts)
