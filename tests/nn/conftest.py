"""What the tests of the network share."""

import pytest

from convnext.native import depthwise as native


@pytest.fixture(params=["C", "PyTorch's"])
def cpu_kernels(request, monkeypatch):
    """Each in turn: the kernels built here, and what stands in for them where they cannot be."""
    if request.param == "C":
        assert native.depthwise_available(), "the tests need a C compiler with OpenMP"
    else:
        monkeypatch.setattr(native, "depthwise_library", lambda: None)
