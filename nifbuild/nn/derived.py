"""Tensors computed from parameters alone, kept for inference until a parameter changes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nifbuild.nn.pointwise import has_call_hooks

_Stamp = tuple[Tensor, Tensor, int, int]


def weights_of(module: nn.Module) -> list[Tensor]:
    """The parameters of a module; of a replica of `nn.DataParallel`, its copies of them."""
    parameters: list[Tensor] = [*module.parameters()]
    if not parameters:
        for child in module.modules():
            parameters += getattr(child, "_former_parameters", {}).values()
    return parameters


class Behind(NamedTuple):
    """What a tensor is computed from: tensors, and numbers and words."""

    tensors: list[Tensor]
    settings: tuple[object, ...]


def behind_spectra(weights: list[Tensor], networks: Sequence[nn.Module]) -> Behind | None:
    """What spectra are computed from; None where hooks have a hand in it."""
    if any(has_call_hooks(module) for network in networks for module in network.modules()):
        return None
    buffers = [buffer for network in networks for buffer in network.buffers()]
    values = (value for network in networks for value in vars(network).values())
    settings = tuple(value for value in values if isinstance(value, str | int | float))
    return Behind([*weights, *buffers], settings)


class DerivedTensors:
    """A small cache that cannot hand out a tensor older than the parameters it came from.

    An entry is current while every parameter is the same object, on the same memory, at the same
    version. It keeps object and memory alive, so that no new tensor takes on their identity. Writes
    through `parameter.data` or NumPy leave no trace, nor do those of fused optimizers: the owner
    closes the cache where gradients announce them, and clears it where there may have been one, as
    when a module changes mode.

    Neither copied nor pickled: a copy starts empty.
    """

    def __init__(self, max_entries: int = 8) -> None:
        self.max_entries = max_entries
        self._closed = False
        self._entries: dict[object, tuple[list[_Stamp], Tensor]] = {}

    def get(
        self, key: object, parameters: Sequence[Tensor], compute: Callable[[], Tensor]
    ) -> Tensor:
        """The tensor kept for `key`, or a new one. It has no gradient and is not to be written to.

        Parameters made in inference mode have no version, and those in shared memory none that
        tells of the writes of other processes; what comes from them is not kept.
        """
        if self._closed or not all(map(_tells_of_writes, parameters)):
            with torch.no_grad():
                return compute()
        entry = self._entries.get(key)
        if entry is not None and _is_current(entry[0], parameters):
            return entry[1]
        stamps = [(p, p.detach(), p.data_ptr(), p._version) for p in parameters]
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        if type(value) is not Tensor:  # a fake one must not outlive its mode
            return value
        if len(self._entries) >= self.max_entries:
            self._entries.clear()
        self._entries[key] = (stamps, value)
        return value

    def close(self) -> None:
        """Keeps nothing until it is opened."""
        self._closed = True

    def open(self) -> None:
        """Starts anew."""
        self.clear()
        self._closed = False

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_entries,)


def _tells_of_writes(parameter: Tensor) -> bool:
    if type(parameter) not in (Tensor, nn.Parameter) or parameter.is_inference():
        return False
    return not (parameter.device.type == "cpu" and parameter.is_shared())


def _is_current(stamps: list[_Stamp], parameters: Sequence[Tensor]) -> bool:
    return len(stamps) == len(parameters) and all(
        p is parameter and address == parameter.data_ptr() and version == parameter._version
        for (p, _, address, version), parameter in zip(stamps, parameters, strict=True)
    )
