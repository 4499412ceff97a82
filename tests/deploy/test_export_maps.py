"""Exports of segmenters and depth estimators: that they answer as the run does, at any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from making import FAST_SEGMENT, make_depths, make_scenes
from PIL import Image
from sitecustomize import BYTE

import convnext
from convnext import InputError, cli
from convnext.deploy.export.write import export
from convnext.models.segmentation.upernet import pool_by_matrices
from convnext.storage.exports import FORMATS
from convnext.weights import read_meta


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a run of segmentation."""
    root = tmp_path_factory.mktemp("scenes")
    data, out = make_scenes(root / "data"), root / "run"
    options = [*FAST_SEGMENT, "--ignore-index", "9", "--model", BYTE]
    assert cli.main(["train", "segment", str(data), "--out", str(out), *options]) == 0
    return data, out


@pytest.mark.parametrize("form", ["onnx", pytest.param("openvino", marks=pytest.mark.heavy)])
def test_a_segmenter(form: str, scenes: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = scenes
    done = export(run, tmp_path / f"x{FORMATS[form]}", format=form)
    assert done.difference <= 1e-4
    own, exported = (convnext.load(source, device="cpu") for source in (run, done.path))
    rng = np.random.default_rng(0)
    for size in ((96, 333), (150, 200), (33, 60)):
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        assert (own(image) == exported(image)).mean() >= 0.999
    first, second = (convnext.evaluate(str(source), str(data), device="cpu") for source in (run, done.path))
    assert first["mIoU"] == pytest.approx(second["mIoU"], abs=1e-3)
    assert json.loads(done.path.with_name(f"{done.path.name}.json").read_text())["testing"] == read_meta(run)["testing"]
    with pytest.raises(InputError, match="an export of this network has no embeddings"):
        exported.embed(image)


@pytest.mark.heavy
def test_a_depth_estimator(tmp_path: Path) -> None:
    data = make_depths(tmp_path / "data")
    options = [*FAST_SEGMENT, "--epochs", "1"]
    assert cli.main(["train", "depth", str(data), "--out", str(tmp_path / "run"), *options]) == 0
    export(tmp_path / "run", tmp_path / "x.onnx")
    own, exported = (convnext.load(tmp_path / name, device="cpu") for name in ("run", "x.onnx"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 50, 3), dtype=np.uint8))
    np.testing.assert_allclose(own(image), exported(image), rtol=1e-3)


@pytest.mark.parametrize("size", [(5, 7), (3, 11), (16, 20), (6, 6)])
@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_pooling_by_matrices_is_pytorchs(size: tuple[int, int], side: int) -> None:
    x = torch.randn(2, 4, *size)
    torch.testing.assert_close(pool_by_matrices(x, side), torch.nn.functional.adaptive_avg_pool2d(x, side))
