"""What a run stands on: processes and their signals, devices and their memory, files, terminals."""

VERSION = "0.1.0"
"""Of nifbuild."""
