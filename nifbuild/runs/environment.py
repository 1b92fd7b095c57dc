"""What a run ran on, for those who read its figures later."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nifbuild.machine import VERSION
from nifbuild.spec.ops import installed

_PACKAGES = ("torch", "accelerate", "torchmetrics", "datasets", "kornia", "numpy")


def describe_environment(device: torch.device, processes: int, precision: str) -> dict[str, Any]:
    """Time, command, commit, versions and devices of this start."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "working_directory": str(Path.cwd()),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            **{name: version for name in _PACKAGES if (version := _version(name))},
            "nifbuild": VERSION,  # also where it is not installed
            **installed.packages(),
        },
        "device": str(device),
        "device_name": _device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "precision": precision,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the working directory, with `+changes` where files differ; None outside git."""
    commit = _git(["rev-parse", "HEAD"])
    if not commit:
        return None
    return commit + ("+changes" if _git(["status", "--porcelain", "--untracked-files=no"]) else "")


def _git(arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
