"""Linear layers over images."""

from jaxtyping import Float
from torch import Tensor, nn


class PixelLinear(nn.Linear):
    """`torch.nn.Linear` over the channels of each pixel: a 1x1 convolution by another layout.

    ConvNeXt (arXiv 2201.03545) keeps its 1x1 layers in this form, so that weights have two axes.
    """

    def forward(self, x: Float[Tensor, "b in h w"]) -> Float[Tensor, "b out h w"]:
        """The same linear map of every pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
