"""Parts of the server by themselves: messages to a worker, its cores, and the figures that are counted."""

from __future__ import annotations

import asyncio
import io

import pytest

from convnext.deploy.serve import worker
from convnext.deploy.serve.frames import Frame, pack_frame, read_frame, receive_frame
from convnext.deploy.serve.metrics import Metrics

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
