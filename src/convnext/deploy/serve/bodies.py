"""Bodies of requests: read within limits, and decoded to images and options. No address in them is ever fetched."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from convnext.deploy.serve.limits import Limits, Refusal
from convnext.printing import quoted

RAW_TYPES = ("", "application/octet-stream")
"""Types of content, beside `image/...`, of a body that is an image file."""
_WORD = 1000
"""Characters of an option's value, at most."""


@dataclass(frozen=True)
class Question:
    """Content of a request: image files, and options by name."""

    images: list[bytes]
    options: dict[str, Any]


class Held:
    """Bytes of the bodies that a server holds at once.

    Args:
        most: of all together.
    """

    def __init__(self, most: int) -> None:
        self.most, self.now = most, 0

    def add(self, count: int) -> None:
        """Count bytes that are to be held. `Refusal` with 503 where they would be too many."""
        if self.now + count > self.most:
            raise Refusal(503, "the server holds as many bodies as it may", 1)
        self.now += count

    def drop(self, count: int) -> None:
        """Count bytes that are held no more."""
        self.now -= count


async def read_body(request: Request, limits: Limits, held: Held) -> bytes:
    """A request's body, whose bytes are added to `held`; what refuses it adds none.

    `Refusal`: 413 for one that is too large, before it is read where it says so; 408 for one that is too slow; 503 as
    of `Held.add`.
    """
    too_large = Refusal(413, f"the body is larger than {limits.body:,} bytes")
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdecimal():
        raise Refusal(400, "Content-Length is no number")
    if len(declared) > 18 or int(declared) > limits.body:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                if size + len(part) > limits.body:
                    raise too_large
                held.add(len(part))
                size += len(part)
                parts.append(part)
    except TimeoutError:
        held.drop(size)
        raise Refusal(408, f"the body did not come within {limits.seconds:g} seconds") from None
    except BaseException:  # a cancelled task too: what it held is held no more
        held.drop(size)
        raise
    return b"".join(parts)


async def question_of(request: Request, body: bytes, limits: Limits) -> Question:
    """The images and options of a request, in any of the forms: multipart, an image file as it is, or JSON.

    Options stand in the address, in fields of a form or in the JSON. `Refusal`: 400 for what is malformed, has no image
    or too many; 415 for another type of content.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    options: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        _add(options, name, value)
    if kind == "multipart/form-data":
        images, fields = await _parts(request.headers, body, limits)
    elif kind == "application/json":
        images, fields = _json_images(body)
    elif kind in RAW_TYPES or kind.startswith("image/"):
        images, fields = [body] if body else [], []
    else:
        raise Refusal(415, "send multipart/form-data, an image file as it is, or application/json")
    for name, value in fields:
        _add(options, name, value)
    if not images:
        raise Refusal(400, "no image in the request")
    if len(images) > limits.images_asked:
        raise Refusal(400, f"{len(images)} images in a request, the limit is {limits.images_asked}")
    return Question(images, options)


def _add(options: dict[str, Any], name: str, value: Any) -> None:
    if name not in _OPTIONS:
        raise Refusal(400, f"there is no option {quoted(name)}: there are {', '.join(_OPTIONS)}")
    if name in options:
        raise Refusal(400, f"{name} is given twice")
    options[name] = _OPTIONS[name](name, value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 10**6:
        raise Refusal(400, f"{name} is a whole number from 1 on")
    return value


def _share(name: str, value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{0,3}\.?[0-9]{0,20}(e-?[0-9]{1,3})?", value):
        try:
            value = float(value)
        except ValueError:  # no digits
            value = None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1 or math.isnan(value):
        raise Refusal(400, f"{name} is a number from 0 to 1")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _WORD or any("\ud800" <= c <= "\udfff" for c in value):
        raise Refusal(400, f"{name} is a text of at most {_WORD} characters")
    return value


_OPTIONS: Mapping[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "top_k": _whole,
    "threshold": _share,
    "label": _text,
}


class _InMemory(MultiPartParser):
    """Parser whose parts never become files on a disk."""

    spool_max_size = 2**62


async def _parts(headers: Headers, body: bytes, limits: Limits) -> tuple[list[bytes], list[tuple[str, Any]]]:
    """The files and the fields of a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(
        headers, stream(), max_files=limits.images_asked, max_fields=len(_OPTIONS), max_part_size=4 * _WORD
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(400, f"malformed form: {quoted(error.message)}") from None
    except Exception:  # of any type, where headers are not what they should be
        raise Refusal(400, "malformed form") from None
    images, fields = [], []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            images.append(await value.read())
            await value.close()
        elif name in ("image", "images"):
            raise Refusal(400, f"{name} is a text: send the image as a file, with a file name")
        else:
            fields.append((name, value))
    return images, fields


def _json_images(body: bytes) -> tuple[list[bytes], list[tuple[str, Any]]]:
    """The images and the other entries of a JSON object."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "malformed JSON") from None
    if not isinstance(content, dict):
        raise Refusal(400, 'JSON is an object: {"image": "<base64>"} or {"images": ["<base64>", ...]}')
    encoded = content.pop("images", [])
    if not isinstance(encoded, list):
        raise Refusal(400, "images is a list of images in base64")
    if "image" in content:
        encoded = [content.pop("image"), *encoded]
    return [_from_base64(each) for each in encoded], list(content.items())


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise Refusal(400, "an image in JSON is a text in base64")
    if re.match(r"[a-z]{2,6}://", text, re.IGNORECASE):
        raise Refusal(400, "addresses are not fetched: send the image itself, in base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "an image is no base64") from None
