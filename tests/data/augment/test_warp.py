"""Warps against timm's, which are Pillow's: the same bytes."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP

from convnext.data.augment.warp import WARP_SOURCE, WARPS
from convnext.native import compile as build


@pytest.fixture(params=["AVX512", "AVX2", "DEFAULT", "Pillow"])
def way(request, monkeypatch):
    """Code for each width of vectors that this processor has, and what stands in for it."""
    best = torch.backends.cpu.get_cpu_capability()
    if request.param == "Pillow":
        monkeypatch.setattr(build, "library", lambda source: None)
        yield
    elif (request.param == "AVX512" and best != "AVX512") or (request.param == "AVX2" and best == "DEFAULT"):
        pytest.skip(f"this processor has no {request.param}")
    else:
        build.library.cache_clear()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
        assert build.library(WARP_SOURCE) is not None, "the tests need a C compiler with OpenMP"
        yield
        build.library.cache_clear()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (64, 48)])
@pytest.mark.parametrize("name", WARPS)
def test_the_bytes_of_timms_operation(name, size, mode):
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    fill = (124, 116, 104) if mode == "RGB" else (124,)
    how = {"fillcolor": fill, "resample": Image.Resampling.BICUBIC}
    rng = random.Random(0)
    for value in [0.0, 0.3, -0.3, 0.25, 0.5, *(rng.uniform(-0.45, 0.45) for _ in range(20))]:
        argument = value * 60 if name == "Rotate" else value
        ours, theirs = WARPS[name](image, argument, **how), NAME_TO_OP[name](image, argument, **how)
        assert ours.mode == mode
        assert np.array_equal(ours, theirs), argument


def test_other_interpolations_are_pillows():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8))
    how = {"fillcolor": 3, "resample": Image.Resampling.BILINEAR}
    assert np.array_equal(WARPS["Rotate"](image, 20, **how), NAME_TO_OP["Rotate"](image, 20, **how))
