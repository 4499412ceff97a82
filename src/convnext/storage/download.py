"""Fetching a file from an address, whole or not at all."""

from __future__ import annotations

import base64
import http.client
import io
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from convnext.errors import InputError
from convnext.printing import printable, without_password
from convnext.storage.files import make_folder, whole_file

TIMEOUT = 30  # seconds without an answer
PASSING = (408, 429)  # refusals of a server that is busy
PATIENCE, SLOWEST = 60.0, 1000.0
"""Seconds, and bytes a second: a transfer that was slower for so long is given up."""
LARGEST_DOWNLOAD = 2**37
"""Bytes of a file whose size nobody knows, at most."""


class Refused(InputError):
    """The server has no such file, or does not give it: asking again will not help."""


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https, from https to https alone."""

    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # no address
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        found = urlsplit(newurl)
        if found.scheme not in ("http", "https") or (req.type == "https" and found.scheme != "https"):
            here, there = map(without_password, (req.full_url, newurl))
            raise Refused(f"{here} leads to {first_line(there)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Measured(io.RawIOBase):
    """A socket's stream; reading it fails once less than `SLOWEST` bytes a second came for `PATIENCE` seconds, and
    after the time `until`, of `time.monotonic`."""

    def __init__(self, socket: io.RawIOBase, until: float) -> None:
        self._socket, self._until = socket, until
        self._since, self._received = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._socket.readinto(buffer)
        self._received += count or 0
        now = time.monotonic()
        if now > self._until:
            raise TimeoutError("it takes too long")
        taken = now - self._since
        if taken > PATIENCE and count:
            if self._received < SLOWEST * taken:
                raise ConnectionError(f"{self._received} bytes came in {taken:.0f} seconds")
            self._since, self._received = now, 0
        return count

    def close(self) -> None:
        self._socket.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An HTTP response that is read by `_Measured`, headers included."""

    def __init__(self, *arguments: Any, until: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_Measured(self.fp.detach(), until))


Connect = Callable[..., socket.socket]
"""Function that connects to an address, as `socket.create_connection` does."""


def opener_of(connect: Connect = socket.create_connection, until: float = math.inf) -> OpenerDirector:
    """Opener of web addresses: by `connect`, until that time, along redirects that `_Redirects` follows."""

    def measured(kind: Callable[..., Any]) -> Callable[..., Any]:
        def connection_of(*arguments: Any, **options: Any) -> Any:
            connection = kind(*arguments, **options)
            connection.response_class = partial(_Answer, until=until)
            connection._create_connection = connect
            return connection

        return connection_of

    class Http(HTTPHandler):
        def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:
            return super().do_open(measured(http_class), *arguments, **options)

    class Https(HTTPSHandler):
        def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:
            return super().do_open(measured(http_class), *arguments, **options)

    return build_opener(_Redirects, Http, Https)


def request_of(url: str) -> Request:
    """The request for an address; a user and password in it are sent as basic authentication, to its host alone."""
    user = urlsplit(url).netloc.rpartition("@")[0]
    request = Request(without_password(url), headers={"User-Agent": "convnext"})
    if user:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}")
    return request


def download(
    url: str,
    path: Path,
    *,
    most: int = LARGEST_DOWNLOAD,
    check: Callable[[Path], None] | None = None,
    show: bool = False,
) -> None:
    """Copy `url` to `path`; with `show`, under a progress bar on stderr.

    `check` is called with the copy before it takes its place, and keeps it from there by an `InputError`.

    A user and password in the address are sent as basic authentication, and are in no message.

    Raises:
        Refused: no such file on the server, no address, or more than `most` bytes.
        InputError: no network, a transfer that was cut short or too slow, or no room for it.
    """
    said = without_password(url)
    make_folder(path.parent)
    with whole_file(path) as part:
        try:
            _copy(url, part, most, show)
            if check is not None:
                check(part)
        except HTTPError as error:
            error.close()
            kind = Refused if 400 <= error.code < 500 and error.code not in PASSING else InputError
            raise kind(f"cannot download {said}: the server answers {error.code} {first_line(error.reason)}") from None
        except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise InputError(
                f"cannot download {said}: no network? ({first_line(getattr(error, 'reason', error))})"
            ) from None
        except InputError:
            raise
        except ValueError as error:  # what is no address, here or in a redirect
            raise Refused(f"cannot download {said}: {first_line(error)}") from None


def first_line(problem: object) -> str:
    """The first line of a message of a server or a library, cut to 200 characters."""
    return printable(problem).split("\n")[0][:200]


def _copy(url: str, path: Path, most: int, show: bool) -> None:
    with opener_of().open(request_of(url), timeout=TIMEOUT) as response:
        text = response.headers.get("Content-Length") or "0"
        if not text.isdecimal():
            raise ConnectionError(f"the server names a length of '{text}'")
        size, received = int(text), 0
        if size > most:
            raise Refused(f"{without_password(url)} has {size} bytes, more than {most}")
        with _bar(size, path.name, show) as advance, open(path, "wb") as target:
            while content := response.read1(1 << 20):
                target.write(content)
                received += len(content)
                advance(len(content))
                if received > most:
                    raise Refused(f"{without_password(url)} does not end after {most} bytes")
    if size and received != size:  # urllib takes an early end for the end
        raise ConnectionError(f"the transfer ended after {received} of {size} bytes")


@contextmanager
def _bar(size: int, name: str, show: bool) -> Iterator[Any]:
    """A progress bar on stderr; inside, call what it gives with the bytes that came."""
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=size or None)
        yield lambda count: progress.advance(task, count)
