"""The queue: what leaves it together, what it refuses, what it loses not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import ANY

import pytest

from convnext.deploy.serve.app import Service, create_app
from convnext.deploy.serve.limits import LONGEST_WAIT, Limits, Refusal
from convnext.deploy.serve.metrics import Metrics
from convnext.deploy.serve.waiting import ImageJob, WaitingJobs


def within_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def queue(most: int = 8, max_batch: int = 3, max_wait: float = 0.02, **together: bool) -> WaitingJobs:
    made = WaitingJobs(most, max_batch, max_wait)
    made.workers, made.together = 1, {"a": True, "b": True, **together}
    return made


def job(name: str = "a", kind: str = "predict", **options: Any) -> ImageJob:
    return ImageJob(kind, name, options, b"")


@within_a_loop
async def test_jobs_of_one_kind_leave_together_in_their_order() -> None:
    jobs = queue()
    put = [job(), job("b"), job(), job(top_k=1), job(), job(), job(kind="embed")]
    await jobs.put(put)
    batches = [await jobs.take() for _ in range(5)]
    assert batches == [[put[0], put[2], put[4]], [put[1]], [put[3]], [put[5]], [put[6]]]
    assert not len(jobs)


@within_a_loop
async def test_a_model_that_computes_one_by_one_gets_one_at_once() -> None:
    jobs = queue(max_wait=100, a=False)
    put = [job(), job()]
    await jobs.put(put)
    assert [await jobs.take(), await jobs.take()] == [[put[0]], [put[1]]]


@within_a_loop
async def test_a_batch_waits_for_more_and_not_for_ever() -> None:
    jobs = queue(max_wait=0.2)
    first, second = job(), job()
    await jobs.put([first])
    taking = asyncio.create_task(jobs.take())
    await asyncio.sleep(0.01)
    assert not taking.done()
    await jobs.put([second])
    assert await taking == [first, second]


@within_a_loop
async def test_a_request_is_taken_whole_or_not_at_all() -> None:
    jobs = queue(most=4)
    await jobs.put([job() for _ in range(3)])
    with pytest.raises(Refusal) as caught:
        await jobs.put([job(), job()])
    assert (caught.value.status, caught.value.retry_after, len(jobs)) == (503, 1, 3)
    await jobs.put([job()])


@within_a_loop
async def test_what_would_wait_too_long_is_refused() -> None:
    jobs = queue(most=10**6)
    jobs.measured(4, 4 * LONGEST_WAIT)
    await jobs.put([job()])
    await jobs.put([job()])
    with pytest.raises(Refusal) as caught:
        await jobs.put([job()])
    assert caught.value.retry_after == 2 * LONGEST_WAIT
    jobs.workers = 2
    await jobs.put([job()])
    jobs.workers = 0
    with pytest.raises(Refusal, match="no worker is ready"):
        jobs.check()


@within_a_loop
async def test_no_job_is_lost_where_taking_is_given_up() -> None:
    jobs = queue()
    for _ in range(20):
        taking = asyncio.create_task(jobs.take())
        await asyncio.sleep(0)
        put = job()
        await jobs.put([put])
        await asyncio.sleep(0)
        taking.cancel()
        try:
            found = await taking
        except asyncio.CancelledError:
            found = await jobs.take()
        assert found == [put]
    await jobs.put_back([put])
    assert await jobs.take() == [put]


@within_a_loop
async def test_jobs_whose_clients_have_gone_are_not_computed() -> None:
    jobs = queue()
    put = [job(), job(), job(), job()]
    await jobs.put(put)
    put[0].done.cancel()
    put[2].done.cancel()
    assert await jobs.take() == [put[1], put[3]]


@within_a_loop
async def test_jobs_whose_clients_have_gone_make_room() -> None:
    """Behind jobs that wait too, and while no worker takes any."""
    jobs = queue(most=3)
    put = [job(), job(), job()]
    await jobs.put(put)
    put[1].done.cancel()
    put[2].done.cancel()
    jobs.forget_abandoned()
    assert len(jobs) == 1
    last = job()
    await jobs.put([last, job()])
    assert await jobs.take() == [put[0], last, ANY]


@within_a_loop
async def test_images_of_clients_that_have_gone_are_not_kept() -> None:
    """While the only worker is busy; 300 clients send an image and leave, and the next one is taken."""
    jobs = WaitingJobs(most=256, max_batch=1, max_wait=0)
    jobs.workers = 1
    facts = {"m": {"answers": ["predict"], "options": [], "labels": [], "thresholds": []}}
    limits = Limits(body=2**20, pixels=10**6, images=8, seconds=30, queue=256)
    app = create_app(Service(jobs, facts, {}, [], limits, Metrics(lambda: len(jobs), lambda: 1), None, None))
    head = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "root_path": ""}
    head |= {"headers": [(b"content-type", b"image/png")]}
    waiting = []

    async def ask_and_leave() -> None:
        messages = iter([{"type": "http.request", "body": b"image"}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            message = next(messages)
            if message["type"] == "http.disconnect":
                waiting.append(len(jobs))
            return message

        async def send(message: Any) -> None: ...

        await app(dict(head), receive, send)

    for _ in range(300):
        await ask_and_leave()
    assert waiting == [1] * 300
    assert not len(jobs)
