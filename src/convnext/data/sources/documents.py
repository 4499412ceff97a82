"""Files of JSON, YAML and XML that strangers wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from convnext.errors import InputError

HEAD = 2**16
"""Bytes at a file's ends in which its form is looked for."""


def read_json(path: Path) -> Any:
    """Content of a JSON file. `InputError` if it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def read_text_file(path: Path, errors: str = "strict") -> str:
    """Text of a file in UTF-8, perhaps with a byte order mark; `errors` says what becomes of other bytes. `InputError`
    if it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig", errors)
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error})") from None


def read_yaml(path: Path) -> Any:
    """Content of a YAML file, as plain values. `InputError` if it cannot be read."""
    import yaml

    try:
        return yaml.safe_load(read_text_file(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def read_xml(path: Path) -> Element:
    """Root of an XML file. `InputError` if it cannot be read, or declares entities: they may grow without bound, or
    name other files."""

    def refuse(*declared: Any) -> None:
        raise InputError(f"{path}: declares entities, which are not read")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except OSError as error:
        raise _unreadable(path, error) from None
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not XML: {error}") from None


def ends_of(path: Path) -> bytes:
    """First and last bytes of a file, by which its form is recognised; nothing of one that cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - HEAD))
            return head + file.read(HEAD)
    except (OSError, ValueError):
        return b""


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}")
