"""The torch modules; they know nothing of specs."""

from nifbuild.nn.free_frequency import FreeFrequencyConv2d
from nifbuild.nn.global_conv import GlobalConv2d
from nifbuild.nn.implicit_frequency import ImplicitFrequencyConv2d
from nifbuild.nn.implicit_spatial import ImplicitSpatialConv2d

__all__ = [
    "FreeFrequencyConv2d",
    "GlobalConv2d",
    "ImplicitFrequencyConv2d",
    "ImplicitSpatialConv2d",
]
