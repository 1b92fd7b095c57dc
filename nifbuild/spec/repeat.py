"""Repetition of an op: how often it stands there, and what each repetition says for itself."""

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.blocks import REPEAT_KEYS, Scope
from nifbuild.spec.expressions import is_reference, names_within, substitute
from nifbuild.spec.names import POSITION
from nifbuild.spec.source import MAX_NODES, List, Map, Node, Scalar, plain

MAX_OPS = MAX_NODES // 4
"""Most ops that a model may come to."""


def rounds(node: Map, scope: Scope) -> list[Map]:
    """For each repetition the fields that are its own, those of `first` and `last` included.

    A variable may hold 0 or an empty list: then there is no repetition.

    Raises:
        SpecError: If the fields that say so are wrong.
    """
    if "repeat" not in node.entries:
        key = next(key for key in REPEAT_KEYS if key in node.entries)
        what = f"`{key}` is for ops that have `repeat`"
        raise _problem(what, node.key_marks[key], key, "add `repeat: 2`, or leave it out")
    each = _each(node.entries["repeat"], scope)
    overrides = [(0, "first"), (-1, "last")]
    for index, which in overrides:
        extra = _overrides(node, which)
        if each:
            each[index] = with_fields(each[index], extra)
    return each


def _each(written: Node, scope: Scope) -> list[Map]:
    given = substitute(written, scope)
    may_be_none = is_reference(written)
    if isinstance(given, List) and (given.items or may_be_none):
        fields = [item for item in given.items if isinstance(item, Map)]
        if len(fields) < len(given.items):
            what = "an entry of a list under repeat is a mapping of fields"
            fix = "write repeat: [{stride: 2}, {}]"
            raise _problem(what, given.mark, "repeat", fix, "type")
        return fields
    times = given.value if isinstance(given, Scalar) else plain(given)
    least = 0 if may_be_none else 1
    if isinstance(times, bool) or not isinstance(times, int) or times < least:
        what = "repeat is a whole number of at least 1, or a list with the fields of each "
        what += f"repetition, not {times!r}"
        raise _problem(what, given.mark, "repeat", "write repeat: 2", "type")
    if times > MAX_OPS:
        what = f"repeat: {times:,} gives more ops than a model may have ({MAX_OPS:,})"
        raise _problem(what, given.mark, "repeat", "repeat fewer times", "too-large")
    return [Map({}, {}, given.mark)] * times


def _overrides(node: Map, which: str) -> Map:
    extra = node.get(which)
    if extra is None:
        return Map({}, {}, node.mark)
    if not isinstance(extra, Map):
        fix = f"write {which}: {{stride: 2}}"
        raise _problem(f"{which} is a mapping of fields", extra.mark, which, fix, "type")
    return extra


def with_fields(node: Map, fields: Map) -> Map:
    """A copy that says what `fields` say instead."""
    for key, value in fields.entries.items():
        node = node.with_entry(key, value, fields.key_marks[key])
    return node


def index_name(node: Map) -> str:
    """The variable that counts the repetitions; empty where there is none."""
    given = node.get("index")
    if given is None:
        return ""
    name = node.text("index")
    if name is None or not name.isidentifier():
        fix = "write `index: i`, and $i where the number should stand"
        raise _problem("index is the name of a variable", given.mark, "index", fix, "type")
    return name


def differs(name: Node | None, index: str) -> bool:
    """Whether an id, `from` or `when` is another one in each repetition."""
    return name is not None and (index in names_within(name) or plain(name) == POSITION)


def _problem(what: str, mark: Mark, path: str, fix: str, code: str = "invalid") -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
