from __future__ import annotations

import os

import pytest

from convnext.config import loading_processes
from convnext.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no process to cores")
def test_one_core_loads_in_one_process() -> None:
    """Torch warns on every pass over the images where there are more loading processes than cores."""
    before = os.sched_getaffinity(0)
    one = min(before)
    try:
        os.sched_setaffinity(0, {one})
        assert usable_cores() == [one]
        assert loading_processes() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == sorted(before)
