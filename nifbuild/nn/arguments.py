"""The arguments that all convolutions with filters as large as the image share."""

from collections.abc import Iterable
from numbers import Integral
from typing import Protocol, TypedDict, get_args, runtime_checkable

import torch

from nifbuild.errors import suggestion
from nifbuild.geometry import Boundary, Downsample, Mixing
from nifbuild.nn.backend import Backend
from nifbuild.nn.spectral_convolution import Memory


class GlobalConvArguments(TypedDict, total=False):
    """The keyword arguments of `GlobalConv2d`, whose subclasses pass them on."""

    kernel_size: int | tuple[int, int] | None
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] | str | None
    dilation: int | tuple[int, int]
    groups: int
    bias: bool
    mixing: Mixing
    rank: int | None
    downsample: Downsample
    boundary: Boundary
    memory: Memory
    backend: Backend


@runtime_checkable
class Settings(Protocol):
    """What a layer has taken over from its arguments."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int] | None
    padding: tuple[int, int] | None
    dilation: tuple[int, int]
    groups: int
    mixing: Mixing


def check_arguments(conv: Settings, rank: int | None) -> None:
    """Checks what a layer has taken over from its arguments; `rank` as it was given.

    Raises:
        TypeError: One is no whole number.
        ValueError: One is out of its range, or does not go with another.
    """
    for name in ("in_channels", "out_channels", "groups", "rank"):
        check_whole(name, getattr(conv, name))
        if getattr(conv, name) < 1:
            raise ValueError(f"`{name}` (={getattr(conv, name)}) must be at least 1")
    for name in ("kernel_size", "stride", "dilation"):
        if min(getattr(conv, name) or (1, 1)) < 1:
            raise ValueError(f"`{name}` (={getattr(conv, name)}) must be at least 1")
    if min(conv.padding or (0, 0)) < 0:
        raise ValueError(f"`padding` (={conv.padding}) must not be negative")
    if conv.kernel_size is None and (conv.padding is not None or conv.dilation != (1, 1)):
        raise ValueError(
            f"`padding` (={conv.padding}) and `dilation` (={conv.dilation}) are those of an "
            "ordinary convolution: give its `kernel_size` too"
        )
    for name, choices in (
        ("mixing", Mixing),
        ("downsample", Downsample),
        ("boundary", Boundary),
        ("memory", Memory),
        ("backend", Backend),
    ):
        check_choice(name, getattr(conv, name), choices)
    if rank is not None and conv.mixing != "low_rank":
        raise ValueError(f"`rank` (={rank}) is for `mixing='low_rank'`")
    if conv.mixing == "depthwise":
        if conv.out_channels % conv.in_channels:
            raise ValueError(
                f"`out_channels` (={conv.out_channels}) must be a multiple of `in_channels` "
                f"(={conv.in_channels}) with `mixing='depthwise'`"
            )
        if conv.groups not in (1, conv.in_channels):
            raise ValueError(
                f"`groups` (={conv.groups}) must be 1 or `in_channels` (={conv.in_channels}) "
                "with `mixing='depthwise'`"
            )
        return
    for name in ("in_channels", "out_channels", "rank"):
        if getattr(conv, name) % conv.groups and (name != "rank" or conv.mixing == "low_rank"):
            raise ValueError(
                f"`groups` (={conv.groups}) must divide `{name}` (={getattr(conv, name)})"
            )


def pair(name: str, value: object, instead: str = "") -> tuple[int, int]:
    """Two whole numbers, from an argument that may be one for both.

    Args:
        name: Of the argument.
        value: As it was given.
        instead: Where it may be something else, what that is.

    Raises:
        TypeError: It is neither.
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not all(_is_whole(each) for each in values):
        wanted = f"a whole number, or two for height and width{instead}"
        raise TypeError(f"`{name}` (={value!r}) must be {wanted}")
    return values


def padding_of(
    padding: object,
    kernel_size: tuple[int, int] | None,
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int] | None:
    """Above and to the left of the image, from the argument as `nn.Conv2d` takes it, too.

    Raises:
        TypeError: It is nothing of the kind.
        ValueError: `same` is not possible: the output has another size, or lies between pixels.
    """
    if padding is None:
        return None
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return pair("padding", padding, ", `same` or `valid`")
    kernel = kernel_size or (1, 1)
    rows, columns = (step * (size - 1) for size, step in zip(kernel, dilation, strict=True))
    if rows % 2 or columns % 2 or max(stride) > 1:
        odd = f"an odd `kernel_size` (={kernel_size})"
        raise ValueError(f"`padding` (='same') needs a stride of 1 and {odd}")
    return rows // 2, columns // 2


def check_whole(name: str, value: object) -> None:
    """Checks an argument that is one whole number.

    Raises:
        TypeError: It is none.
    """
    if not _is_whole(value):
        raise TypeError(f"`{name}` (={value!r}) must be a whole number")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral | torch.SymInt) and not isinstance(value, bool)


def unknown_arguments(layer: str, names: Iterable[str], known: Iterable[str]) -> TypeError:
    """What to raise of arguments that a layer does not have."""
    name = next(iter(names))
    if name == "padding_mode":
        return TypeError(f"{layer} has no argument 'padding_mode': here it is `boundary`")
    fix = " ".join(suggestion(name, list(known), "`help` lists them").split())
    return TypeError(f"{layer} has no argument '{name}': {fix}")


def check_choice(name: str, value: object, choices: object) -> None:
    """Checks an argument against a `Literal`.

    Raises:
        ValueError: It is none of them.
    """
    if value not in get_args(choices):
        allowed = ", ".join(map(repr, get_args(choices)))
        raise ValueError(f"`{name}` (={value!r}) must be one of {allowed}")


def image_size(name: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels, from an argument that may be one number for both.

    Raises:
        TypeError: It is neither.
        ValueError: One is less than 1.
    """
    sizes = pair(name, size)
    if min(sizes) < 1:
        raise ValueError(f"`{name}` (={size}) must be at least 1")
    return sizes
