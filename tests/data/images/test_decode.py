"""Every odd kind of file decodes to the right pixels, or fails with one clear line."""

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from vacuous import nonempty

from convnext.data.images.decode import MAX_PIXELS, as_mode, read_image
from convnext.data.images.encoded import EncodedImage
from convnext.data.sources.image_files import find_images
from convnext.errors import ImageError, InputError

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def refusal(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def png_header(width: int, height: int, colour_type: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_plain_files_paths_strings_and_binary_files_agree(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), BytesIO((tmp_path / "a.png").read_bytes())):
        image = read_image(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert read_image(tmp_path / "a.png", "L").mode == "L"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_puts_the_image_upright(tmp_path: Path, orientation: int):
    upright = Image.new("RGB", (48, 32), WHITE)
    upright.paste(RED, (0, 0, 16, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a camera held so has applied
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    image = read_image(tmp_path / "a.jpg")
    assert image.size == (48, 32)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(upright)).mean() < 2


def test_damaged_exif_is_ignored_without_a_warning(tmp_path: Path):
    for number, exif in enumerate((b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")):
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (8, 8), RED).save(path, exif=exif)
        assert read_image(path).size == (8, 8)


def test_cmyk_jpeg_of_adobe_polarity(tmp_path: Path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "red.jpg").read_bytes()
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "red.jpg"))[8, 8], RED, atol=3)


def test_16_bit_grey_uses_the_full_range(tmp_path: Path):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535\n" + values.astype(">u2").tobytes())
    (tmp_path / "big.tif").write_bytes(_big_endian_tiff(values))
    for name in ("a.png", "a.tif", "a.pgm", "big.tif"):
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / name, "L")), [[0, 1, 128, 255]], err_msg=name)


def _big_endian_tiff(values: np.ndarray) -> bytes:
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, values.nbytes))
    offset = 8 + values.nbytes
    entries = b"".join(struct.pack(">HHIHxx", tag, 3, 1, value) for tag, value in tags)
    return (
        b"MM\0*"
        + struct.pack(">I", offset)
        + values.astype(">u2").tobytes()
        + struct.pack(">H", len(tags))
        + entries
        + struct.pack(">I", 0)
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 257, 65535]], dtype=np.int32), [[0, 1, 255]]),
        (np.array([[-100, 0, 100]], dtype=np.int32), [[0, 128, 255]]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [[0, 128, 255]]),
        (np.array([[0.0, 10.0, 200.0]], dtype=np.float32), [[0, 10, 200]]),
        (np.array([[0.0, 257.0, 65535.0]], dtype=np.float32), [[0, 1, 255]]),
        (np.array([[np.nan, 0.0, 1.0]], dtype=np.float32), [[0, 0, 255]]),
        (np.array([[7e5, 7e5]], dtype=np.float32), [[0, 0]]),
    ],
)
def test_32_bit_integers_and_floats(tmp_path: Path, values: np.ndarray, expected: list):
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif", "L")), expected)


def test_transparency_lies_over_white(tmp_path: Path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([*RED, *GREEN])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "bytes.png", transparency=b"\xff\x00")
    Image.new("RGB", (2, 2), RED).save(tmp_path / "key.png", transparency=RED)
    for name in ("rgba.png", "la.png", "p.png", "bytes.png", "key.png"):
        assert read_image(tmp_path / name).getpixel((0, 0)) == WHITE, name
        assert read_image(tmp_path / name, "L").getpixel((0, 0)) == 255, name


def test_half_transparent_red_becomes_pink(tmp_path: Path):
    Image.new("RGBA", (1, 1), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 127, 127)


def test_palette_one_bit_and_grey(tmp_path: Path):
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([*RED, *GREEN])
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").getpixel((0, 0)) == GREEN
    Image.new("1", (9, 2), 1).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png", "L").getpixel((8, 1)) == 255
    Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").getpixel((1, 1)) == (77, 77, 77)


def test_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((0, 0)) == RED


