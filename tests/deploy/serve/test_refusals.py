"""What is refused: one line of JSON with a status of the client's fault, within the limits, and nothing is fetched."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from making import fails
from PIL import Image
from serving import Server, forms_of, png_header
from vacuous import nonempty

from convnext.deploy.serve.server import named_sources
from convnext.errors import InputError

MB = 2**20


@pytest.fixture(scope="module")
def small(run: Path) -> Iterator[Server]:
    """A server with tight limits."""
    limits = ["--max-mb", "1", "--max-megapixels", "1", "--max-images", "3", "--timeout", "2", "--queue", "3"]
    with Server(run, "--workers", 1, "--device", "cpu", *limits) as running:
        yield running


@pytest.fixture(scope="module")
def image(colours: Path) -> bytes:
    return min((colours / "val").rglob("*.png")).read_bytes()


def said(response: httpx.Response, status: int) -> str:
    """The message of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert "\n" not in response.text
    found = response.json()
    assert found.keys() == {"error"}
    return found["error"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"", "image/png", 400, "no image in the request"),
        (b"hello", "image/png", 422, "not an image (looks like text)"),
        (b"<html></html>", "application/octet-stream", 422, "looks like HTML"),
        (b"hello", "text/plain", 415, "send multipart/form-data"),
        (b"image=a", "application/x-www-form-urlencoded", 415, "send multipart/form-data"),
        (b"{", "application/json", 400, "malformed JSON"),
        (b"[" * 100_000, "application/json", 400, "malformed JSON"),
        (b"\xff\xfe", "application/json", 400, "malformed JSON"),
        (b"[]", "application/json", 400, "JSON is an object"),
        (b"{}", "application/json", 400, "no image"),
        (b'{"images": []}', "application/json", 400, "no image"),
        (b'{"images": "x"}', "application/json", 400, "images is a list"),
        (b'{"image": 3}', "application/json", 400, "a text in base64"),
        (b'{"image": "%%%"}', "application/json", 400, "no base64"),
        (b'{"image": "aGVsbG8="}', "application/json", 422, "not an image"),
        (b'{"image": "aGVsbG8=", "colour": 1}', "application/json", 400, "there is no option 'colour'"),
        (b'{"image": "aGVsbG8=", "\\ud800": 1}', "application/json", 400, "there is no option"),
        (b'{"image": "aGVsbG8=", "model": "\\ud800"}', "application/json", 400, "model is a text"),
        (b'{"image": "aGVsbG8=", "top_k": 1.5}', "application/json", 400, "top_k is a whole number"),
        (b'{"image": "aGVsbG8=", "top_k": true}', "application/json", 400, "top_k is a whole number"),
        (b'{"image": "aGVsbG8=", "model": 7}', "application/json", 400, "model is a text"),
        (b'{"image": "aGVsbG8=", "threshold": NaN}', "application/json", 400, "threshold is a number from 0 to 1"),
        (b'{"image": "aGVsbG8=", "threshold": 0.5}', "application/json", 400, "threshold is not for this"),
        (b"x", "multipart/form-data", 400, "malformed form"),
        (b"x", "multipart/form-data; boundary=y", 400, "malformed form"),
        (b"--y\r\n\r\n\r\n--y--", "multipart/form-data; boundary=y", 400, "malformed form"),
        (b"--y--\r\n", "multipart/form-data; boundary=y", 400, "no image"),
    ],
)
def test_bad_bodies(content: bytes, kind: str, status: int, message: str, small: Server) -> None:
    assert message in said(small.post("/v1/predict", content, kind), status)


def test_bad_options(small: Server, image: bytes) -> None:
    for options in ({"top_k": "0"}, {"top_k": "x"}, {"top_k": "-1"}, {"top_k": "1e3"}, {"nope": "1"}, {"label": "red"}):
        said(small.post("/v1/predict", image, **options), 400)
    for options in ({"threshold": "."}, {"threshold": "2"}, {"threshold": "nan"}, {"threshold": ""}):
        assert "from 0 to 1" in said(small.post("/v1/predict", image, **options), 400)
    assert "nearest: colours" in said(small.post("/v1/predict", image, model="coulours"), 404)
    twice = small.client.post("/v1/predict?top_k=1&top_k=2", content=image)
    assert "given twice" in said(twice, 400)
    text = small.client.post("/v1/predict", data={"image": "x"}, files={"other": b"y"})
    assert "send the image as a file" in said(text, 400)


