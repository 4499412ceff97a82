"""A folder with every kind of bad file trains to the end: odd files are used, bad ones are listed with the reason."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from making import FAST, make_folder
from PIL import Image
from vacuous import nonempty

from convnext import cli

RNG = np.random.default_rng(0)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 40)) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def header_of_a_huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
JPEG = encoded(picture(size=(64, 64)), quality=95)
PNG = encoded(picture(), "PNG")

BAD = {
    "zero-bytes.jpg": (b"", "zero bytes"),
    **{
        f"cut-after-{percent}-percent.jpg": (JPEG[: len(JPEG) * percent // 100], "truncated")
        for percent in (1, 5, 10, 20, 30, 40, 50, 70, 90, 97)
    },
    "cut.png": (PNG[: len(PNG) // 2], "truncated"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "looks like HTML"),
    "text.jpg": (b"not an image at all\n", "looks like text"),
    "noise.jpg": (bytes(RNG.integers(128, 256, 3000, dtype=np.uint8)), "not an image in a known format"),
    "paper.jpg": (b"%PDF-1.4\n%\xe2\xe3", "looks like PDF"),
    "huge.png": (header_of_a_huge_png(), "too large: 30000×30000"),
    "flipped.png": (PNG[:60] + bytes(b ^ 0xFF for b in PNG[60:90]) + PNG[90:], "damaged"),
}
GOOD = {
    "one-pixel.png": encoded(picture(size=(1, 1)), "PNG"),
    "cmyk.jpg": encoded(picture("CMYK")),
    "sixteen-bit.png": encoded(Image.fromarray(RNG.integers(0, 65536, (40, 40), dtype=np.uint16)), "PNG"),
    "palette.png": encoded(picture("P"), "PNG"),
    "grey-alpha.png": encoded(picture("LA"), "PNG"),
    "two-levels.png": encoded(picture("1"), "PNG"),
    "alpha.webp": encoded(picture("RGBA"), "WEBP"),
    "animated.gif": encoded(picture("P"), "GIF", save_all=True, append_images=[picture("P")]),
    "a-png.jpg": PNG,
    "turned.jpg": encoded(picture(size=(40, 20)), exif=TURNED),
    "UPPER.JPG": JPEG,
    "with spaces and (brackets).jpg": JPEG,
    "ünïcödé-図.jpg": JPEG,
    "line\nbreak.jpg": JPEG,
}  # fmt: skip


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set with all of them, a broken link, a loop of links, and a file no one may read."""
    root = make_folder(tmp_path_factory.mktemp("messy") / "data")
    place = root / "train" / "red"
    for name, (content, _) in BAD.items():
        (place / name).write_bytes(content)
    for name, content in GOOD.items():
        (place / name).write_bytes(content)
    (place / "gone.jpg").symlink_to(place / "nowhere.jpg")
    (place / "loop.jpg").symlink_to(place / "loop.jpg")
    (place / "again").symlink_to(place, target_is_directory=True)
    (place / "secret.jpg").write_bytes(JPEG)
    (place / "secret.jpg").chmod(0)
    (place / ".hidden.jpg").write_bytes(b"")
    (place / "notes.txt").write_text("no image")
    return root


@pytest.mark.parametrize("task", ["classify", "pretrain"])
def test_training_goes_to_the_end(task: str, messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = (
        ["train", "classify", str(messy), *FAST] if task == "classify" else ["pretrain", str(messy / "train"), *FAST]
    )
    if task == "pretrain":
        command += ["--stem-patch", "2", "--patch-size", "16", "--decoder-dim", "32"]
    # So that every batch holds readable images, and each image is seen: one batch of all of them.
    size = sum(len(files) for _, _, files in os.walk(messy / "train"))
    assert cli.main([*command, "--batch-size", str(size), "--max-unreadable", "0.6", "--out", str(out)]) == 0
    listed = (out / "unreadable.txt").read_text().splitlines()
    reasons = {}
    for line in nonempty(listed):
        name, _, reason = line.removeprefix(f"{messy}/train/red/").partition(": ")
        assert name not in reasons, f"{name} is listed twice"
        reasons[name] = reason
    bad = {
        **{name: reason for name, (_, reason) in BAD.items()},
        "gone.jpg": "no such file",
        "loop.jpg": "symbolic links",
    }
    if os.geteuid():  # root may read everything
        bad["secret.jpg"] = "permission denied"
    assert reasons.keys() == bad.keys()
    for name, expected in bad.items():
        assert expected in reasons[name], name
