"""Blocks: ops under a name, with arguments."""

import json
from collections.abc import Mapping

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean, listing, suggestion, told
from nifbuild.spec.expressions import is_expression, names_within, substitute
from nifbuild.spec.ops import OPS, installed
from nifbuild.spec.source import List, Map, Node, Scalar, plain

Scope = Mapping[str, Node]
"""Variables and their values."""

REPEAT_KEYS = ("repeat", "first", "last", "index")
"""Fields of every op that say how often it stands there."""
CALL_KEYS = ("op", "id", "from", *REPEAT_KEYS)
"""Fields of a block's call that are not its arguments."""

_REPLACED_WHOLE = "`blocks` are replaced whole, while `vars` and `defaults` merge"
"""What a spec must know that writes a block of an extended file anew."""

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "any": (),
}


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
        self.arguments = arguments.entries
        self.replaced = Replaced(name, node, mark) if node.replaces is not None else None

        for key in self.arguments:
            if key in CALL_KEYS:
                what = f"an argument cannot be named '{key}', as a field of every op is"
                place = arguments.key_marks[key]
                raise _invalid(what, place, f"blocks.{name}.args", "rename the argument")

    def bind(self, call: Map, scope: Scope, variables: Scope) -> dict[str, Node]:
        """The arguments of one call: a type name declares a required one, a value a default.

        Args:
            call: The op that names the block.
            scope: What the values given in the call may refer to.
            variables: What defaults may refer to, besides the arguments before them.
        """
        if self.replaced is not None:
            self.replaced.require_arguments(call, variables)
        problems: list[Problem] = []
        given = {k: substitute(v, scope) for k, v in call.entries.items() if k not in CALL_KEYS}
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
        for key, declared in self.arguments.items():
            word = declared.value if isinstance(declared, Scalar) else None
            required = isinstance(word, str) and word in _TYPES
            if key not in given:
                if required:
                    what = f"block '{self.name}' needs the argument '{key}' ({word})"
                    problems.append(Problem(what, call.mark, key, listed, "missing-field"))
                else:
                    bound[key] = substitute(declared, {**variables, **bound})
                continue
            bound[key] = given[key]
            kind = str(word) if required else _kind_of(word) if word is not None else "any"
            # A default of 3 says what a side of the filter is: [1, 7] may take its place.
            value = given[key]
            parts = value.items if isinstance(value, List) and not required else ()
            if not all(_fits(part, kind) for part in parts or (value,)):
                problems.append(self._wrong_type(key, kind, value))
        if problems:
            raise SpecError(told(problems))
        return bound

    def _wrong_type(self, key: str, kind: str, value: Node) -> Problem:
        declared = self.arguments[key]
        word = declared.value if isinstance(declared, Scalar) else None
        got = repr(value.value) if isinstance(value, Scalar) else "a collection"
        what = f"the argument '{key}' of block '{self.name}' is {kind}, not {got}"
        fix = f"the block declares it as `{key}: {word}` ({declared.mark})"
        variable = value.origin if isinstance(value, Scalar) else None
        if variable is None:
            return Problem(what, value.mark, key, fix, "type")
        fix += f"\nused at {value.mark}"
        return Problem(what, variable.mark, f"vars.{variable.name}", fix, "type")


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


def _fits(node: Node, kind: str) -> bool:
    types = _TYPES[kind]
    return not types or (isinstance(node, Scalar) and type(node.value) in types)


def _invalid(what: str, mark: Mark, path: str, fix: str, code: str = "invalid") -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