def test_the_image_that_is_wrong_is_named(small: Server, image: bytes) -> None:
    for request in nonempty(forms_of([image, image[:200], image]).values()):
        assert said(small.client.post("/v1/predict", **request), 422).startswith("image 2: ")


def test_paths_and_methods_that_are_not_there(small: Server) -> None:
    assert said(small.client.get("/nothing"), 404) == "not found"
    assert said(small.client.get("/v1/models/x"), 404)
    assert said(small.client.get("/v1/samples/0"), 404)
    answer = small.client.get("/v1/predict")
    assert said(answer, 405)
    assert answer.headers["allow"] == "POST"
    assert small.client.get("/v1/samples/../../etc/passwd").status_code == 404


def test_sizes_are_limited(small: Server, image: bytes) -> None:
    before = time.monotonic()
    assert "larger than 1,048,576 bytes" in said(small.post("/v1/predict", bytes(2 * MB)), 413)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(MB)

    with suppress(httpx.TransportError):  # the server closes while a body of unknown length still comes
        assert small.client.post("/v1/predict", content=endless()).status_code == 413
    assert "4 images in a request, the limit is 3" in said(
        small.client.post("/v1/predict", **forms_of([image] * 4)["json"]), 400
    )
    assert "too many files" in said(small.client.post("/v1/predict", **forms_of([image] * 4)["multipart"]), 400).lower()
    large = io.BytesIO()
    Image.new("1", (1200, 1000)).save(large, format="PNG")
    assert "too large: 1200×1000 pixels, the limit is 1,000,000" in said(
        small.post("/v1/predict", large.getvalue()), 413
    )
    assert "too large: 60000×60000" in said(small.post("/v1/predict", png_header(60_000, 60_000)), 422)  # by any limit
    assert small.post("/v1/predict", image).status_code == 200
    assert time.monotonic() - before < 60


@pytest.mark.parametrize("start", [b"", b"POST /v1/pre", b"POST /v1/predict HTTP/1.1\r\nX: ", b"\r\n"])
def test_a_client_that_dawdles_over_its_header_is_cut(start: bytes, small: Server) -> None:
    with connected(small) as line:
        line.sendall(start)
        assert dripped(line, b"a" if start.endswith(b" ") else b"") == b""


def test_a_client_that_dawdles_over_its_body_is_told(small: Server) -> None:
    with connected(small) as line:
        line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n")
        assert dripped(line, b"x").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told(request_: bytes, small: Server) -> None:
    with connected(small) as line:
        line.sendall(request_)
        head, _, body = line.recv(1000).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body).keys() == {"error"}


def test_a_header_without_an_end_is_cut(small: Server) -> None:
    with connected(small) as line:
        line.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            line.sendall(b"x" * 2**25)


def connected(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=20)


def dripped(line: socket.socket, drop: bytes) -> bytes:
    """What the server says to a client that sends a drop now and then."""
    line.settimeout(0.2)
    for _ in range(100):
        try:
            return line.recv(4096)
        except TimeoutError:
            if drop:
                line.sendall(drop)
        except ConnectionResetError:
            return b""
    raise AssertionError("the server waits for ever")


