"""Versions and machine, on which a result may depend beside the config."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def timestamp() -> str:
    """Date and time, in UTC, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def environment() -> dict[str, Any]:
    """Facts on which a result may depend: versions, processor, threads, devices."""
    import numpy
    import PIL
    import torch

    import convnext
    from convnext.runtime.device import device_names

    return {
        "command": sys.argv,
        "convnext": convnext.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        # By their metadata: they take seconds to import, and not every task needs them.
        "torchvision": version("torchvision"),
        "timm": version("timm"),
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "devices": list(device_names().values()),
    }
