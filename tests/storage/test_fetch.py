"""Images by their address: from public machines alone, within a size and a time."""

from __future__ import annotations

import json
import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from answering import Answer

import convnext
from convnext import ImageError, InputError, cli
from convnext.storage import fetch as module
from convnext.storage.fetch import PRIVATE, fetch_public, is_public


@pytest.fixture(autouse=True)
def _private_addresses_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are on this machine."""
    monkeypatch.setenv(PRIVATE, "1")
    monkeypatch.setenv("no_proxy", "*")


def giving(content: bytes, status: int = 200) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def leading_to(place: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", place)
        request.end_headers()

    return answer


def dripping(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b"x" * 1000)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.20.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("::10.0.0.1", False),
    ],
)
def test_which_addresses_are_public(number: str, public: bool) -> None:
    assert is_public(number) == public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
def test_private_addresses_are_not_asked(host: str, serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no spelling; and what allows them is said."""
    url = serve(giving(b"secret")).replace("127.0.0.1", host)
    monkeypatch.delenv(PRIVATE)
    with pytest.raises(InputError) as caught:
        fetch_public(url)
    assert "private network" in str(caught.value) or "cannot be fetched" in str(caught.value)  # no IPv6 here, perhaps


def test_redirects_are_checked_again(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public machine that leads on to a private one: its name stands for a public number at the first look alone."""
    asked: list[str] = []
    inner = serve(lambda request: asked.append(request.path))
    outer = serve(leading_to(inner))
    port = int(outer.rpartition(":")[2].split("/")[0])
    monkeypatch.delenv(PRIVATE)
    monkeypatch.setattr(module, "is_public", lambda number: number == "93.184.215.14")
    looked_up, create = socket.getaddrinfo, socket.create_connection

    def look_up(host: str, *rest: Any, **options: Any) -> Any:
        return looked_up("93.184.215.14" if host == "public.example" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", lambda place, *rest: create(("127.0.0.1", place[1]), *rest))
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is an address of a private network"):
        fetch_public(f"http://public.example:{port}/x.png")
    assert asked == []


def test_a_redirect_that_needs_no_proxy_is_checked(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the proxy itself may be on a private network, not what it leads on to."""
    asked: list[str] = []
    inner = serve(lambda request: asked.append(request.path))
    proxy = serve(leading_to(inner)).removesuffix("/file.png").replace("127.0.0.1", "localhost")
    monkeypatch.delenv(PRIVATE)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is an address of a private network"):
        fetch_public("http://public.example/x.png")
    assert asked == []


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://[::1"])
def test_redirects_to_what_is_no_web_address(place: str, serve) -> None:
    with pytest.raises(InputError):
        fetch_public(serve(leading_to(place)))


def test_redirects_without_end(serve) -> None:
    with pytest.raises(InputError):
        fetch_public(serve(leading_to("/file.png")))


def test_sizes_and_times_are_limited(serve) -> None:
    assert fetch_public(serve(giving(b"x" * 3000)), most=3000) == b"x" * 3000
    with pytest.raises(InputError, match="has more than 2,999 bytes"):
        fetch_public(serve(giving(b"x" * 3000)), most=2999)
    with pytest.raises(InputError, match="has more than 20,000 bytes"):
        fetch_public(serve(dripping), most=20_000)
    began = time.monotonic()
    with pytest.raises(InputError, match="takes too long"):
        fetch_public(serve(dripping), seconds=0.5)
    assert time.monotonic() - began < 5
    with pytest.raises(InputError, match="the server answers 404"):
        fetch_public(serve(giving(b"", 404)))


def test_a_password_is_not_said(serve) -> None:
    with pytest.raises(InputError) as caught:
        fetch_public(serve(giving(b"", 403)).replace("://", "://ann:secret@"))
    assert "secret" not in str(caught.value)


def test_predictors_and_commands_take_addresses(
    serve, run: Path, colours: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = min((colours / "val").rglob("*.png"))
    url, gone = serve(giving(image.read_bytes())), serve(giving(b"", 404))
    predictor: Any = convnext.load(run, device="cpu", backend="torch")
    assert predictor(url) == predictor(image)
    assert predictor([url, image])[0] == predictor([image, image])[0]
    with pytest.raises(ImageError, match="answers 404"):
        predictor(gone)
    assert cli.main(["predict", str(run), url, gone, str(image), "--json", "--backend", "torch"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["image"] for each in found] == [url, gone, str(image)]
    assert "answers 404" in found[1]["error"]
    assert found[0]["labels"] == found[2]["labels"]
    monkeypatch.delenv(PRIVATE)
    assert cli.main(["predict", str(run), url]) == 2
    assert f"{PRIVATE}=1 allows those" in capsys.readouterr().err
