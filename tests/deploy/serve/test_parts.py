"""Parts of the server by themselves: messages to a worker, its cores, what is counted, and how a request ends."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from convnext.deploy.serve import worker
from convnext.deploy.serve.app import Guard
from convnext.deploy.serve.bodies import question_of
from convnext.deploy.serve.frames import Frame, pack_frame, read_frame, receive_frame
from convnext.deploy.serve.limits import Limits, Refusal
from convnext.deploy.serve.metrics import Metrics
from convnext.deploy.serve.server import Listener

FRAMES = [
    Frame({"status": 200}, [b"first", b"", b"the third"]),
    Frame({}, []),
    Frame({"words": "größer"}, [b"\x00" * 70_000]),
]


def test_messages_arrive_as_they_were_sent() -> None:
    pipe = io.BytesIO(b"".join(pack_frame(*frame) for frame in FRAMES))
    assert [read_frame(pipe) for _ in FRAMES] == FRAMES
    with pytest.raises(EOFError):
        read_frame(pipe)

    async def received() -> list[Frame]:
        stream = asyncio.StreamReader()
        stream.feed_data(b"".join(pack_frame(*frame) for frame in FRAMES))
        stream.feed_eof()
        found = [await receive_frame(stream) for _ in FRAMES]
        with pytest.raises(EOFError):
            await receive_frame(stream)
        return found

    assert asyncio.run(received()) == FRAMES


@pytest.mark.parametrize("length", [5, 13, 40])
def test_half_a_message_is_none(length: int) -> None:
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(pack_frame(*FRAMES[0])[:length]))


@pytest.mark.parametrize(
    ("workers", "shares"),
    [(1, [[1, 3, 4, 7]]), (2, [[1, 3], [4, 7]]), (3, [[1], [3], [4]]), (6, [[1], [3], [4], [7], [1], [3]])],
)
def test_workers_have_cores_of_their_own(
    workers: int, shares: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many each; more workers than cores take turns."""
    monkeypatch.setattr(worker, "usable_cores", lambda: [1, 3, 4, 7])
    assert [worker.share_of_cores(number, workers) for number in range(workers)] == shares


def test_what_is_counted() -> None:
    metrics = Metrics(waiting=lambda: 5, workers=lambda: 2)
    metrics.answered("/v1/predict", 200, 0.5)
    metrics.answered("/v1/predict", 200, 0.25)
    metrics.answered("/v1/predict", 503, 0.0)
    metrics.computed("cells", "classify", 8, 0.125)
    metrics.computed("cells", "classify", 1, 0.125)
    metrics.restarts.inc()
    lines = metrics.text().decode().splitlines()
    for line in (
        'convnext_requests_total{route="/v1/predict",status="200"} 2.0',
        'convnext_requests_total{route="/v1/predict",status="503"} 1.0',
        'convnext_request_seconds_sum{route="/v1/predict"} 0.75',
        'convnext_images_total{kind="classify",model="cells"} 9.0',
        'convnext_batch_images_count{model="cells"} 2.0',
        'convnext_batch_seconds_sum{model="cells"} 0.25',
        "convnext_worker_restarts_total 1.0",
        "convnext_images_waiting 5.0",
        "convnext_workers_ready 2.0",
    ):
        assert line in lines


def ended(
    error: BaseException | None, *, begun: bool = False, token: str | None = None, shown: str = "", path: str = "/v1/x"
) -> tuple[int | None, bytes, str]:
    """Status and body of the answer to a request that ends so, and the status that is counted."""
    sent: list[dict[str, Any]] = []
    counted: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if error is not None:
            raise error

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    metrics = SimpleNamespace(answered=lambda route, status, seconds: counted.append(f"{route} {status}"))
    guard: Any = Guard(app, SimpleNamespace(metrics=metrics, token=token))  # type: ignore[arg-type]  # a stub
    headers = [(b"authorization", shown.encode())] if shown else []
    asyncio.run(guard({"type": "http", "method": "GET", "path": path, "headers": headers}, None, send))
    (status,) = counted
    start = next((message["status"] for message in sent if message["type"] == "http.response.start"), None)
    return start, b"".join(message.get("body", b"") for message in sent), status


@pytest.mark.parametrize(
    ("error", "begun", "answer", "counted"),
    [
        (asyncio.CancelledError(), False, (503, "the server stops"), "other 503"),
        (asyncio.CancelledError(), True, (200, ""), "other 200"),
        (ZeroDivisionError(), False, (500, "the server failed on this request"), "other 500"),
        (ClientDisconnect(), False, (None, ""), "other 499"),
        (None, True, (200, ""), "other 200"),
    ],
)
def test_every_request_has_one_end(
    error: BaseException | None, begun: bool, answer: tuple[int | None, str], counted: str
) -> None:
    status, body, said = ended(error, begun=begun)
    assert (status, said) == (answer[0], counted)
    assert answer[1] in body.decode()
    assert bool(body) == bool(answer[1])


def test_a_fault_after_the_answer_has_begun_breaks_the_connection() -> None:
    with pytest.raises(ZeroDivisionError):
        ended(ZeroDivisionError(), begun=True)


@pytest.mark.parametrize(
    ("shown", "path", "status"),
    [
        ("", "/v1/x", 401),
        ("Bearer wrong", "/v1/x", 401),
        ("secret", "/v1/x", 401),
        ("Bearer secret", "/v1/x", 200),
        ("", "/health", 200),
    ],
)
def test_a_token_is_asked_for(shown: str, path: str, status: int) -> None:
    """Not by what says that the server lives."""
    assert ended(None, begun=True, token="secret", shown=shown, path=path)[0] == status


@pytest.mark.parametrize(("images", "queue"), [(2, 256), (64, 2)])
def test_more_images_than_can_ever_wait_are_refused_for_good(images: int, queue: int) -> None:
    """A server that calls itself busy would be asked again and again."""
    limits = Limits(body=1000, pixels=1000, images=images, seconds=1, queue=queue)
    scope = {"type": "http", "query_string": b"", "headers": [(b"content-type", b"application/json")]}
    body = b'{"images": ["aGVsbG8=", "aGVsbG8=", "aGVsbG8="]}'
    with pytest.raises(Refusal, match="3 images in a request, the limit is 2") as refusal:
        asyncio.run(question_of(Request(scope), body, limits))
    assert (refusal.value.status, refusal.value.retry_after) == (400, None)


def test_idle_connections_outlive_those_of_load_balancers() -> None:
    """By 60 seconds, the idle time of AWS's and nginx's; uvicorn's own is 5."""
    limits = Limits(body=1000, pixels=1000, images=1, seconds=1, queue=1)
    assert Listener(None, limits).config.timeout_keep_alive > 60