def test_no_address_of_a_client_is_fetched(small: Server) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_POST = do_GET

    with HTTPServer(("127.0.0.1", 0), Handler) as bait:
        threading.Thread(target=bait.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{bait.server_port}/x.png"
        link = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
        for content, kind in (
            (json.dumps({"image": url}).encode(), "application/json"),
            (json.dumps({"images": [f"data:,{url}"]}).encode(), "application/json"),
            (json.dumps({"url": url, "image": base64.b64encode(url.encode()).decode()}).encode(), "application/json"),
            (url.encode(), "image/png"),
            (link, "image/svg+xml"),
            (url.encode(), "application/octet-stream"),
        ):
            answer = small.post("/v1/predict", content, kind)
            assert 400 <= answer.status_code < 500, answer.text
        assert 400 <= small.client.post("/v1/predict", params={"url": url, "image": url}).status_code < 500
        bait.shutdown()
    assert asked == []
    assert "addresses are not fetched" in said(
        small.post("/v1/predict", json.dumps({"image": url}).encode(), "application/json"), 400
    )


def test_a_token_is_asked_for(run: Path, image: bytes) -> None:
    with Server(run, "--workers", 1, "--device", "cpu", CONVNEXT_TOKEN="s3cret") as running:
        for shown in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Basic s3cret"},
        ):
            for path in ("/v1/models", "/metrics", "/v1/models/colours/card", "/v1/samples", "/none"):
                answer = running.client.get(path, headers=shown)
                assert said(answer, 401) == "this needs a token"
                assert answer.headers["www-authenticate"] == "Bearer"
            said(running.client.post("/v1/predict", content=image, headers=shown), 401)
        right = {"Authorization": "Bearer s3cret"}
        assert running.client.post("/v1/predict", content=image, headers=right).status_code == 200
        for path in ("/health", "/ready", "/", "/openapi.json"):
            assert running.client.get(path).status_code == 200
        assert "security" in running.client.get("/openapi.json").json()
        assert not any("s3cret" in line for line in running.lines())


def test_an_open_server_says_so(run: Path, image: bytes) -> None:
    with Server(f"m={run}", "--workers", 1, "--device", "cpu", "--host", "0.0.0.0") as running:
        running.client.get(f"http://127.0.0.1:{httpx.URL(running.url).port}/health")
        assert any("is open to others, and no token is asked for: set CONVNEXT_TOKEN" in x for x in running.lines())


def test_logs_hold_no_image(small: Server, image: bytes) -> None:
    secret = b"a-secret-inside"
    for content, kind in ((secret, "image/png"), (b'{"image": "' + secret + b'"}', "application/json")):
        small.post("/v1/predict", content, kind)
    form = small.client.post("/v1/predict", files={"image": (secret.decode(), secret)})
    assert form.status_code == 422
    lines = small.lines()
    assert lines
    assert all(json.loads(line)["level"] for line in lines)
    assert not any(secret.decode() in line or base64.b64encode(secret).decode() in line for line in lines)


def test_wrong_commands_are_a_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no such weight file or run directory" in fails(capsys, "serve", tmp_path / "none", "--port", 0)
    assert "would both be called colours" in fails(capsys, "serve", run, run, "--port", 0)
    assert "--workers must be more than 0" in fails(capsys, "serve", run, "--workers", 0)
    assert "--queue must be more than 0 and less than 1000000" in fails(capsys, "serve", run, "--queue", 2_000_000)
    assert "--max-wait-ms must be 0 or more and less than 1000000" in fails(capsys, "serve", run, "--max-wait-ms", 1e9)
    assert "--port must lie between" in fails(capsys, "serve", run, "--port", 70000)
    assert "no such folder" in fails(capsys, "serve", run, "--samples", tmp_path / "none")
    for origin in ("example.org", "https://x.org; script-src *", "https://x.org/page", ""):
        assert "--framed-by takes a site as https://example.org" in fails(capsys, "serve", run, "--framed-by", origin)
    assert "cannot listen on nowhere.invalid" in fails(capsys, "serve", run, "--host", "nowhere.invalid")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in fails(capsys, "serve", run, "--port", port)


def test_names_of_models(tmp_path: Path) -> None:
    (tmp_path / "a.b").mkdir()
    (tmp_path / "c.onnx").touch()
    (tmp_path / "x=y.onnx").touch()
    sources = [str(tmp_path / "a.b"), str(tmp_path / "c.onnx"), "mine=hf:org/model", "hf:org/other", "convnextv2_atto"]
    assert list(named_sources(sources)) == ["a.b", "c", "mine", "other", "convnextv2_atto"]
    assert named_sources(["mine=hf:org/model"]) == {"mine": "hf:org/model"}
    for wrong in (["a=x", "a=y"], ["a b=x"], ["=x"], [str(tmp_path / "x=y.onnx")]):
        with pytest.raises(InputError, match="give NAME="):
            named_sources(wrong)
