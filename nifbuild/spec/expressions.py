"""`$name` and arithmetic in values: `$width * 2`, `round_to($width * $ratio, 8)`, `$depths[$i]`.

A string that contains `$name` is an expression. It is parsed by Python's own parser and then
walked over a short list of allowed forms; nothing is ever evaluated as code.
"""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from nifbuild.errors import Mark, Problem, SpecError, listing, suggestion
from nifbuild.spec.source import (
    List,
    Map,
    Node,
    Scalar,
    ScalarValue,
    Variable,
    require_bounded,
)

MAX_LENGTH = 200
"""Longest expression."""
MAX_NAME_LENGTH = 1000
"""Longest text that names with variables in them come to."""
_MAX_DIGITS = 15
"""Most digits to round to, as many as a float has."""
_MAX_PLACES = 20
"""Most places that a value remembers to be computed from."""
MAX_MAGNITUDE = 10**15
"""Largest result; a width or a count beyond it is a slip."""

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_REFERENCE = re.compile(r"\s*\$[A-Za-z_][A-Za-z0-9_]*\s*(\[[^\[\]]*\]\s*)*")
_INSERTION = re.compile(r"\$\(|\$[A-Za-z_][A-Za-z0-9_]*")
_PREFIX = "var_"
"""What names of variables begin with where Python parses them."""
_TAKEN = re.compile(rf"(?<![$\w]){_PREFIX}\w*")

Number = int | float


def is_expression(value: object) -> bool:
    """Whether a value refers to a variable, or is arithmetic in `$( )`."""
    return isinstance(value, str) and (_NAME.search(value) is not None or value.startswith("$("))


def is_reference(node: Node) -> bool:
    """Whether a value is a variable, or an entry of a list, and no arithmetic: any value at all."""
    text = node.value if isinstance(node, Scalar) else None
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def names_within(node: Node) -> set[str]:
    """The variables that the expressions in a tree refer to."""
    if isinstance(node, Scalar):
        return set(_NAME.findall(node.value)) if isinstance(node.value, str) else set()
    children = node.items if isinstance(node, List) else tuple(node.entries.values())
    return set().union(*(names_within(child) for child in children))


def variables(tree: Map) -> dict[str, Node]:
    """The values of `vars`, expressions among them evaluated in the order of their need.

    Raises:
        SpecError: If `vars` is no mapping of names, or variables refer to each other in a circle.
    """
    node = tree.get("vars")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Map):
        raise _invalid_variables(
            "vars is a mapping of names to values", node.mark, "write vars: {width: 64}"
        )
    for name in node.entries:
        if not name.isidentifier():
            fix = "use letters, digits and underscores"
            what = f"'{name}' is not a variable name"
            raise _invalid_variables(what, node.key_marks[name], fix)
    needs = {
        name: sorted(names_within(value) & node.entries.keys())
        for name, value in node.entries.items()
    }
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = sorted(set(error.args[1]), key=list(node.entries).index)
        what = f"variables refer to each other in a circle: {', '.join(circle)}"
        fix = "give one of them a value without the others"
        raise _invalid_variables(what, node.key_marks[circle[0]], fix) from None
    done: dict[str, Node] = {}
    for name in order:
        value = substitute(node.entries[name], done)
        if isinstance(value, Scalar) and value.origin is None:
            value = replace(value, origin=Variable(name, value.mark))
        done[name] = value
    return done


def _invalid_variables(what: str, mark: Mark, fix: str) -> SpecError:
    return SpecError(Problem(what, mark, "vars", fix))


def substitute(node: Node, scope: Mapping[str, Node]) -> Node:
    """A copy of the tree with every expression replaced by its value; places stay.

    Raises:
        SpecError: With the place of the expression, if it cannot be evaluated.
    """
    if isinstance(node, Scalar):
        return evaluate(node, scope) if is_expression(node.value) else node
    result: List | Map
    if isinstance(node, List):
        result = List(tuple(substitute(item, scope) for item in node.items), node.mark)
    else:
        entries = {key: substitute(value, scope) for key, value in node.entries.items()}
        result = Map(entries, node.key_marks, node.mark)
    require_bounded(result, "variables")
    return result


