"""Images made smaller as they are packed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from making import fails
from PIL import Image

from convnext import cli
from convnext.data.image_set import read_train_val
from convnext.data.shards.shrink import shrink
from convnext.errors import ImageError


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    grey = np.add.outer(np.linspace(0, 100, height), np.linspace(0, 150, width)).astype(np.uint8)
    return Image.fromarray(grey).convert(mode)


@pytest.mark.parametrize(("kind", "kept"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "PNG")])
def test_an_image_keeps_what_it_shows(kind: str, kept: str) -> None:
    image = gradient(120, 80)
    small = Image.open(BytesIO(shrink(encoded(image, kind), 40, name="x")))
    assert (small.format, small.size, small.mode) == (kept, (60, 40), "RGB")
    expected = np.asarray(image.resize((60, 40), Image.Resampling.LANCZOS), dtype=float)
    assert np.abs(np.asarray(small, dtype=float) - expected).mean() < 2


def test_it_is_turned_upright_and_what_is_grey_stays_grey() -> None:
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    small = Image.open(BytesIO(shrink(encoded(gradient(120, 80, "L"), "JPEG", exif=exif), 40, name="x")))
    assert (small.size, small.mode, 274 in small.getexif()) == ((40, 60), "L", False)


def test_small_images_and_numbers_stay_as_they_are() -> None:
    numbers = Image.fromarray(np.full((80, 120), 40_000, dtype=np.uint16))
    for content in (encoded(gradient(120, 80), "JPEG"), encoded(numbers, "PNG")):
        assert shrink(content, 80 if content[:1] == b"\xff" else 40, name="x") == content


def test_a_damaged_image_is_named() -> None:
    content = encoded(gradient(400, 300), "PNG")
    with pytest.raises(ImageError, match=r"x\.png: truncated"):
        shrink(content[: len(content) // 2], 40, name="x.png")


def test_pack_makes_them_smaller(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(12):
        folder = tmp_path / "data" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        gradient(100 + number, 60).save(folder / f"{number}.{('jpg', 'webp')[number % 3 == 0]}")
    (folder / "torn.png").write_bytes(encoded(gradient(400, 300), "PNG")[:-500])
    command = ["pack", str(tmp_path / "data"), "--out", str(tmp_path / "shards"), "--shard-mb", "1"]
    assert cli.main([*command, "--short-side", "32"]) == 1
    assert "torn.png" in capsys.readouterr().err
    train, val, _ = read_train_val(tmp_path / "shards")
    sizes = {part.open(index, "RGB").size for part in (train, val) for index in range(len(part.sources))}
    assert {height for _, height in sizes} == {32}
    assert {width for width, _ in sizes} == {round((100 + number) * 32 / 60) for number in range(12)}
    assert "--short-side must be at least 1" in fails(
        capsys, *command[:2], "--out", tmp_path / "other", "--short-side", "0"
    )
