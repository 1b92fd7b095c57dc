"""Blocks: ops under a name, with arguments."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean, listing, suggestion, told
from nifbuild.spec.defaults import unknown_op
from nifbuild.spec.expressions import is_expression, is_reference, names_within, substitute
from nifbuild.spec.ops import OPS, installed, kinds_of
from nifbuild.spec.source import List, Map, Node, Scalar, plain

Scope = Mapping[str, Node]
"""Variables and their values."""

REPEAT_KEYS = ("repeat", "first", "last", "index")
"""Fields of every op that say how often it stands there."""
CALL_KEYS = ("op", "id", "from", "when", *REPEAT_KEYS)
"""Fields of a block's call that are not its arguments."""

_REPLACED_WHOLE = "`blocks` are replaced whole, while `vars` and `defaults` merge"
"""What a spec must know that writes a block of an extended file anew."""

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "any": (),
    "ops": (),
}


@dataclass(frozen=True, slots=True)
class Ops(List):
    """Ops that a block is given; they are written out where the block puts them.

    Attributes:
        scope: The variables where the ops were written, which are those that they see.
        within: The blocks around the place where they were written.
    """

    scope: Scope = field(default_factory=dict, compare=False, repr=False)
    within: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument as a block declares it.

    Attributes:
        kind: Name of its type.
        default: Its value where a call gives none; None: a call has to give one.
        exact: Whether the type was named. A default of 3 alone says what a side of the filter is:
            [1, 7] may take its place.
        declared: The declaration.
    """

    kind: str
    default: Node | None
    exact: bool
    declared: Node

    def takes(self, value: Node) -> bool:
        """Whether a value is of its type, or null where the default is."""
        if _is_null(value) and self.exact and _is_null(self.default):
            return True
        parts = value.items if isinstance(value, List) and not self.exact else ()
        return all(_fits(part, self.kind) for part in parts or (value,))


class Block:
    """A block's declaration."""

    def __init__(self, name: str, node: Node, mark: Mark) -> None:
        self.name = name
        if name in OPS and name not in installed.LOADED:
            raise _invalid(f"'{name}' is an op already", mark, f"blocks.{name}", "rename the block")
        if not isinstance(node, Map):
            fix = f"write {name}: {{args: {{out_channels: int}}, body: [...]}}"
            raise _invalid("a block is a mapping with `body`", mark, f"blocks.{name}", fix)
        for key in node.entries:
            if key not in ("args", "body"):
                fix = did_you_mean(key, ["args", "body"]) or "a block has `args` and `body`"
                place = node.key_marks[key]
                raise _invalid(
                    f"unknown field '{key}'", place, f"blocks.{name}", fix, "unknown-field"
                )
        body = node.get("body")
        if body is None:
            fix = "add `body:` with the block's ops"
            if node.replaces is not None:
                fix += f"; {_REPLACED_WHOLE}"
            raise _invalid("missing field `body`", mark, f"blocks.{name}", fix, "missing-field")
        self.body = body
        arguments = node.get("args")
        if arguments is not None and not isinstance(arguments, Map):
            fix = "write args: {out_channels: int, stride: 1}"
            raise _invalid("args is a mapping", arguments.mark, f"blocks.{name}.args", fix)
        arguments = arguments or Map({}, {}, mark)
        self.replaced = Replaced(name, node, mark) if node.replaces is not None else None
        for key in arguments.entries:
            if key in CALL_KEYS:
                what = f"an argument cannot be named '{key}', as a field of every op is"
                place = arguments.key_marks[key]
                raise _invalid(what, place, f"blocks.{name}.args", "rename the argument")
        self.arguments = {
            key: _argument(declared, f"blocks.{name}.args.{key}")
            for key, declared in arguments.entries.items()
        }

    def bind(
        self, call: Map, scope: Scope, variables: Scope, within: tuple[str, ...] = ()
    ) -> dict[str, Node]:
        """The arguments of one call.

        Args:
            call: The op that names the block.
            scope: What the values given in the call may refer to.
            variables: What defaults may refer to, besides the arguments before them.
            within: The blocks around the call.
        """
        if self.replaced is not None:
            self.replaced.require_arguments(call, variables)
        problems: list[Problem] = []
        given = {
            key: _value(self.arguments.get(key), value, scope, within)
            for key, value in call.entries.items()
            if key not in CALL_KEYS
        }
        listed = f"arguments of {self.name}: {listing(self.arguments)}"
        problems += told(
            Problem(
                f"block '{self.name}' has no argument '{key}'",
                call.key_marks[key],
                key,
                suggestion(key, self.arguments, listed),
                "unknown-field",
            )
            for key in given
            if key not in self.arguments
        )
        bound: dict[str, Node] = {}
        for key, argument in self.arguments.items():
            if key in given:
                bound[key] = given[key]
                if not argument.takes(given[key]):
                    problems.append(self._wrong_type(key, given[key]))
            elif argument.default is None:
                what = f"block '{self.name}' needs the argument '{key}' ({argument.kind})"
                problems.append(Problem(what, call.mark, key, listed, "missing-field"))
            else:
                inner = {**variables, **bound}
                bound[key] = _value(argument, argument.default, inner, (*within, self.name))
        if problems:
            raise SpecError(told(problems))
        return bound

    def _wrong_type(self, key: str, value: Node) -> Problem:
        argument = self.arguments[key]
        got = repr(value.value) if isinstance(value, Scalar) else "a collection"
        kind = "a list of ops" if argument.kind == "ops" else argument.kind
        what = f"the argument '{key}' of block '{self.name}' is {kind}, not {got}"
        declared = argument.declared
        word = declared.value if isinstance(declared, Scalar) else argument.kind
        fix = f"the block declares it as `{key}: {word}` ({declared.mark})"
        variable = value.origin if isinstance(value, Scalar) else None
        if variable is None:
            return Problem(what, value.mark, key, fix, "type")
        fix += f"\nused at {value.mark}"
        return Problem(what, variable.mark, f"vars.{variable.name}", fix, "type")