def evaluate(node: Scalar, scope: Mapping[str, Node]) -> Node:
    """The value of the expression that `node` holds.

    A bare `$name`, or an entry `$name[0]` of a list, gives its value whatever it is; in arithmetic
    it must be a number. Results that are whole numbers are ints, so that `$width / 2` may be a
    number of channels.
    """
    text = str(node.value).strip()
    for name in sorted(names_within(node)):
        if name not in scope:
            fix = suggestion(name, scope, f"variables here: {listing(sorted(scope))}")
            if name == "num_classes":
                fix += "\nwrite vars: {num_classes: 10}; data that knows its own takes its place"
            problem = Problem(
                f"unknown variable ${name}", node.mark, fix=fix, code="unknown-variable"
            )
            raise SpecError(problem)
    try:
        value = _Evaluator(scope).run(text)
    except _ExpressionError as error:
        what = f"cannot evaluate '{text[:MAX_LENGTH]}': {error}"
        if error.variable is None:
            raise SpecError(Problem(what, node.mark, fix=_hint(text), code="expression")) from None
        path, fix = f"vars.{error.variable.name}", f"used at {node.mark}"
        raise SpecError(Problem(what, error.variable.mark, path, fix, "expression")) from None
    if isinstance(value, List | Map):
        return value
    if isinstance(value, Scalar):
        return _made_of([value], value.value, node.mark)
    return _made_of([scope[name] for name in sorted(names_within(node))], value, node.mark)


def _made_of(used: Sequence[Node], value: ScalarValue, mark: Mark) -> Scalar:
    """The value of the expression at `mark`, which remembers what it was computed from."""
    via = (m for n in used for m in (n.mark, *(n.via if isinstance(n, Scalar) else ())))
    places = tuple(itertools.islice(dict.fromkeys(via), _MAX_PLACES))
    return Scalar(value, mark, via=places, origin=_origin(used))


def _origin(values: Sequence[Node]) -> Variable | None:
    """The one variable behind the values; of several, the one that a flag sets."""
    found = {v.origin for v in values if isinstance(v, Scalar) and v.origin is not None}
    by_flag = [origin for origin in found if origin.mark.line == 0]
    candidates = by_flag or list(found)
    return candidates[0] if len(candidates) == 1 else None


def _hint(text: str) -> str:
    if text.count("(") > text.count(")"):
        return "within {...} a comma ends the value: quote it, or write one field on each line"
    functions = ", ".join(FUNCTIONS)
    signs = "+ - * / // %, parentheses, == != < <= > >=, not"
    return f"allowed: numbers, $names, $lists[index], {signs}, {functions}"


def interpolate(node: Scalar, scope: Mapping[str, Node]) -> Scalar:
    """Text in which each `$name` and each `$($i + 1)` stands for its value, as ids may have.

    Raises:
        SpecError: As `evaluate`; also if a value is no whole number or text, or all is too long.
    """
    text = str(node.value)
    length, position = len(text), 0
    parts: list[str] = []
    while found := _INSERTION.search(text, position):
        end = _closed(text, found.end(), node.mark) if found[0] == "$(" else found.end()
        inserted = text[found.start() : end]
        value = evaluate(Scalar(inserted, node.mark), scope)
        content = value.value if isinstance(value, Scalar) else None
        if isinstance(content, bool) or not isinstance(content, int | str):
            what = f"'{inserted}' is no whole number or text, and cannot be a part of a name"
            fix = "use a variable that holds one"
            raise SpecError(Problem(what, node.mark, fix=fix, code="expression"))
        length += len(str(content))
        if length > MAX_NAME_LENGTH:
            what = f"a name of more than {MAX_NAME_LENGTH:,} characters"
            raise SpecError(Problem(what, node.mark, fix="shorten it", code="expression"))
        parts += [text[position : found.start()], str(content)]
        position = end
    return Scalar("".join((*parts, text[position:])), node.mark)


def _closed(text: str, start: int, mark: Mark) -> int:
    """Where the text goes on after the parenthesis that was opened before `start`."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if not depth:
            return index + 1
    what = f"'{text[start - 2 :][:MAX_LENGTH]}' has no closing parenthesis"
    raise SpecError(Problem(what, mark, fix=_hint(text), code="expression"))


def round_to(value: Number, divisor: int) -> int:
    """The nearest multiple of `divisor`, at least one of it and at least 90 % of `value`.

    The rounding of channel counts in MobileNet (there `make_divisible`).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _round(value: Number, digits: Number = 0) -> Number:
    """Python's own, which computes a power of ten of as many digits as it is told."""
    if abs(digits) > _MAX_DIGITS:
        raise ValueError(f"round to at most {_MAX_DIGITS} digits")
    return round(value, int(digits)) if digits else round(value)


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "min": min,
    "max": max,
    "round": _round,
    "floor": math.floor,
    "ceil": math.ceil,
    "round_to": round_to,
}
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class _ExpressionError(Exception):
    """Why an expression has no value; `variable` is the one to edit, where that is known."""

    def __init__(self, reason: str, variable: Variable | None = None) -> None:
        super().__init__(reason)
        self.variable = variable


