"""The words of the language that have a meaning of their own, and where the others are found."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from nifbuild.spec.base import fields
from nifbuild.spec.document import SpecFile
from nifbuild.spec.expressions import FUNCTIONS
from nifbuild.spec.ops import OPS, Op
from nifbuild.spec.reference.type_words import models_in
from nifbuild.spec.schema import repeat_fields
from nifbuild.spec.study import StudySpec

STUDY = "study"
"""The name of what the files of `nifbuild ablate` say."""

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

WORDS: Mapping[str, str] = {
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
SAME = {"$": "$name", "variable": "$name", "expression": "$name", "list[i]": "$list[i]"}
SAME |= {"$list": "$list[i]", "$()": "$( )", "$(": "$( )", "index[i]": "$list[i]"}


def holders() -> Iterator[tuple[str, type[BaseModel]]]:
    """All that has fields, by the name that it is shown under."""
    for name, kinds in OPS.items():
        for kind, op_class in kinds.items():
            yield f"{name} ({kind})" if kind else name, op_class
    for path, tag, model in nested():
        yield f"{path} ({tag})" if tag else path, model


def repeat_meanings() -> dict[str, str]:
    """What the fields mean that say how often an op stands there, by their names."""
    return {name: str(rule["description"]) for name, rule in repeat_fields().items()}


def kinds_of_ops() -> dict[str, tuple[str, type[Op]]]:
    """The kinds of all ops by name, with the op and the class of each."""
    return {k: (op, c) for op, kinds in OPS.items() for k, c in kinds.items() if k}


def alternatives() -> dict[str, tuple[str, type[BaseModel]]]:
    """Words that choose what a section or field is, such as `sgd`, where one place has them."""
    found: dict[str, tuple[str, type[BaseModel]]] = {}
    twice = set()
    for path, tag, model in nested():
        if tag and found.setdefault(tag, (path, model))[1] is not model:
            twice.add(tag)
    taken = {*OPS, *kinds_of_ops(), *fields(SpecFile), *FUNCTIONS, *twice}
    return {tag: place for tag, place in found.items() if tag not in taken}


def nested() -> Iterator[tuple[str, str, type[BaseModel]]]:
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
