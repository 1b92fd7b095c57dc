import pytest

from nifbuild.errors import Mark, SpecError
from nifbuild.spec.expressions import evaluate, interpolate, is_expression, round_to
from nifbuild.spec.source import List, Scalar

PLACE = Mark("f.yaml", 1, 1)
SCOPE = {
    "w": Scalar(64, PLACE),
    "ratio": Scalar(1.5, PLACE),
    "zero": Scalar(0, PLACE),
    "word": Scalar("relu", PLACE),
    "flag": Scalar(True, PLACE),
    "if": Scalar(2, PLACE),
    "var_w": Scalar(7, PLACE),
    "sizes": List((Scalar(1, PLACE),), PLACE),
    "words": List((Scalar("a", PLACE), Scalar("b", PLACE)), PLACE),
    "nested": List((List((Scalar(5, PLACE),), PLACE),), PLACE),
}


def value(text: str):
    node = evaluate(Scalar(text, PLACE), SCOPE)
    return node.value if isinstance(node, Scalar) else node


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$w", 64),
        ("$word", "relu"),
        ("$flag", True),
        ("$sizes", SCOPE["sizes"]),
        ("$w * 2", 128),
        ("2*$w + 1", 129),
        ("-$w", -64),
        ("($w + 2) * 3 - $w // 5 % 4", 198),
        ("$w / 2", 32),
        ("$w / 3", 64 / 3),
        ("$w * $ratio", 96),
        ("$if * 2", 4),
        ("round_to($w * 0.35, 8)", 24),
        ("max($w, 100)", 100),
        ("floor($w / 3) + ceil($w / 3) + round($ratio)", 21 + 22 + 2),
        ("min($w, 8, 16)", 8),
        ("$sizes[0]", 1),
        ("$sizes[-1] * 3", 3),
        ("$sizes[$zero] + 1", 2),
        ("$words[1]", "b"),
        ("$nested[0][0]", 5),
        ("$(2 * ($w - 1))", 126),
        ("$($w)", 64),
        ("$(2 * 3)", 6),
        ("$(($w)) + 1", 65),
        ("$var_w + 1", 8),
        ("$nested[0]", SCOPE["nested"].items[0]),
    ],
)
def test_values(text, expected):
    found = value(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$nope", "unknown variable $nope"),
        ("$zerro", "did you mean 'zero'?"),
        ("$w / $zero", "division by zero"),
        ("$w % $zero", "division by zero"),
        ("$word * 2", "$word is not a number"),
        ("$flag + 1", "$flag is not a number"),
        ("$sizes[1]", "$sizes has 1 entries, counted from 0: there is no [1]"),
        ("$sizes[-2]", "there is no [-2]"),
        ("$sizes[$ratio]", "there is no [1.5]"),
        ("$sizes[$word]", "$word is not a number"),
        ("$w[0]", "$w is not a list"),
        ("$words[0] + 1", "$words[0] is not a number"),
        ("sizes[$zero]", "write $sizes for the variable"),
        ("(1 + $w)[0]", "is not a variable"),
        ("$w * var_w", "write $var_w for the variable"),
        ("$w * var_nope", "write $var_nope for the variable"),
        ("var_w($w)", "write $var_w for the variable"),
        ("$w * var_ratio[0]", "write $var_ratio for the variable"),
        ("$w + $var_w[0]", "$var_w is not a list"),
        ("$sizes + 1", "$sizes is not a number"),
        ("$w ** 9", "'$w ** 9' is not arithmetic"),
        ("$w.real", "is not arithmetic"),
        ("$w if 1 else 2", "is not arithmetic"),
        ("[$w for _ in 'a']", "is not arithmetic"),
        ("__import__('os').system('x') + $w", "is not arithmetic"),
        ("open($w)", "unknown function 'open'"),
        ("w * $w", "write $w for the variable"),
        ("$w *", "not an arithmetic expression"),
        ("round_to($w", "within {...} a comma ends the value: quote it"),
        ("$w * 1e300 * 1e300", "a result beyond"),
        ("$w * 99999999999999999999", "a result beyond"),
        ("$w + " + "1 + " * 100 + "1", "longer than 200 characters"),
        ("round_to($w)", "missing 1 required positional argument"),
        ("min($w)", "not iterable"),
        ("round_to($w, 0)", "division by zero"),
        ("$w + 'a'", "'a' is not a number"),
        ("$w + True", "True is not a number"),
    ],
)
def test_errors_are_positioned(text, message):
    with pytest.raises(SpecError) as caught:
        value(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("f.yaml:1:1: ")


def test_what_counts_as_an_expression():
    assert is_expression("$w") and is_expression("2 * $w")
    assert not is_expression("cost: 5$") and not is_expression("$5") and not is_expression(3)


@pytest.mark.parametrize(
    ("channels", "expected"), [(32 * 0.75, 24), (16 * 0.35, 8), (24 * 1.4, 32), (3, 8), (11.2, 16)]
)
def test_round_to_is_make_divisible(channels, expected):
    """Values of MobileNet's rounding: nearest multiple of 8, never under 90 % of the value."""
    assert round_to(channels, 8) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer$w", "layer64"),
        ("layer$($w + 1)_x", "layer65_x"),
        ("$word.$zero", "relu.0"),
        ("plain", "plain"),
        ("$w", "64"),
    ],
)
def test_names_with_values_in_them(text, expected):
    assert interpolate(Scalar(text, PLACE), SCOPE) == Scalar(expected, PLACE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a$nope", "unknown variable $nope"),
        ("a$($w +)", "not an arithmetic expression"),
        ("a$(2 * ($w - 1)", "'$(2 * ($w - 1)' has no closing parenthesis"),
        ("a$ratio", "'$ratio' is no whole number or text, and cannot be a part of a name"),
        ("a$sizes", "'$sizes' is no whole number or text"),
        ("a$flag", "'$flag' is no whole number or text"),
    ],
)
def test_values_that_cannot_be_part_of_a_name(text, message):
    with pytest.raises(SpecError) as caught:
        interpolate(Scalar(text, PLACE), SCOPE)
    assert message in str(caught.value) and str(caught.value).startswith("f.yaml:1:1: ")
