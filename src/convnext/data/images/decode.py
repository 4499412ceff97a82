"""Image files to 8-bit Pillow images, whatever the file: one rule for each odd kind, one clear line for each failure.

Only raster formats are decoded (`_SUFFIXES`); others that Pillow can open, such as EPS, run outside programs.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from convnext.data.images.costly import reason_to_refuse, refuse_large_tiles
from convnext.data.images.undecoded import what_it_is
from convnext.errors import ImageError, InputError
from convnext.printing import without_password
from convnext.storage.cache import is_address
from convnext.storage.fetch import fetch_public

_SUFFIXES = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2",),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
if find_spec("pillow_heif"):  # which reads what phones write
    import pillow_heif

    pillow_heif.register_heif_opener()
    _SUFFIXES["HEIF"] = (".heic", ".heif", ".hif")
_FORMATS = [name for name in _SUFFIXES if name != "MPO"]  # which is JPEG's to open
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)

# Pillow itself refuses more than twice its MAX_IMAGE_PIXELS, which is this number: 0.5 GB once decoded to RGB.
MAX_PIXELS = 178_956_970

# More than so many pixels take in any format that is read.
MAX_BYTES = 2**31

WHITE = 65535
"""The value of 16-bit images that is white, unless they are said to hold fewer bits."""

_HANDED_OVER = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Beginnings of the paths that a shell gives for `<(command)`: pipes, and yet read."""
_STRIP = 2**22
"""Pixels of an image that are converted at a time, to bound memory."""
_header_lock = threading.Lock()


def read_image(source: Any, mode: str = "RGB", *, white: int = WHITE) -> Image.Image:
    """An image as 8-bit "RGB" or "L", upright as its EXIF says.

    `source` is a path, an address (fetched as of `storage.fetch`), a binary file, a file's bytes, a Pillow image, or
    pixels: a uint8 array `[H, W, 3]` or `[H, W]`, or a uint8 tensor `[3, H, W]` or `[1, H, W]`. Of an animation it is
    the first frame. Conversions are those of `as_mode`. A failure raises `ImageError`, one line with path and reason:
    missing or unreadable, zero bytes, not an image, truncated or damaged, more than `MAX_BYTES`, or more than
    `MAX_PIXELS` pixels by its header (refused before decoding).
    """
    if isinstance(source, str) and is_address(source):
        return decode_image(_fetched(source), mode, name=without_password(source), white=white)
    if isinstance(source, str | Path):
        return decode_image(read_bytes(source), mode, name=str(source), white=white)
    if isinstance(source, Image.Image):
        return as_mode(upright_copy(source), mode, white)
    if isinstance(source, np.ndarray) or _is_tensor(source):
        return as_mode(_image_of(source), mode, white)
    if isinstance(source, bytes):
        return decode_image(source, mode, name="image", white=white)
    if not hasattr(source, "read"):
        raise ImageError(f"an image is {_TAKEN}, not {type(source).__name__}")
    return decode_image(source.read(), mode, name=str(getattr(source, "name", "image")), white=white)


_TAKEN = (
    "a path, a binary file, a file's bytes, a Pillow image, a uint8 array [H, W, 3] or [H, W], or a uint8 tensor "
    "[3, H, W]"
)


def _fetched(address: str) -> bytes:
    try:
        return fetch_public(address)
    except InputError as error:
        raise ImageError(str(error)) from None


