"""Servers that mislead: each ends in a line, and nothing of theirs is kept."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.request import Request

import pytest

from convnext.errors import InputError
from convnext.printing import without_password
from convnext.storage import download as module
from convnext.storage.download import Refused, download


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


def dripping_after(start: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + start)
        for _ in range(200):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)

    return answer


def rude(request: BaseHTTPRequestHandler) -> None:
    request.send_response(404, "\x1b[2J" + "no " * 500)
    request.end_headers()


def asking(request: BaseHTTPRequestHandler) -> None:
    expected = "Basic " + base64.b64encode(b"ann:se@cret").decode()
    request.send_response(200 if request.headers.get("Authorization") == expected else 401)
    request.end_headers()


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


@pytest.mark.parametrize(
    "start",
    [b"\r\n", b"\r\n" + bytes(1 << 20), b"X: ", b"Transfer-Encoding: chunked\r\n\r\n1;"],
    ids=["content", "end", "header", "chunk"],
)
def test_a_server_that_drips_is_given_up(serve, start: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a fast start it was not, nor in a header."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    began = time.monotonic()
    assert "bytes came in" in refusal(serve(dripping_after(start)), tmp_path / "f")
    assert time.monotonic() - began < 5


def test_a_slow_transfer_that_is_fast_enough_is_not(serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(20):
            request.wfile.write(bytes(1000))
            time.sleep(0.05)

    monkeypatch.setattr(module, "PATIENCE", 0.2)
    download(serve(slow), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size == 20_000


@pytest.mark.parametrize(("url", "followed"), [("http://a/y", False), ("https://b/y", True), ("ftp://a/y", False)])
def test_from_https_redirects_lead_to_https_alone(url: str, followed: bool) -> None:
    def redirect() -> Request | None:
        return module._Redirects().redirect_request(Request("https://a/x"), io.BytesIO(), 302, "", {}, url)

    if followed:
        assert redirect().full_url == url
    else:
        with pytest.raises(Refused, match="is not followed"):
            redirect()


def test_a_long_redirect_is_a_short_line(serve, tmp_path: Path) -> None:
    refusal(serve(leading_to("ftp://" + "a" * 5000)), tmp_path / "f")


def test_what_a_check_refuses_is_not_kept(serve, tmp_path: Path) -> None:
    def check(part: Path) -> None:
        assert not (tmp_path / "f").exists()
        raise Refused(f"{part.stat().st_size} bytes are wrong")

    with pytest.raises(Refused, match="100 bytes are wrong"):
        download(serve(claiming("100")), tmp_path / "f", check=check)
    assert not list(tmp_path.iterdir())


def test_what_a_server_says_is_a_short_line(serve, tmp_path: Path) -> None:
    assert "\\x1b" in refusal(serve(rude), tmp_path / "f")


def test_a_password_is_used_and_not_said(serve, tmp_path: Path) -> None:
    url = serve(asking)
    with pytest.raises(Refused, match="401"):
        download(url, tmp_path / "f")
    named = url.replace("http://", "http://ann:se%40cret@")
    download(named, tmp_path / "f")
    assert (tmp_path / "f").is_file()
    (tmp_path / "f").unlink()
    wrong = url.replace("http://", "http://ann:wrong@")
    assert "wrong" not in refusal(wrong, tmp_path / "f")
    assert without_password(named) == url
    assert without_password("http://ann:secret@[::1/x") == "http://[::1/x"
    assert without_password("http://a/b@c?d@e") == "http://a/b@c?d@e"