def _is_value(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Subscript)


def _is_truth(node: ast.expr) -> bool:
    is_not = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    return is_not or isinstance(node, ast.Compare)


def _written(node: ast.expr) -> str:
    return re.sub(rf"\b{_PREFIX}", "$", ast.unparse(node))


class _Evaluator:
    def __init__(self, scope: Mapping[str, Node]) -> None:
        self.scope = scope

    def run(self, text: str) -> Node | Number:
        if len(text) > MAX_LENGTH:
            raise _ExpressionError(f"longer than {MAX_LENGTH} characters")
        if bare := _TAKEN.search(text):
            raise _ExpressionError(f"write ${bare[0]} for the variable")
        text = text.replace("$(", "(")
        try:
            # A prefix keeps Python's keywords usable as variables and bare words recognisable.
            body = ast.parse(_NAME.sub(rf"{_PREFIX}\1", text), mode="eval").body
            if _is_value(body):
                return self.value(body)
            return self.truth(body) if _is_truth(body) else self.number(body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _ExpressionError("not an arithmetic expression") from None

    def number(self, node: ast.expr) -> Number:
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if _is_value(node):
            found = self.value(node)
            value = found.value if isinstance(found, Scalar) else None
            if isinstance(value, bool) or not isinstance(value, int | float):
                origin = found.origin if isinstance(found, Scalar) else None
                raise _ExpressionError(f"{_written(node)} is not a number", origin)
            return self.bounded(value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.number(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self.number(node.left), self.number(node.right)
            return self.apply(_BINARY[type(node.op)], left, right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            function = FUNCTIONS.get(node.func.id)
            if function is None:
                raise _ExpressionError(f"unknown function '{node.func.id}'")
            return self.apply(function, *(self.number(argument) for argument in node.args))
        raise _ExpressionError(f"'{_written(node)}' is not arithmetic")

    def truth(self, node: ast.expr) -> bool:
        """Whether a comparison of numbers holds, or a variable does not."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.truth(node.operand)
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
            values = [self.number(part) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARISONS[type(op)](left, right) for op, left, right in pairs)
        found = self.value(node) if _is_value(node) else None
        if isinstance(found, Scalar) and isinstance(found.value, bool):
            return found.value
        raise _ExpressionError(f"{_written(node)} is not true or false")

    def value(self, node: ast.expr) -> Node:
        """What a variable, or an entry of a list, holds."""
        if isinstance(node, ast.Subscript):
            found, index = self.value(node.value), self.number(node.slice)
            flag = "" if found.mark.line else f" ({found.mark})"  # it is nowhere in the file
            if not isinstance(found, List):
                what = f"{_written(node.value)} is not a list"
                text = str(found.value) if isinstance(found, Scalar) else ""
                as_list = f", which is written [{text}]" if "," in text else ""
                raise _ExpressionError(what + as_list + flag)
            if not isinstance(index, int) or not -len(found.items) <= index < len(found.items):
                count = f"has {len(found.items)} entries, counted from 0"
                what = f"{_written(node.value)} {count}: there is no [{index}]"
                raise _ExpressionError(what + flag)
            return found.items[index]
        if not isinstance(node, ast.Name):
            raise _ExpressionError(f"'{_written(node)}' is not a variable")
        name = node.id.removeprefix(_PREFIX)
        if name == node.id:
            raise _ExpressionError(f"write ${node.id} for the variable")
        return self.scope[name]

    def constant(self, value: object) -> Number:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _ExpressionError(f"{value!r} is not a number")
        return self.bounded(value)

    def apply(self, function: Callable[..., Number], *arguments: Number) -> Number:
        try:
            result = function(*arguments)
        except ZeroDivisionError:
            raise _ExpressionError("division by zero") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise _ExpressionError(str(error)) from None
        return self.bounded(result)

    @staticmethod
    def bounded(value: Number) -> Number:
        if not abs(value) <= MAX_MAGNITUDE:
            raise _ExpressionError(f"a result beyond {MAX_MAGNITUDE:.0e}")
        return int(value) if isinstance(value, float) and value.is_integer() else value
