"""What training minimises: the loss of a batch, and penalties."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nifbuild.errors import Problem, SpecError, listing, suggestion
from nifbuild.nn import GlobalConv2d
from nifbuild.spec.pixel_data import IGNORED

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


class Minimised(NamedTuple):
    """What a batch comes to.

    Attributes:
        logits: [batch, classes] or [batch, classes, height, width], in float32.
        loss: The mean over the batch; of masks, over all pixels that have a class.
        penalty: What is added to it: the weighted losses of auxiliary heads, and the spread of
            filters; 0 where nothing is.
    """

    logits: Tensor
    loss: Tensor
    penalty: Tensor | int


@dataclass(frozen=True)
class Objective:
    """Cross-entropy, also of auxiliary heads, and where asked for the spread of filters.

    The loop, the prediction of memory, its check and `nifbuild bench` all compute this one.

    Attributes:
        label_smoothing: As in the spec.
        class_weights: [classes]; None: all are 1.
        kernel_spread: The weight of the penalty.
        spread: What is penalised; None where nothing is.
        head_weights: Of the losses of auxiliary heads, in the order of the model's outputs.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    kernel_spread: float = 0.0
    spread: "KernelSpread | None" = None
    head_weights: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, module: nn.Module, resolved: "Resolved", class_weights: Tensor | None = None
    ) -> Self:
        """That of a spec, for the model as built; with weights of classes, as `class_weights` says.

        Raises:
            SpecError: Filters are to be penalised that are not there.
        """
        train = resolved.spec.train
        spread = KernelSpread(module, resolved) if train.kernel_spread else None
        weights = tuple(head.weight for head in resolved.graph.heads)
        return cls(train.label_smoothing, class_weights, train.kernel_spread, spread, weights)

    def __call__(
        self,
        model: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
        images: Tensor,
        targets: Tensor,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> Minimised:
        """Runs a model on a batch; to be followed by `(loss + penalty).backward()`.

        Args:
            model: Gives logits; with auxiliary heads a tuple, of which theirs are the last.
            images: Its input.
            targets: Classes [batch], or a probability for each [batch, classes]; or of each pixel
                [batch, height, width], in bytes, where `IGNORED` counts for nothing.
            autocast: What the model runs in; the loss is computed in float32.
        """
        with autocast():
            outputs = model(images)
            logits, *of_heads = (
                t.float() for t in (outputs if isinstance(outputs, tuple) else (outputs,))
            )
        loss = self._loss(logits, targets)
        penalty = 0 if self.spread is None else self.kernel_spread * self.spread()
        for weight, output in zip(self.head_weights, of_heads, strict=True):
            penalty = penalty + weight * self._loss(output, targets)
        return Minimised(logits, loss, penalty)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights, smoothing = self.class_weights, self.label_smoothing
        if targets.ndim == 3:
            targets = targets.long()
            losses = F.cross_entropy(
                logits,
                targets,
                weights,
                ignore_index=IGNORED,
                label_smoothing=smoothing,
                reduction="none",
            )
            return losses.sum() / (targets != IGNORED).sum().clamp_min(1)
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        # torch would divide by the weights of the batch: then images would weigh more in one of
        # common classes, and results depend on how many processes share a batch.
        losses = F.cross_entropy(
            logits, targets, weights, label_smoothing=smoothing, reduction="none"
        )
        return losses.mean()


def class_weights(
    given: Literal["balanced"] | Mapping[str, float] | None,
    class_names: Sequence[str],
    labels: Tensor,
) -> Tensor | None:
    """The weights that `train.class_weights` says.

    Args:
        given: As in the spec.
        class_names: In the order of the model's outputs.
        labels: Those of the training images.

    Returns:
        [classes]; None: all are 1. A class without images has 0 where they are balanced.

    Raises:
        SpecError: A class that is named is none.
    """
    if given is None:
        return None
    if isinstance(given, str):  # balanced
        counts = labels.bincount(minlength=len(class_names)).double()
        return (len(labels) / (len(class_names) * counts)).nan_to_num(posinf=0.0).float()
    problems = [
        Problem(
            f"no class is called '{name}'",
            path=f"train.class_weights.{name}",
            fix=suggestion(name, class_names, f"classes: {listing(class_names)}"),
            code="class",
        )
        for name in given
        if name not in class_names
    ]
    if problems:
        raise SpecError(problems)
    return torch.tensor([given.get(name, 1.0) for name in class_names])


class KernelSpread:
    """The mean of `GlobalConv2d.kernel_spread` over the layers of a model.

    As a penalty, it trades the size of filters for accuracy.

    Args:
        module: The model.
        resolved: Its spec, which says what size of image each layer sees.

    Raises:
        SpecError: No filter of the model is as large as the image.
    """

    def __init__(self, module: nn.Module, resolved: "Resolved") -> None:
        self._layers: list[tuple[GlobalConv2d, tuple[int, int]]] = []
        modules = dict(module.named_modules())
        for node in resolved.graph.nodes:
            layer = modules.get(node.path)
            if isinstance(layer, GlobalConv2d):
                height, width = node.input_shapes[0].size
                self._layers.append((layer, (height, width)))
        if not self._layers:
            raise SpecError(
                Problem(
                    "no filter of this model is as large as the image, so none can be made smaller",
                    resolved.mark("train", "kernel_spread"),
                    "train.kernel_spread",
                    "leave it out, or declare a conv `kind: implicit_frequency`",
                    code="kernel-spread",
                )
            )

    def __call__(self) -> Tensor:
        """The spread now, between 0 and 2; differentiable."""
        return torch.stack([layer.kernel_spread(*size) for layer, size in self._layers]).mean()
