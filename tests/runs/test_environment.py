from pathlib import Path

import pytest
import torch

from nifbuild.runs.environment import describe_environment


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_the_processor_is_named_as_its_maker_does():
    name = describe_environment(torch.device("cpu"), 1, "fp32")["device_name"]
    text = Path("/proc/cpuinfo").read_text()
    assert name
    assert "model name" not in text or f": {name}\n" in text
