"""Layer normalisation of images."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the channels of each pixel (as in ConvNeXt, arXiv 2201.03545)."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mean 0 and variance 1 over the channels of each pixel, then the learned scale, shift."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)
