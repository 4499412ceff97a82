"""Files that `convnext predict` writes: one image's never take the place of another's, and lose nothing in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stubs import stub_depth_estimator, stub_segmenter

from convnext.tasks.depth.predict import estimate_inputs
from convnext.tasks.segment.predict import segment_inputs


@pytest.mark.parametrize("kind", ["overlay", "depth"])
def test_a_picture_of_one_image_is_no_map_of_another(kind: str, tmp_path: Path) -> None:
    """`a-overlay.jpg` is what an earlier run wrote, or a camera's name."""
    images = []
    for stem in (f"a-{kind}", "a"):
        Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / f"{stem}.png")
        images.append((stem, tmp_path / f"{stem}.png"))
    out = tmp_path / "out"
    if kind == "overlay":
        assert segment_inputs(stub_segmenter(30), images, as_json=True, out=out) == 0
        rows, mode = json.loads((out / "shares.json").read_text()), "P"
    else:
        assert estimate_inputs(stub_depth_estimator(30), images, as_json=True, out=out) == 0
        rows, mode = json.loads((out / "depths.json").read_text()), "I;16"
    assert [row["image"] for row in rows] == [f"a-{kind}", "a"]
    for row in rows:
        with Image.open(out / row["file"]) as written:
            assert written.mode == mode
    assert len(list(out.glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (1000.0, ""),
        (1.0, "convnext: depths are rounded to multiples of 1, by more than 1 %, in 1 map\n"),
        (10000.0, "convnext: depths beyond 6.5535, the most that 16 bits hold, are cut in 1 map\n"),
    ],
)
def test_depths_that_16_bits_cannot_hold_are_said(
    scale: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "a.png")
    estimator = stub_depth_estimator(30)
    estimator.depth_scale = scale
    assert np.allclose(estimator(tmp_path / "a.png"), 25.5, rtol=1e-3)
    assert estimate_inputs(estimator, [("a", tmp_path / "a.png")], as_json=True, out=tmp_path / "out") == 0
    assert capsys.readouterr().err == said
