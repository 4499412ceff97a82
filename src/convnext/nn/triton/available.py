"""Whether the kernels in Triton can run here."""

from __future__ import annotations

import functools
import logging
from importlib.util import find_spec

import torch

log = logging.getLogger("convnext")


def triton_available() -> bool:
    """Whether there is a GPU and Triton works; tried once, for Triton builds a part of itself with a C compiler."""
    return _works()


# As torch.compiler.assume_constant_result does: the answer goes into a graph, not the search for it.
triton_available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch reads it off any function


@functools.cache
def _works() -> bool:
    if not torch.cuda.is_available() or find_spec("triton") is None:
        return False
    try:
        from triton.runtime.driver import driver

        driver.active.get_current_target()
    except Exception as error:  # whatever a compiler, a missing header or a driver does
        log.warning("Triton does not work here (%s): PyTorch's operators are used, slower", str(error).split("\n")[0])
        return False
    return True
