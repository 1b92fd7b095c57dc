"""How far a classifier's confidence is from its accuracy."""

import torch
from torch import Tensor

NUM_BINS = 15
"""As in the source."""


class Calibration:
    """The expected calibration error, 0 to 1.

    Images are put into bins of equal width by the probability of their most probable class; the
    error is the mean over bins, weighted by their images, of |accuracy - mean confidence|. Source:
    Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, equations 2 and 3.

    Unlike torchmetrics', it sums in float64, keeps no image's confidence, and never takes logits
    that happen to lie between 0 and 1 for probabilities.
    """

    def __init__(self) -> None:
        # A confidence on the edge of two bins belongs to the lower one, as in the source.
        self._edges = torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float64)[1:-1]
        self._excess = torch.zeros(NUM_BINS, dtype=torch.float64)
        self._count = 0

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds images: logits [batch, classes] and classes [batch], on the CPU."""
        confidence, predicted = logits.double().softmax(1).max(1)
        bins = torch.bucketize(confidence, self._edges)
        self._excess.index_add_(0, bins, confidence - predicted.eq(labels).double())
        self._count += len(labels)

    def compute(self) -> float:
        """The error over all images so far."""
        return self._excess.abs().sum().item() / self._count