def _is_tensor(source: Any) -> bool:
    """Whether it is a tensor of PyTorch, which where none is loaded nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _image_of(pixels: Any) -> Image.Image:
    kind = "tensor" if _is_tensor(pixels) else "array"
    shape, dtype = list(pixels.shape), str(pixels.dtype).removeprefix("torch.")
    values = pixels.detach().permute(1, 2, 0).cpu().numpy() if kind == "tensor" and pixels.ndim == 3 else pixels
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim not in (2, 3) or not values.size:
        raise ImageError(f"an image is {_TAKEN}, not a {dtype} {kind} {shape}")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] not in (3, 4):
        raise ImageError(f"an image is {_TAKEN}, not a {dtype} {kind} {shape}")
    return Image.fromarray(np.ascontiguousarray(values))


def read_bytes(path: str | Path) -> bytes:
    """The content of a file, or of one in a tar shard (`shards.members`). `ImageError` if it cannot be read, or has
    more than `MAX_BYTES`; `InputError` if its shard cannot be read at all."""
    try:
        # Without waiting for somebody to write into a named pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                if not str(path).startswith(_HANDED_OVER):
                    raise ImageError(f"{path}: not a regular file")
                os.set_blocking(file.fileno(), True)
            # A read of MAX_BYTES would reserve that much memory each time, which takes as long as the read.
            size = min(found.st_size, MAX_BYTES)
            content = file.read(size + 1)
            if len(content) > size:  # a pipe, or a file that grows
                content += file.read(MAX_BYTES + 1 - len(content))
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # a path may hold a zero
        if ".tar/" in str(path):
            from convnext.data.shards.members import read_member  # which needs this module

            if (inside := read_member(path)) is not None:
                return inside
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: cannot be opened: {reason.lower()}") from None
    if len(content) > MAX_BYTES:
        raise ImageError(f"{path}: larger than {MAX_BYTES / 2**30:.0f} GiB")
    return content


def decode_image(
    content: bytes,
    mode: str | None,
    *,
    name: str,
    reduction: int = 1,
    white: int = WHITE,
    upright: bool = True,
) -> Image.Image:
    """`read_image` of a file's content, with `mode` None in its own mode; `name` is for errors.

    JPEG files are decoded `reduction` times smaller, 1, 2, 4 or 8, which saves most of the time.
    Without `upright`, the pixels are as they are stored.
    """
    try:
        if reason := reason_to_refuse(content):
            raise ImageError(reason)
        image = _decode(BytesIO(content), reduction, upright)
        return image if mode is None else as_mode(image, mode, white)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def upright_size(content: bytes, *, name: str) -> tuple[int, int]:
    """Width and height of the image in a file's content, from its header. `ImageError` if it is none."""
    try:
        return _upright_size(BytesIO(content))
    except Exception:  # damaged headers raise nearly anything; what is wrong, `decode_image` says
        return decode_image(content, "RGB", name=name).size


def upright_size_of_file(path: str | Path) -> tuple[int, int]:
    """Width and height of the image in a file, of which no more than the header is read. `ImageError` if it is none."""
    try:
        with open(path, "rb") as file:
            return _upright_size(file)
    except Exception:  # as above
        return upright_size(read_bytes(path), name=str(path))


def _upright_size(file: BinaryIO) -> tuple[int, int]:
    _ignore_pillow_warnings()
    image = Image.open(file, formats=_FORMATS)
    width, height = image.size
    swapped = image.format != "TIFF" and _lies_on_its_side(image)  # of a TIFF Pillow says the upright size
    return (height, width) if swapped else (width, height)


def orientation(content: bytes) -> int:
    """The EXIF orientation of the image in a file's content, 1 (upright) to 8; 1 if the file has none."""
    _ignore_pillow_warnings()
    try:
        return Image.open(BytesIO(content), formats=_FORMATS).getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # what is wrong with the file, reading it says
        return 1


def stored_mode(content: bytes) -> str:
    """Pillow's mode of the image in a file's content, from its header; "" where it says none."""
    _ignore_pillow_warnings()
    try:
        return Image.open(BytesIO(content), formats=_FORMATS).mode
    except MemoryError:
        raise
    except Exception:  # as above
        return ""


