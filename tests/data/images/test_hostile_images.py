"""Files made to cost: memory and time are bounded before anything is decoded, and only regular files are read."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.images.costly import refuse_large_tiles
from convnext.data.images.decode import as_mode, read_image
from convnext.data.images.encoded import EncodedImage
from convnext.errors import ImageError

LARGE = 178_000_000  # pixels, as many as are read

MEASURE = """
import resource, sys
from convnext.data.images.decode import read_image
from convnext.errors import ImageError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(read_image(sys.argv[1]).size)
except ImageError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    "mode", ["I;16", *(pytest.param(mode, marks=pytest.mark.heavy) for mode in ["RGBA", "F", "L", "LA", "I"])]
)
def test_small_files_stay_under_a_gigabyte(mode: str, tmp_path: Path) -> None:
    """A 16-bit PNG of 344 kB took 4.7 GB."""
    side = int(LARGE**0.5)
    path = tmp_path / ("a.tif" if mode in ("F", "I") else "a.png")
    Image.new(mode, (side, side)).save(path, **({"compression": "tiff_deflate"} if path.suffix == ".tif" else {}))
    assert path.stat().st_size < 2**21
    said = subprocess.check_output([sys.executable, "-c", MEASURE, str(path)], text=True).splitlines()
    assert int(said[-1]) < 1000  # MB
    assert said[0] == f"({side}, {side})" or "too large" in said[0]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_strips_are_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    images = [
        Image.fromarray(random.integers(0, 256, (37, 23, 4), dtype=np.uint8)),
        Image.fromarray(random.integers(0, 60000, (37, 23), dtype=np.uint16)),
        Image.fromarray(random.normal(0, 300, (37, 23)).astype(np.float32)),
        Image.fromarray(random.integers(-9, 99999, (37, 23), dtype=np.int32)),
    ]
    whole = [np.asarray(as_mode(image, mode)) for image in images]
    monkeypatch.setattr("convnext.data.images.decode._STRIP", 50)
    for image, expected in zip(images, whole, strict=True):
        assert np.array_equal(np.asarray(as_mode(image, mode)), expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for name in ("a.png", "b.png"):
        with pytest.raises(ImageError, match="not a regular file"):
            read_image(tmp_path / name)
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(ImageError, match="not a regular file"):
            read_image(path)


def test_what_a_shell_hands_over_is_read(tmp_path: Path) -> None:
    """`convnext predict RUN <(command)`."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    code = "import sys; from convnext.data.images.decode import read_image; print(read_image(sys.argv[1]).size)"
    command = f'"{sys.executable}" -c "{code}" <(cat "{tmp_path / "a.png"}")'
    assert subprocess.check_output(["bash", "-c", command], text=True) == "(4, 4)\n"


@pytest.mark.parametrize(
    ("start", "kind"), [(b"%!PS-Adobe-3.0 EPSF-3.0\n%%a\n", "EPS"), (b"\0\0\1\0\1\0", "ICO"), (b"8BPS\0\1", "PSD")]
)
def test_formats_that_are_not_read_are_not_opened(
    start: bytes, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EPS took 37 s in Pillow's parser, and of an ICO the image inside was decoded."""
    Image.init()
    for name in ("EPS", "ICO", "PSD"):
        monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("opened"), Image.OPEN[name][1]))
    (tmp_path / "a.png").write_bytes(start + bytes(100))
    with pytest.raises(ImageError, match=f"{kind} files are not read"):
        read_image(tmp_path / "a.png")


def test_a_zero_in_a_path_is_a_line() -> None:
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a\0b.png")


def progressive(scans: int) -> bytes:
    """A progressive JPEG of 64×64 pixels whose last scan is there that many times more."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        file, format="JPEG", progressive=True
    )
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * scans + content[-2:]


def test_files_made_to_cost_are_refused_before_they_are_decoded() -> None:
    plain = read_image(BytesIO(progressive(0)))
    assert np.array_equal(plain, EncodedImage(progressive(0), "RGB", name="x").decode().permute(1, 2, 0))
    with pytest.raises(ImageError, match="scans"):
        read_image(BytesIO(progressive(300)))
    with pytest.raises(ImageError, match="x: a JPEG of 3"):
        EncodedImage(progressive(300), "RGB", name="x")
    with pytest.raises(ImageError, match="PPM"):
        read_image(BytesIO(b"P6 4000 4000 254\n" + bytes(48_000_000)))
    with pytest.raises(ImageError, match="no PPM header"):
        read_image(BytesIO(b"P6 " + b"#" * 10**6))
    for content in (b"P6 #a\n# b\n2 2\n255\n" + bytes(12), b"P5 2 2 4095 " + bytes(8), b"P2 2 2 9 1 2 3 4 "):
        assert read_image(BytesIO(content)).size == (2, 2)


def test_tiles_larger_than_the_image_are_refused() -> None:
    image = Image.new("L", (16, 16))
    image.tag_v2 = {322: 40_000, 323: 30_000}
    with pytest.raises(ImageError, match="40000×30000"):
        refuse_large_tiles(image)
    refuse_large_tiles(Image.new("L", (16, 16)))
