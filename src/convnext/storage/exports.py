"""Exported models: which files they are, and what is known of them.

An export holds a network's computation, not weights to train. What this project knows of it travels inside, as JSON
under the key `convnext`; of it, `export` says how it was made and what it takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from convnext.errors import InputError, WeightsError
from convnext.storage.files import sha256_of

KEY = "convnext"
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "aot": ".pt2"}
"""Suffix of each format's files."""
VERSION = 1
"""Version of an export's metadata; files with a higher one are refused."""


def is_export(path: str | Path) -> bool:
    """Whether a file is an exported model, by its suffix."""
    return Path(path).suffix in FORMATS.values()


def export_meta(path: Path) -> dict[str, Any]:
    """Metadata of an exported model.

    Raises:
        WeightsError: a damaged file, one that this project did not write, or of a newer version.
    """
    read = {".onnx": _of_onnx, ".xml": _of_openvino, ".pt2": _of_package}[path.suffix]
    text = read(path)
    try:
        meta = json.loads(text or "")
        newer = meta["export"]["version"] > VERSION
    except (ValueError, TypeError, KeyError):
        raise WeightsError(f"{path} does not say how it is used: `convnext export` did not write it") from None
    if newer:
        raise WeightsError(f"{path} was written by a newer version of convnext; install that")
    return meta


def _of_onnx(path: Path) -> str | None:
    """The metadata's entry. It is found without the onnx package, and without reading the weights."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries = dict(_entries(file, size))
    except (OSError, EOFError, ValueError) as error:
        raise damaged(path, error) from None
    return entries.get(KEY)


def _entries(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    """Keys and values of an ONNX model's `metadata_props`, its field 14, each a message of two strings.

    Protocol buffers are fields in a row: a number and a kind, then a number (kind 0), or a length and bytes (kind 2).
    """
    while file.tell() < size:
        field, kind = divmod(_varint(file), 8)
        length = _varint(file)
        if kind == 0:
            continue
        if kind != 2 or file.tell() + length > size:
            raise ValueError("its parts do not fit together")
        if field != 14:
            file.seek(length, os.SEEK_CUR)
            continue
        strings, end = {}, file.tell() + length
        while file.tell() < end:
            name = _varint(file) // 8
            if (count := _varint(file)) > end - file.tell():
                raise ValueError("its parts do not fit together")
            strings[name] = file.read(count).decode()
        yield strings.get(1, ""), strings.get(2, "")


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise EOFError("it ends in the middle")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
        shift += 7


def _of_openvino(path: Path) -> str | None:
    try:
        found = ElementTree.parse(path).getroot().find(f"./rt_info/{KEY}")
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:  # the last two for its encoding
        raise damaged(path, error) from None
    return None if found is None else found.get("value")


def _of_package(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as package:
            for name in package.namelist():
                if name.endswith("_metadata.json"):
                    return json.loads(package.read(name)).get(KEY)
    except (zipfile.BadZipFile, OSError, ValueError, AttributeError, KeyError, RuntimeError) as error:  # encrypted, say
        raise damaged(path, error) from None
    return None


def sha256_of_weights(path: Path) -> str:
    """The SHA-256 of a weight file or an export, in hexadecimal digits. The weights of an OpenVINO model are in the
    `.bin` file beside it, which counts too: two trainings may differ in nothing else."""
    weights = path.with_suffix(".bin")
    if path.suffix != FORMATS["openvino"] or not weights.is_file():
        return sha256_of(path)
    return hashlib.sha256(f"{sha256_of(path)} {sha256_of(weights)}".encode()).hexdigest()


def check_precision(source: str | Path, meta: dict[str, Any], precision: str) -> None:
    """`InputError` for a precision that is asked of an export and is not its own; "fp32" asks for none."""
    own = meta["export"]["precision"]
    if precision not in ("fp32", own):
        raise InputError(f"{source} computes in {own}: export it in {precision}")


def check_device(source: str | Path, device: str) -> None:
    """`InputError` for an accelerator that is asked of an export: engines compute on the CPU; "auto" asks for none."""
    if device not in ("auto", "cpu"):
        raise InputError(f"{source} is an export, which is computed on the CPU; weights can be computed on {device}")


def damaged(path: Path, error: Exception) -> WeightsError:
    """Error for an export that its engine cannot open."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    return WeightsError(f"{path} is no {path.suffix} model, or was damaged or cut short: {reason}")


def missing(package: str, path: Path) -> WeightsError:
    """Error for an export whose engine is not installed."""
    return WeightsError(f"{path} is run by {package}, which is not installed: pip install 'convnext[export]'")
