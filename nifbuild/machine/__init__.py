"""What a run stands on: processes and their signals, devices and their memory, files, terminals."""

VERSION = "0.1.0"
"""Of nifbuild."""

MAKER = f"made by nifbuild {VERSION}"
"""Stands at the beginning or the end of each file that nifbuild may replace or delete later."""