def as_mode(image: Image.Image, mode: str, white: int = WHITE) -> Image.Image:
    """`image` of any Pillow mode as 8-bit "RGB" or "L".

    Transparency is laid over white. 16-bit grey is scaled from 0..`white` to 0..255, and so are 32-bit integers that
    fit in 16 bits; what lies above is white. Floats are scaled from 0..1, 0..255 or 0..65535, the smallest that holds
    them. Numbers outside of 16 bits are stretched from their minimum..maximum. CMYK by Pillow's formula, without
    colour profiles.
    """
    if image.mode.startswith("I"):  # I;16 in either byte order, and I
        image = _grey(image, mode, white)
    elif image.mode == "F":
        image = _grey(image, mode, None)
    elif image.has_transparency_data:
        image = _over_white(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _decode(file: BinaryIO, reduction: int, upright: bool) -> Image.Image:
    _ignore_pillow_warnings()
    try:
        image = Image.open(file, formats=_FORMATS)
        _check_size(image.size, image.mode)
        refuse_large_tiles(image)
        if reduction > 1 and image.format == "JPEG":
            image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
        image.load()
        if upright:
            _turn_upright(image)
        return image
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        if size := _header_size(file):
            _check_size(size)
        raise ImageError("too large to be decoded") from None  # a frame or tile larger than the image
    except UnidentifiedImageError:
        raise ImageError(what_it_is(file)) from None
    except Exception as error:  # decoders raise nearly anything on damaged files: SyntaxError, struct.error, EOFError…
        reason = (str(error) or type(error).__name__).splitlines()[0]
        kind = "truncated" if "truncated" in reason.lower() else "damaged or unsupported"
        raise ImageError(f"{kind} image ({reason})") from None


def _lies_on_its_side(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF raises anything, and then says nothing about orientation
        return False


def upright_copy(image: Image.Image) -> Image.Image:
    """A Pillow image turned as its EXIF says; the image itself stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF says nothing about orientation, and the pixels are sound
        return image


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # as above
        return


def _grey(image: Image.Image, mode: str, white: int | None) -> Image.Image:
    """Scale an image of numbers to 8 bits: from 0 to `white`, or if that is None to the smallest of 1, 255 and 65535
    that holds them; numbers outside of 16 bits from their minimum to their maximum."""

    def strip(rows: slice) -> np.ndarray:
        part = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        return np.nan_to_num(part.astype(np.float64), posinf=0, neginf=0)

    strips = _strips(*image.size)
    ends = [(float(part.min()), float(part.max())) for part in map(strip, strips)]
    low, high, most = min(end[0] for end in ends), max(end[1] for end in ends), np.inf
    if low >= 0 and high <= WHITE:
        low, high = 0, next(top for top in (1, 255, WHITE) if high <= top)
        if white is not None:
            high = most = white
    spread = (high - low) or 1.0  # an image of one value outside every range is black
    out = Image.new(mode, image.size)
    for rows in strips:
        grey = np.rint((strip(rows).clip(max=most) - low) * 255 / spread).astype(np.uint8)
        out.paste(Image.fromarray(grey).convert(mode), (0, rows.start))
    return out


def _over_white(image: Image.Image, mode: str) -> Image.Image:
    """Lay an image with transparency over white."""
    out = Image.new(mode, image.size)
    for rows in _strips(*image.size):
        part = image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA")
        part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
        out.paste(part.convert(mode), (0, rows.start))
    return out


def _strips(width: int, height: int) -> list[slice]:
    """Cut an image into strips of rows of at most `_STRIP` pixels."""
    step = max(1, _STRIP // max(1, width))
    return [slice(first, min(first + step, height)) for first in range(0, height, step)]


def _check_size(size: tuple[int, int], mode: str = "RGB") -> None:
    width, height = size
    wide = mode in ("RGBA", "LA", "PA", "RGBa", "CMYK", "I", "F")  # what takes four bytes a pixel, and as many again
    most = MAX_PIXELS // 2 if wide else MAX_PIXELS
    if width * height > most:
        raise ImageError(f"too large: {width}×{height} pixels, the limit is {most / 1e6:.0f} million; scale it down")


def _header_size(file: BinaryIO) -> tuple[int, int] | None:
    # Pillow's refusal names only the product, so the header is read once more without its limit; nothing is decoded.
    # A file may be damaged where Pillow has not looked before: then it says no size.
    with _header_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=_FORMATS).size
        except Exception:  # damaged beyond the size, which raises nearly anything
            return None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


_PILLOW = re.compile(r"PIL\.")


def _ignore_pillow_warnings() -> None:
    # Not catch_warnings: it is unsafe in threads, and makes every once-only warning of the process appear again.
    if not warnings.filters or warnings.filters[0][3] != _PILLOW:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)