def test_zero_bytes(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    assert refusal(tmp_path / "a.jpg") == f"{tmp_path}/a.jpg: zero bytes"


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm"])
def test_truncated_at_any_point_never_decodes_and_never_escapes(tmp_path: Path, suffix: str):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(pixels).save(whole)
    data = whole.read_bytes()
    for end in (1, 3, 11, 30, len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        path.write_bytes(data[:end])
        assert refusal(path).startswith(f"{path}: ")


def test_truncated_says_so(tmp_path: Path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    assert refusal(tmp_path / "a.jpg").startswith(f"{tmp_path}/a.jpg: truncated image")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"just some words\n", "not an image (looks like text)"),
        ("naïve text, in UTF-8 ".encode() * 100, "not an image (looks like text)"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "not an image (looks like HTML)"),
        (b"%PDF-1.7\n%\xe2\xe3", "not an image (looks like PDF)"),
        (bytes(range(256)), "not an image in a known format"),
        (b"\xff\xd8\xff\xe0", "truncated or damaged image (begins like JPEG)"),
    ],
)
def test_not_an_image(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.jpg").write_bytes(content)
    assert refusal(tmp_path / "a.jpg") == f"{tmp_path}/a.jpg: {reason}"


def test_a_format_that_runs_other_programs_is_refused(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    assert refusal(tmp_path / "a.eps") == f"{tmp_path}/a.eps: EPS files are not read; convert it to PNG or JPEG"


def test_missing_folder_and_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert refusal(tmp_path / "no.jpg") == f"{tmp_path}/no.jpg: cannot be opened: no such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be opened: is a directory"

    def forbid(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbid)
    assert refusal("a.jpg") == "a.jpg: cannot be opened: permission denied"


@pytest.mark.parametrize("size", [(30_000, 30_000), (MAX_PIXELS // 1000 + 1, 1000)])
def test_too_large_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]):
    (tmp_path / "a.png").write_bytes(png_header(*size))
    limit = Image.MAX_IMAGE_PIXELS
    message = refusal(tmp_path / "a.png")
    assert message.startswith(f"{tmp_path}/a.png: too large: {size[0]}×{size[1]} pixels")
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("rest", [b"", b"\x08"])
def test_a_frame_too_large_in_a_file_that_ends(rest: bytes, tmp_path: Path):
    screen, frame = struct.pack("<HHBBB", 1, 1, 0, 0, 0), struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    (tmp_path / "a.gif").write_bytes(b"GIF87a" + screen + b"," + frame + rest)
    assert "too large" in refusal(tmp_path / "a.gif")


def test_pillows_warnings_stay_inside(tmp_path: Path):
    # 90 million pixels make Pillow warn on opening; then the pixels turn out to be missing.
    (tmp_path / "a.png").write_bytes(png_header(9_500, 9_500, colour_type=0))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        refusal(tmp_path / "a.png")
    assert not seen


def test_lack_of_memory_is_not_called_a_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def exhausted(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", exhausted)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.png", "L")


def test_as_mode_of_an_image_in_memory():
    assert as_mode(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "RGB").getpixel((0, 0)) == WHITE
    image = Image.new("RGB", (1, 1))
    assert as_mode(image, "RGB") is image


def test_find_images(tmp_path: Path):
    for name in ("b/2.JPG", "b/1.png", "a/x.jpeg", "a/.hidden.png", ".secret/x.png", "a/notes.txt", "top.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "b" / "1.png")
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "c").symlink_to(tmp_path / "b", target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/link.png", "a/x.jpeg", "b/1.png", "b/2.JPG", "c/1.png", "c/2.JPG", "top.webp"]


def test_find_images_in_a_missing_folder(tmp_path: Path):
    with pytest.raises(InputError, match=r"none: cannot be listed: no such file or directory"):
        find_images(tmp_path / "none")


def test_plain_jpegs_come_as_pillow_decodes_them(real_images: Path):
    for path in nonempty(sorted(real_images.glob("imagenette/train/*/*"))[::300]):
        content = path.read_bytes()
        pixels = EncodedImage(content, "RGB", name="").decode()
        assert isinstance(pixels, torch.Tensor)
        assert np.array_equal(pixels.permute(1, 2, 0), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, None])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_jpegs_are_decoded_smaller_and_upright(orientation: int | None, factor: int):
    ramp = np.linspace(0, 255, 160)[None, :, None].repeat(80, 0).repeat(3, 2).astype(np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    file = BytesIO()
    Image.fromarray(ramp).save(file, "JPEG", quality=95, exif=exif)
    encoded = EncodedImage(file.getvalue(), "RGB", name="")
    pixels = encoded.decode(factor)
    whole = read_image(BytesIO(file.getvalue()))
    assert encoded.size == whole.size
    found = pixels.permute(1, 2, 0).numpy() if isinstance(pixels, torch.Tensor) else np.asarray(pixels)
    expected = np.asarray(whole.reduce(factor), dtype=float)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3


def test_truncated_jpegs_are_refused_by_the_fast_way_too():
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    with pytest.raises(ImageError, match=r"^x: truncated"):
        EncodedImage(file.getvalue()[:-200], "RGB", name="x").decode()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_pillow_image_is_upright_as_its_path_is(tmp_path: Path, orientation: int):
    """`predict` turned a path upright, and not the same image opened by Pillow."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(24 * 3, dtype=np.uint8).reshape(4, 6, 3)).save(tmp_path / "a.png", exif=exif)
    by_path = np.asarray(read_image(tmp_path / "a.png"))
    opened = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(opened)), by_path)
    with open(tmp_path / "a.png", "rb") as file:
        assert np.array_equal(np.asarray(read_image(file)), by_path)
    assert opened.size == (6, 4)  # the caller's image stays as it is


def test_arrays_and_tensors_are_images():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(read_image(pixels)), pixels)
    assert np.array_equal(np.asarray(read_image(torch.from_numpy(pixels).permute(2, 0, 1))), pixels)
    grey = pixels[:, :, 0]
    assert np.array_equal(np.asarray(read_image(grey, "L")), grey)
    assert np.array_equal(np.asarray(read_image(torch.from_numpy(grey.copy())[None], "L")), grey)
    for wrong in (pixels.astype(np.float32), pixels[:, :, :2], torch.zeros(2, 3, 4, 5, dtype=torch.uint8), 17):
        with pytest.raises(ImageError, match="an image is a path"):
            read_image(wrong)


def test_white_is_what_sixteen_bits_are_said_to_hold(tmp_path: Path):
    Image.fromarray(np.array([[0, 2048, 4095, 5000]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png", "L")).tolist() == [[0, 8, 16, 19]]
    assert np.asarray(read_image(tmp_path / "a.png", "L", white=4095)).tolist() == [[0, 128, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_encoded_image_knows_its_size(kind: str, orientation: int) -> None:
    """Which its crop is drawn for, before it is decoded."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = BytesIO()
    Image.new("RGB", (40, 24), "red").save(
        file, kind, **({} if kind in ("BMP", "GIF", "PPM", "TGA") else {"exif": exif})
    )
    for mode in ("RGB", "L"):
        encoded = EncodedImage(file.getvalue(), mode, name="x")
        image = encoded.decode()
        size = (image.shape[2], image.shape[1]) if isinstance(image, torch.Tensor) else image.size
        assert encoded.size == size == read_image(BytesIO(file.getvalue())).size
