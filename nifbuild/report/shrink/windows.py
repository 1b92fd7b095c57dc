"""Which window each layer's filters are cut to: by their mass, or by the accuracy that is left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from nifbuild.errors import Mark, Problem, RunError
from nifbuild.geometry import Boundary
from nifbuild.report.filter_windows import LayerKernels, window_shares, window_sizes
from nifbuild.report.show.units import percent_text
from nifbuild.report.shrink.changes import Cut
from nifbuild.spec.ops.conv import ConvFields

_ROUNDING = 1e-9


class Smallness(NamedTuple):
    """How small filters become: by exactly one of these, the others are None.

    Attributes:
        mass: Share of each layer's sum |k| that its window keeps.
        kernel_size: The window of all layers.
        max_drop: Accuracy that may be lost on the validation images, as a share of 1.
    """

    mass: float | None = None
    kernel_size: int | None = None
    max_drop: float | None = None


@dataclass(frozen=True)
class LayerWindows:
    """A layer's windows, and how much of its filters lies in each.

    Attributes:
        kernels: The layer and its filters.
        sizes: 1, 3, 5, ... up to the one that covers the whole grid.
        shares: Of each filter's sum |k|, in float64.
        masses: Sum |k| of each filter.
    """

    kernels: LayerKernels
    sizes: tuple[int, ...]
    shares: Float[Tensor, "filters windows"]
    masses: Float[Tensor, " filters"]

    @classmethod
    def of(cls, kernels: LayerKernels) -> "LayerWindows":
        """Measures a layer."""
        shares = window_shares(kernels.kernels)
        masses = kernels.kernels.double().abs().sum((1, 2))
        return cls(kernels, window_sizes(*kernels.grid), shares, masses)

    @property
    def kept(self) -> tuple[float, ...]:
        """The share of the layer's sum |k|, over all its filters, that each window keeps.

        So a filter counts as much as it contributes: one that is all but zero may be cut anywhere.
        """
        total = self.masses.sum()
        if total == 0:
            return (1.0,) * len(self.sizes)
        kept: list[float] = ((self.masses @ self.shares) / total).tolist()
        return tuple(kept)

    def smallest(self, mass: float) -> int:
        """The smallest window that keeps this share."""
        found = (size for size, kept in zip(self.sizes, self.kept, strict=True) if kept >= mass)
        return next(found, self.sizes[-1])

    def within(self, window: int) -> int:
        """The window itself, or the whole grid where that is smaller."""
        return min(window, self.sizes[-1])

    def cut(self, window: int, fields: ConvFields, boundary: Boundary) -> Cut:
        """What a window takes away.

        Args:
            window: One of `sizes`.
            fields: What the layer's spec says.
            boundary: What lies beyond the border then.
        """
        kept = self.shares[:, self.sizes.index(window)] * self.masses
        reaching = kept
        spans = (d * (k - 1) for d, k in zip(fields.dilation, fields.kernel_size, strict=True))
        if all(pad <= span // 2 for pad, span in zip(fields.pads(), spans, strict=True)):
            height, width = self.kernels.grid  # every output is centred on a pixel of the image
            centre = self.kernels.kernels[:, height // 2, width // 2].double().abs()
            reaching = kept - centre
        return Cut(self.masses - kept, reaching, boundary)


def critical_masses(layers: Sequence[LayerWindows]) -> list[float]:
    """All the shares at which some layer's smallest window changes, ascending.

    Between two of them the windows are the same, so that a search need try no other.
    """
    # Just below each, as a share that is met exactly counts.
    return sorted({max(0.0, kept - _ROUNDING) for layer in layers for kept in layer.kept})


@dataclass(frozen=True)
class Trial:
    """One set of windows that was tried.

    Attributes:
        mass: The share of each layer's filters that they keep.
        top1: Accuracy on the validation images.
        kept: Whether it is within the budget.
    """

    mass: float
    top1: float
    kept: bool


@dataclass(frozen=True)
class Search:
    """What was tried, to find the smallest windows within a budget.

    Attributes:
        before: Accuracy on the validation images of the model with whole filters.
        trials: In the order in which they were tried.
    """

    before: float
    trials: tuple[Trial, ...]

    @property
    def after(self) -> float:
        """Accuracy on the validation images of the smallest windows within the budget."""
        return min((t for t in self.trials if t.kept), key=lambda t: t.mass).top1


def smallest_mass(
    masses: Sequence[float],
    accuracy: Callable[[float], float],
    before: float,
    max_drop: float,
) -> tuple[float, list[Trial]]:
    """The smallest share of the filters with which accuracy falls by `max_drop` at most.

    Bisection: it takes for granted that accuracy rises with the share. Where it does not, there may
    be a smaller share that does as well, but the one that is found was tried, and is within the
    budget.

    Args:
        masses: The shares to choose from, ascending.
        accuracy: Of the model whose layers keep a share, on the validation images.
        before: That of the model with whole filters.
        max_drop: As a share of 1.

    Raises:
        RunError: Even the largest share loses more.
    """
    trials: list[Trial] = []

    def within_budget(mass: float) -> bool:
        top1 = accuracy(mass)
        # A hundredth of an image in a million is rounding.
        trials.append(Trial(mass, top1, before - top1 <= max_drop + 1e-8))
        return trials[-1].kept

    low, high = 0, len(masses) - 1
    if not within_budget(masses[high]):
        raise RunError(
            Problem(
                f"with whole filters the model loses {percent_text(before - trials[0].top1)} on "
                f"validation, more than {percent_text(max_drop)}",
                Mark("--max-drop"),
                fix="keep the layers' own boundary, or allow a larger drop",
                code="max-drop",
            )
        )
    while low < high:
        middle = (low + high) // 2
        if within_budget(masses[middle]):
            high = middle
        else:
            low = middle + 1
    return masses[high], trials