def op_name(node: Map, scope: Scope, blocks: Map) -> str:
    """The op or block that an op names.

    Raises:
        SpecError: If there is none of that name.
    """
    given = substitute(node.entries["op"], scope)
    name = given.value if isinstance(given, Scalar) else None
    if not isinstance(name, str) or not (name in blocks.entries or kinds_of(name)):
        raise SpecError(unknown_op(given, "model", blocks.entries))
    return name


def _argument(declared: Node, path: str) -> Argument:
    """A type's name declares an argument that must be given, a value its default.

    `{type: any, default: 1}` says both.
    """
    word = declared.value if isinstance(declared, Scalar) else None
    if isinstance(word, str) and word in _TYPES:
        return Argument(word, None, True, declared)
    if not isinstance(declared, Map) or "type" not in declared.entries:
        kind = _kind_of(word) if word is not None else "any"
        return Argument(kind, declared, False, declared)
    for key in declared.entries:
        if key not in ("type", "default"):
            fix = suggestion(key, ["type", "default"], "write {type: any, default: 1}")
            place = declared.key_marks[key]
            raise _invalid(f"unknown field '{key}'", place, path, fix, "unknown-field")
    kind = declared.text("type") or ""
    if kind not in _TYPES:
        given = declared.entries["type"]
        what = f"unknown type '{plain(given)}'"
        raise _invalid(what, given.mark, f"{path}.type", _types(kind), "type")
    default = declared.get("default")
    is_open = isinstance(default, Scalar) and is_expression(default.value)
    if default is not None and not (is_open or _is_null(default) or _fits(default, kind)):
        what = f"the default is not of the type {kind}"
        raise _invalid(what, default.mark, f"{path}.default", "change one of the two", "type")
    return Argument(kind, default, True, declared)


def _value(argument: Argument | None, written: Node, scope: Scope, within: tuple[str, ...]) -> Node:
    """What was written for an argument, evaluated; ops keep the variables of their place."""
    is_list = argument is not None and argument.kind == "ops" and _fits(written, "ops")
    if not is_list or is_reference(written):
        return substitute(written, scope)
    items = written.items if isinstance(written, List) else (written,)
    return Ops(items, written.mark, scope, within)


def _types(word: str) -> str:
    return suggestion(word, _TYPES, f"types: {', '.join(_TYPES)}")


class Replaced:
    """A block that takes the place of one of an extended file, whose uses know the old arguments.

    Each of those uses would be wrong; the place to be edited is the new block.
    """

    def __init__(self, name: str, new: Map, mark: Mark) -> None:
        assert new.replaces is not None
        self.name, self.mark, self.old = name, mark, new.replaces
        now, before = _declared(new), _declared(self.old)
        self.wanted = {**before, **now}
        self.lost = {key: node for key, node in before.items() if key not in now}
        self.added = {k: n for k, n in now.items() if k not in before and _is_required(n)}
        self.read = names_within(new)

    def require_arguments(self, call: Map, variables: Scope) -> None:
        """Raises SpecError where a call is for the old block, or the body reads its arguments."""
        used = {*call.entries, *(self.read - variables.keys())}
        if used & self.lost.keys():
            listed = ", ".join(f"{key}: {_declaration(n)}" for key, n in self.wanted.items())
            what = f"this takes the place of the block at {self.old.mark}, and lacks arguments of "
            what += f"it: {', '.join(self.lost)}"
            fix = f"{_REPLACED_WHOLE}: write args: {{{listed}}}"
            raise _invalid(what, self.mark, f"blocks.{self.name}", fix)
        missing = [key for key in self.added if key not in call.entries]
        if missing and call.mark.file != self.mark.file:
            what = f"this takes the place of the block at {self.old.mark}, whose uses do not give "
            what += f"the new argument '{missing[0]}'"
            fix = f"{_REPLACED_WHOLE}: give it a default, such as `{missing[0]}: 1`"
            raise _invalid(what, self.mark, f"blocks.{self.name}", fix)


def _declared(block: Map) -> Mapping[str, Node]:
    arguments = block.get("args")
    return arguments.entries if isinstance(arguments, Map) else {}


def _declaration(node: Node) -> str:
    return str(node.value) if isinstance(node, Scalar) else json.dumps(plain(node))


def _is_required(node: Node) -> bool:
    return isinstance(node, Scalar) and isinstance(node.value, str) and node.value in _TYPES


def _kind_of(value: object) -> str:
    """The type that a default implies; an expression implies none."""
    if is_expression(value):
        return "any"
    return next((k for k, types in _TYPES.items() if type(value) in types), "any")


def _is_null(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _fits(node: Node, kind: str) -> bool:
    types = _TYPES[kind]
    if kind == "ops":  # one op may stand without brackets
        return not isinstance(node, Scalar) or isinstance(node.value, str)
    return not types or (isinstance(node, Scalar) and type(node.value) in types)


def _invalid(what: str, mark: Mark, path: str, fix: str, code: str = "invalid") -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
