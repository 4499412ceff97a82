"""Messages between the front process and a worker: a JSON object and byte strings, over a pipe."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

_HEAD = struct.Struct("<IQ")


class Frame(NamedTuple):
    """A message."""

    header: dict[str, Any]
    parts: list[bytes]


def pack_frame(header: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """A message as bytes."""
    text = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    return b"".join((_HEAD.pack(len(text), sum(map(len, parts))), text, *parts))


def read_frame(file: BinaryIO) -> Frame:
    """The next message of a pipe; waits for it. `EOFError` where the other side is gone."""
    text, body = _HEAD.unpack(_read(file, _HEAD.size))
    return _unpacked(_read(file, text), _read(file, body))


async def receive_frame(reader: asyncio.StreamReader) -> Frame:
    """The next message of a stream. `asyncio.IncompleteReadError`, an `EOFError`, where the other side is gone."""
    text, body = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return _unpacked(await reader.readexactly(text), await reader.readexactly(body))


def _read(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _unpacked(text: bytes, body: bytes) -> Frame:
    header = json.loads(text)
    parts, start = [], 0
    for size in header.pop("sizes"):
        parts.append(body[start : start + size])
        start += size
    return Frame(header, parts)
