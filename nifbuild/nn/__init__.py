"""Plain PyTorch modules and functions; they know nothing of specs."""

from nifbuild.nn.implicit_frequency import ImplicitFrequencyConv2d

__all__ = ["ImplicitFrequencyConv2d"]
