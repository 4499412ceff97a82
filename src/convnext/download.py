"""Fetching a file from an address, whole or not at all."""

from __future__ import annotations

import http.client
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from convnext.errors import InputError
from convnext.files import whole_file

TIMEOUT = 30  # seconds without an answer
PASSING = (408, 429)  # refusals of a server that is busy


class Refused(InputError):
    """The server has no such file, or does not give it: asking again will not help."""


def download(url: str, path: Path, *, show: bool = False) -> None:
    """Copy `url` to `path`; with `show`, under a progress bar on stderr.

    Raises:
        Refused: no such file on the server.
        InputError: no network, a transfer that was cut short, or no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path.parent}: {error.strerror or error}") from None
    with whole_file(path) as part:
        try:
            _copy(url, part, show)
        except HTTPError as error:
            error.close()
            kind = Refused if 400 <= error.code < 500 and error.code not in PASSING else InputError
            raise kind(f"cannot download {url}: the server answers {error.code} {error.reason}") from None
        except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise InputError(f"cannot download {url}: no network? ({getattr(error, 'reason', error)})") from None


def _copy(url: str, path: Path, show: bool) -> None:
    with urlopen(Request(url, headers={"User-Agent": "convnext"}), timeout=TIMEOUT) as response:
        size = int(response.headers.get("Content-Length") or 0)
        bar = _bar(response, size, Path(url).name) if show else nullcontext(response)
        with bar as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    received = path.stat().st_size
    if size and received != size:  # urllib takes an early end for the end
        raise ConnectionError(f"the transfer ended after {received} of {size} bytes")


def _bar(response: Any, size: int, name: str) -> Any:
    from rich.console import Console
    from rich.progress import wrap_file

    return wrap_file(response, total=size, description=name, console=Console(stderr=True))
