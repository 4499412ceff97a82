"""The bounded queue of images that wait for a worker, and the batches that leave it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from convnext.deploy.serve.limits import LONGEST_WAIT, Refusal


class JobResult(NamedTuple):
    """Answer of a worker about an image: a status of HTTP, and JSON; of an error, a line."""

    status: int
    content: bytes


@dataclass(eq=False)
class ImageJob:
    """An image that waits.

    Args:
        kind: what is asked of it: "predict", "embed" or "explain".
        model: name of the model.
        options: of the request.
        content: of the image file.
    """

    kind: str
    model: str
    options: Mapping[str, Any]
    content: bytes
    done: asyncio.Future[JobResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    since: float = field(default_factory=time.monotonic)
    group: tuple[Any, ...] = field(init=False)
    """Key that jobs of one batch have in common."""

    def __post_init__(self) -> None:
        self.group = (self.kind, self.model, tuple(sorted(self.options.items())))

    def finish(self, status: int, content: bytes) -> None:
        """Answer the job, if somebody still waits for it."""
        if not self.done.done():
            self.done.set_result(JobResult(status, content))


class WaitingJobs:
    """Jobs in the order they came.

    Args:
        most: jobs that wait, at most.
        max_batch: jobs of a batch, at most.
        max_wait: seconds that a batch waits to be full.
    """

    def __init__(self, most: int, max_batch: int, max_wait: float) -> None:
        self.most, self.max_batch, self.max_wait = most, max_batch, max_wait
        self.together: dict[str, bool] = {}
        """By name, whether a model computes images together; others' batches are of one image."""
        self.workers = 0
        """Workers that are ready."""
        self.seconds_an_image = 0.0
        self._jobs: deque[ImageJob] = deque()
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def expected_wait(self) -> float:
        """Seconds until a worker takes a job that comes now."""
        return len(self._jobs) * self.seconds_an_image / max(1, self.workers)

    def check(self, count: int = 1) -> None:
        """`Refusal` with 503 if so many more jobs cannot wait here, or would wait for too long."""
        self.check_workers()
        wait = self.expected_wait()
        if len(self._jobs) + count > self.most or wait > LONGEST_WAIT:
            raise Refusal(503, "the server is busy", max(1, math.ceil(wait)))

    def check_workers(self) -> None:
        """`Refusal` with 503 while no worker takes jobs."""
        if not self.workers:
            raise Refusal(503, "no worker is ready", 1)

    async def put(self, jobs: Sequence[ImageJob]) -> None:
        """Add the jobs of a request. `Refusal` as of `check`, and then none of them is added."""
        self.check(len(jobs))
        async with self._changed:
            self._jobs.extend(jobs)
            self._changed.notify_all()

    async def take(self) -> list[ImageJob]:
        """The next batch; waits for it. A job is lost to no call that is cancelled."""
        async with self._changed:
            while True:
                self.forget_abandoned()
                if not self._jobs:
                    await self._changed.wait()
                    continue
                first = self._jobs[0]
                most = self.max_batch if self.together.get(first.model) else 1
                same = (job for job in self._jobs if job.group == first.group and not job.done.done())
                batch = list(islice(same, most))
                left = first.since + self.max_wait - time.monotonic()
                if len(batch) < most and left > 0:
                    with suppress(TimeoutError):  # no more has come, and the batch leaves as it is
                        await asyncio.wait_for(self._changed.wait(), left)
                    continue
                for job in batch:
                    self._jobs.remove(job)
                return batch

    async def put_back(self, jobs: Sequence[ImageJob]) -> None:
        """Add jobs that were taken and not begun, in front of all others."""
        async with self._changed:
            self._jobs.extendleft(reversed(jobs))
            self._changed.notify_all()

    def measured(self, images: int, seconds: float) -> None:
        """Learn how long a worker took for so many images."""
        own = seconds / images
        self.seconds_an_image = own if not self.seconds_an_image else 0.9 * self.seconds_an_image + 0.1 * own

    def forget_abandoned(self) -> None:
        """Drop jobs whose clients have gone, and with them their images."""
        self._jobs = deque(job for job in self._jobs if not job.done.done())
