"""How large the filters of a model are: kernels layer by layer, and their mass in odd windows."""

from nifbuild.report.kernels.layers import LayerKernels, layer_kernels
from nifbuild.report.kernels.windows import effective_size, window_shares, window_sizes

__all__ = ["LayerKernels", "effective_size", "layer_kernels", "window_shares", "window_sizes"]
