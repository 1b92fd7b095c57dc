"""What operations give on tensors without values: results on torch's meta device, remembered."""

from typing import Any

import torch
from torch import Tensor

_Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]

_results: dict[tuple[Any, ...], tuple[_Layout | None, ...] | _Layout] = {}
_MAX_RESULTS = 10_000
_UNDECLARED_VIEW = torch.ops.aten._unsafe_view.default
"""What matrix products end in: its schema does not say that it shares its argument's memory."""


def run_on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operation on tensors of the meta device.

    Networks repeat themselves, and torch's rules for shapes are slow where they are written in
    Python; so the shapes and strides of results are kept.
    """
    if func is _UNDECLARED_VIEW or any(r.alias_info is not None for r in func._schema.returns):
        return func(*args, **kwargs)  # a view, or a tensor that is written to
    key = (func, _key(args), _key(kwargs))
    known = _results.get(key)
    if known is None:
        result = func(*args, **kwargs)
        layouts = _layouts(result)
        if layouts is not None:
            if len(_results) >= _MAX_RESULTS:
                _results.clear()
            _results[key] = layouts
        return result
    if isinstance(known[0], torch.Size):
        return _empty(known)
    return tuple(None if layout is None else _empty(layout) for layout in known)


def _key(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype, value.is_conj())
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, _key(item)) for name, item in value.items())
    return (type(value), value)


def _layouts(result: Any) -> tuple[_Layout | None, ...] | _Layout | None:
    if isinstance(result, Tensor):
        return (result.shape, result.stride(), result.dtype)
    if isinstance(result, tuple) and all(t is None or isinstance(t, Tensor) for t in result):
        return tuple(None if t is None else (t.shape, t.stride(), t.dtype) for t in result)
    return None


def _empty(layout: _Layout) -> Tensor:
    shape, stride, dtype = layout
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
