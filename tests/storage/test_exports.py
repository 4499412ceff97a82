"""Exports that were damaged or made up: each is a line that says so."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from convnext import WeightsError
from convnext.storage.exports import export_meta


def varint(number: int) -> bytes:
    """A number of a protocol buffer."""
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("length", [6, 2**45, 2**63])
def test_a_string_longer_than_its_file(length: int, tmp_path: Path) -> None:
    """As much memory was asked for as the string was said to be long."""
    entry = b"\x0a" + varint(length) + b"12345"
    (tmp_path / "x.onnx").write_bytes(bytes([14 << 3 | 2]) + varint(len(entry)) + entry)
    with pytest.raises(WeightsError, match=r"x\.onnx is no \.onnx model, or was damaged"):
        export_meta(tmp_path / "x.onnx")


@pytest.mark.parametrize("encoding", ["foo", "utf-16", "x" * 300])
def test_an_encoding_that_is_none(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><net/>'.encode())
    with pytest.raises(WeightsError, match=r"x\.xml is no \.xml model, or was damaged"):
        export_meta(tmp_path / "x.xml")


@pytest.mark.parametrize(("place", "value"), [("encrypted", 1), ("compression", 99)])
def test_a_package_whose_metadata_cannot_be_unpacked(place: str, value: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as package:
        package.writestr("x_metadata.json", "{}")
    content = bytearray((tmp_path / "x.pt2").read_bytes())
    first, listed = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    for start in (first + 6, listed + 8):
        content[start + (0 if place == "encrypted" else 2)] = value
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pt2 is no \.pt2 model, or was damaged"):
        export_meta(tmp_path / "x.pt2")
