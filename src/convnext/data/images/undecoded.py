"""Words for files that cannot be decoded, by their first bytes."""

from __future__ import annotations

from typing import BinaryIO

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
    b"BM": "BMP",
}
_OTHERS = {
    b"%!PS": "EPS",
    b"\x00\x00\x01\x00": "ICO",
    b"8BPS": "PSD",
    b"DDS ": "DDS",
    b"SIMPLE": "FITS",
    b"icns": "ICNS",
    b"\x76\x2f\x31\x01": "OpenEXR",
}
"""First bytes of formats that are not read; Pillow's parsers of these formats are never started."""


def what_it_is(file: BinaryIO) -> str:
    """A few words for a file that cannot be decoded, by its first bytes."""
    file.seek(0)
    head = file.read(1024)
    if not head:
        return "zero bytes"
    for start, kind in _OTHERS.items():
        if head.startswith(start):
            return f"{kind} files are not read; convert it to PNG or JPEG"
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return f"truncated or damaged image (begins like {kind})"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "a HEIC image, which is read where pillow-heif is installed: pip install 'convnext[heic]'"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "not an image (looks like HTML)"
    if text.startswith(b"%pdf"):
        return "not an image (looks like PDF)"
    printable = (
        head.decode("utf-8", errors="ignore").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    )
    return "not an image (looks like text)" if printable and b"\0" not in head else "not an image in a known format"
