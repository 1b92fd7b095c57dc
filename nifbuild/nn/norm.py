"""Normalisation of images that torch has no module for."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.nn.fourier import full_precision, transform_dtype


class LayerNorm2d(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the channels of each pixel (as in ConvNeXt, arXiv 2201.03545)."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mean 0 and variance 1 over the channels of each pixel, then the learned scale, shift."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Scales channels by how strong each is among all (GRN of ConvNeXt-V2, arXiv 2301.00808).

    With the norm n_c of channel c over the image, the output is x (1 + gamma n_c / mean(n)) + beta,
    which is the published gamma (x n_c / mean(n)) + beta + x in fewer passes over the image. Norms
    are taken in float32 or more, as those of large images are beyond float16. Names, shapes and
    initial values (0) of the parameters are the published ones; the image is laid out as torch's
    convolutions want it.

    Args:
        num_channels: Channels of the image.
        eps: Added to the mean of the norms.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, num_channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, num_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The scaled and shifted image, of the input's dtype."""
        gamma, beta = (weight.movedim(3, 1) for weight in (self.gamma, self.beta))
        with full_precision(x.device):
            dtype = transform_dtype(x.dtype)
            norms = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=dtype)
            strength = norms / (norms.mean(dim=1, keepdim=True) + self.eps)
            return torch.addcmul(beta.to(x.dtype), x, (1 + gamma * strength).to(x.dtype))

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.gamma.shape[3]}, eps={self.eps}"
