"""`$name` and arithmetic in values: `$width * 2`, `round_to($width * $ratio, 8)`, `$depths[$i]`.

A string that contains `$name` is an expression. It is parsed by Python's own parser and then
walked over a short list of allowed forms; nothing is ever evaluated as code.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

from nifbuild.errors import Problem, SpecError, suggestion
from nifbuild.spec.source import MAX_NODES, List, Map, Node, Scalar

MAX_LENGTH = 200
MAX_MAGNITUDE = 10**15
"""Largest result; a width or a count beyond it is a slip."""

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_INSERTION = re.compile(r"\$\(([^()]*)\)|\$[A-Za-z_][A-Za-z0-9_]*")

Number = int | float


def is_expression(value: object) -> bool:
    """Whether a value refers to a variable."""
    return isinstance(value, str) and _NAME.search(value) is not None


def names_within(node: Node) -> set[str]:
    """The variables that the expressions in a tree refer to."""
    if isinstance(node, Scalar):
        return set(_NAME.findall(node.value)) if isinstance(node.value, str) else set()
    children = node.items if isinstance(node, List) else tuple(node.entries.values())
    return set().union(*(names_within(child) for child in children))


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
    if result.num_nodes > MAX_NODES:
        what = f"variables expand to more than {MAX_NODES:,} values"
        raise SpecError(Problem(what, node.mark, code="too-large"))
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
            known = ", ".join(sorted(scope)) or "none"
            fix = suggestion(name, scope, f"variables here: {known}")
            problem = Problem(
                f"unknown variable ${name}", node.mark, fix=fix, code="unknown-variable"
            )
            raise SpecError(problem)
    try:
        value = _Evaluator(scope).run(text)
        if isinstance(value, List | Map):
            return value
        if isinstance(value, Scalar):
            return Scalar(value.value, node.mark, via=(value.mark, *value.via))
        used = [scope[name] for name in sorted(names_within(node))]
        via = (m for n in used for m in (n.mark, *(n.via if isinstance(n, Scalar) else ())))
        return Scalar(value, node.mark, via=tuple(dict.fromkeys(via)))
    except _ExpressionError as error:
        raise SpecError(
            Problem(
                f"cannot evaluate '{text[:MAX_LENGTH]}': {error}",
                node.mark,
                fix=_hint(text),
                code="expression",
            )
        ) from None


def _hint(text: str) -> str:
    if text.count("(") > text.count(")"):
        return "within {...} a comma ends the value: quote it, or write one field on each line"
    functions = ", ".join(_FUNCTIONS)
    return f"allowed: numbers, $names, $lists[index], + - * / // %, parentheses, {functions}"


def interpolate(node: Scalar, scope: Mapping[str, Node]) -> Scalar:
    """Text in which each `$name` and each `$($i + 1)` stands for its value, as ids may have.

    Raises:
        SpecError: As `evaluate`; also if a value is no whole number or text.
    """

    def written(found: re.Match[str]) -> str:
        value = evaluate(Scalar(found[1] or found[0], node.mark), scope)
        content = value.value if isinstance(value, Scalar) else None
        if isinstance(content, bool) or not isinstance(content, int | str):
            what = f"'{found[0]}' is no whole number or text, and cannot be a part of a name"
            raise SpecError(Problem(what, node.mark, code="expression"))
        return str(content)

    return Scalar(_INSERTION.sub(written, str(node.value)), node.mark)


def round_to(value: Number, divisor: int) -> int:
    """The nearest multiple of `divisor`, at least one of it and at least 90 % of `value`.

    The rounding of channel counts in MobileNet (there `make_divisible`).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "min": min,
    "max": max,
    "round": round,
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


class _ExpressionError(Exception):
    pass


def _is_value(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Subscript)


def _written(node: ast.expr) -> str:
    return ast.unparse(node).replace("var_", "$")


class _Evaluator:
    def __init__(self, scope: Mapping[str, Node]) -> None:
        self.scope = scope

    def run(self, text: str) -> Node | Number:
        if len(text) > MAX_LENGTH:
            raise _ExpressionError(f"longer than {MAX_LENGTH} characters")
        try:
            # A prefix keeps Python's keywords usable as variables and bare words recognisable.
            body = ast.parse(_NAME.sub(r"var_\1", text), mode="eval").body
            return self.value(body) if _is_value(body) else self.number(body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _ExpressionError("not an arithmetic expression") from None

    def number(self, node: ast.expr) -> Number:
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if _is_value(node):
            found = self.value(node)
            value = found.value if isinstance(found, Scalar) else None
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _ExpressionError(f"{_written(node)} is not a number")
            return value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.number(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self.number(node.left), self.number(node.right)
            return self.apply(_BINARY[type(node.op)], left, right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            function = _FUNCTIONS.get(node.func.id)
            if function is None:
                raise _ExpressionError(f"unknown function '{node.func.id}'")
            return self.apply(function, *(self.number(argument) for argument in node.args))
        raise _ExpressionError(f"'{_written(node)}' is not arithmetic")

    def value(self, node: ast.expr) -> Node:
        """What a variable, or an entry of a list, holds."""
        if isinstance(node, ast.Subscript):
            found, index = self.value(node.value), self.number(node.slice)
            if not isinstance(found, List):
                raise _ExpressionError(f"{_written(node.value)} is not a list")
            if not isinstance(index, int) or not -len(found.items) <= index < len(found.items):
                count = f"has {len(found.items)} entries, counted from 0"
                raise _ExpressionError(f"{_written(node.value)} {count}: there is no [{index}]")
            return found.items[index]
        if not isinstance(node, ast.Name):
            raise _ExpressionError(f"'{_written(node)}' is not a variable")
        name = node.id.removeprefix("var_")
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
