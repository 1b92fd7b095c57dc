"""`$name` and arithmetic in values: `$width * 2`, `round_to($width * $ratio, 8)`.

A string that contains `$name` is an expression. It is parsed by Python's own parser and then
walked over a short list of allowed forms; nothing is ever evaluated as code.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from nifbuild.errors import Problem, SpecError, suggestion
from nifbuild.spec.source import List, Map, Node, Scalar, ScalarValue, Variable

MAX_LENGTH = 200
MAX_MAGNITUDE = 10**15
"""Largest result; a width or a count beyond it is a slip."""

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")

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
    if isinstance(node, List):
        return List(tuple(substitute(item, scope) for item in node.items), node.mark)
    if isinstance(node, Map):
        entries = {key: substitute(value, scope) for key, value in node.entries.items()}
        return Map(entries, node.key_marks, node.mark)
    return evaluate(node, scope) if is_expression(node.value) else node


def evaluate(node: Scalar, scope: Mapping[str, Node]) -> Node:
    """The value of the expression that `node` holds.

    A bare `$name` gives the variable's value whatever it is; in arithmetic it must be a number.
    Results that are whole numbers are ints, so that `$width / 2` may be a number of channels.
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
    bare = _NAME.fullmatch(text)
    if bare:
        value = scope[bare[1]]
        return replace(value, mark=node.mark) if isinstance(value, Scalar) else value
    try:
        result = _Evaluator(scope).run(text)
        return Scalar(result, node.mark, origin=_origin(scope[n] for n in names_within(node)))
    except _ExpressionError as error:
        raise SpecError(
            Problem(
                f"cannot evaluate '{text[:MAX_LENGTH]}': {error}",
                node.mark,
                fix=f"allowed: numbers, $names, + - * / // %, parentheses, {', '.join(_FUNCTIONS)}",
                code="expression",
            )
        ) from None


def _origin(values: Iterable[Node]) -> Variable | None:
    """The one variable behind the values; of several, the one that a flag sets."""
    found = {v.origin for v in values if isinstance(v, Scalar) and v.origin is not None}
    by_flag = [origin for origin in found if origin.mark.line == 0]
    candidates = by_flag or list(found)
    return candidates[0] if len(candidates) == 1 else None


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


class _Evaluator:
    def __init__(self, scope: Mapping[str, Node]) -> None:
        self.scope = scope

    def run(self, text: str) -> ScalarValue:
        if len(text) > MAX_LENGTH:
            raise _ExpressionError(f"longer than {MAX_LENGTH} characters")
        try:
            # A prefix keeps Python's keywords usable as variables and bare words recognisable.
            tree = ast.parse(_NAME.sub(r"var_\1", text), mode="eval")
            return self.number(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _ExpressionError("not an arithmetic expression") from None

    def number(self, node: ast.expr) -> Number:
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if isinstance(node, ast.Name):
            return self.variable(node.id)
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
        raise _ExpressionError(f"'{ast.unparse(node)}' is not arithmetic".replace("var_", "$"))

    def constant(self, value: object) -> Number:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _ExpressionError(f"{value!r} is not a number")
        return self.bounded(value)

    def variable(self, identifier: str) -> Number:
        name = identifier.removeprefix("var_")
        if name == identifier:
            raise _ExpressionError(f"write ${identifier} for the variable")
        node = self.scope[name]
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _ExpressionError(f"${name} is not a number")
        return value

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
