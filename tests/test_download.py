"""Servers that mislead: each ends in a line, and nothing of theirs is kept."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from convnext import download as module
from convnext.download import Refused, download, without_password
from convnext.errors import InputError


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(10_000):
        request.wfile.write(bytes(1 << 20))


def claiming(length: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", length)
        request.end_headers()
        request.wfile.write(b"x" * 100)

    return answer


def leading_to(place: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", place)
        request.end_headers()

    return answer


def dripping(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.05)


def rude(request: BaseHTTPRequestHandler) -> None:
    request.send_response(404, "\x1b[2J" + "no " * 500)
    request.end_headers()


def asking(request: BaseHTTPRequestHandler) -> None:
    expected = "Basic " + base64.b64encode(b"ann:secret").decode()
    request.send_response(200 if request.headers.get("Authorization") == expected else 401)
    request.end_headers()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server that answers so; gives its address."""
    servers = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):  # the client has had enough
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None: ...

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        servers.append(http)
        return f"http://127.0.0.1:{http.server_port}/file"

    yield start
    for http in servers:
        http.shutdown()
        http.server_close()


def refusal(url: str, path: Path, **options: int) -> str:
    with pytest.raises(InputError) as caught:
        download(url, path, **options)
    assert not list(path.parent.iterdir())
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_more_than_was_asked_for(serve, tmp_path: Path) -> None:
    """2.3 GB were written in eight seconds, and on until the disk was full."""
    assert "does not end after 3000000 bytes" in refusal(serve(endless), tmp_path / "f", most=3_000_000)
    assert "has 1000000000000000 bytes" in refusal(serve(claiming("1000000000000000")), tmp_path / "f")


@pytest.mark.parametrize("length", ["abc", "-5", "200"])
def test_lengths_that_are_none(serve, length: str, tmp_path: Path) -> None:
    assert "cannot download" in refusal(serve(claiming(length)), tmp_path / "f")


@pytest.mark.parametrize("place", ["http://[::1", "ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x"])
def test_redirects_that_are_not_followed(serve, place: str, tmp_path: Path) -> None:
    refusal(serve(leading_to(place)), tmp_path / "f")


@pytest.mark.parametrize("url", ["notaurl", "http://[::1/x", "http://", "http:///x", "http://a b/c"])
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    refusal(url, tmp_path / "f")


def test_a_server_that_drips_is_given_up(serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    assert "seconds" in refusal(serve(dripping), tmp_path / "f")


def test_what_a_server_says_is_a_short_line(serve, tmp_path: Path) -> None:
    assert "\\x1b" in refusal(serve(rude), tmp_path / "f")


def test_a_password_is_used_and_not_said(serve, tmp_path: Path) -> None:
    url = serve(asking)
    with pytest.raises(Refused, match="401"):
        download(url, tmp_path / "f")
    named = url.replace("http://", "http://ann:secret@")
    download(named, tmp_path / "f")
    assert (tmp_path / "f").is_file()
    (tmp_path / "f").unlink()
    wrong = url.replace("http://", "http://ann:wrong@")
    assert "wrong" not in refusal(wrong, tmp_path / "f")
    assert without_password(named) == url
