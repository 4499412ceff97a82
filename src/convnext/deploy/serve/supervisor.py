"""Worker processes: started, fed, watched, started again."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from convnext.cores import usable_cores
from convnext.deploy.serve.frames import Frame, pack_frame, receive_frame
from convnext.deploy.serve.limits import Limits
from convnext.deploy.serve.logs import LOG_FIELDS
from convnext.deploy.serve.metrics import Metrics
from convnext.deploy.serve.waiting import ImageJob, WaitingJobs
from convnext.errors import InputError

log = logging.getLogger("convnext.serve")

MOST_DEFAULT_WORKERS = 4
"""Each holds its own copy of the models."""
LONGEST_PAUSE = 10.0
"""Seconds before a worker that fails again and again is started again, at most."""
STEADY = 30.0
"""Seconds after which a worker that fails has not failed at once."""
ENDING = 1.0
"""Seconds that a worker has to end by itself."""


class Supervisor:
    """Workers that take jobs from a queue.

    Args:
        models: sources by name.
        workers: how many processes; None: one a core, `MOST_DEFAULT_WORKERS` at most, and one on an accelerator.
        how: keywords of `load`.
        jobs: the queue.
        limits: of the server.
        metrics: where what happens is counted.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        workers: int | None,
        how: Mapping[str, Any],
        jobs: WaitingJobs,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.models, self.how, self.is_chosen = models, how, workers is not None
        self.workers = workers or min(len(usable_cores()), MOST_DEFAULT_WORKERS)
        self.jobs, self.limits, self.metrics = jobs, limits, metrics
        self.facts: dict[str, dict[str, Any]] = {}
        """Facts of each model, by its name."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers; returns when the first one is ready. `InputError` for a model that cannot be loaded."""
        try:
            first = await self._started(0)
        except (EOFError, OSError):
            raise InputError("a worker ended while it loaded the models") from None
        if not self.is_chosen and any(model["device"] != "cpu" for model in self.facts.values()):
            self.workers = 1
        for number in range(self.workers):
            self._tasks.append(asyncio.create_task(self._keep(number, first if number == 0 else None)))

    async def stop(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _started(self, number: int) -> asyncio.subprocess.Process:
        """A worker that is ready. `InputError` with what is wrong, `EOFError` if it dies."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "convnext.deploy.serve.worker"),  # no module of the folder we stand in
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        try:
            setup = {
                "models": dict(self.models),
                "how": dict(self.how),
                "pixels": self.limits.pixels,
                "number": number,
                "workers": self.workers,
            }
            header = (await _exchange(process, setup)).header
            if "error" in header:
                raise InputError(header["error"])
        except BaseException:  # a cancelled task too: the process must not outlive it
            await _end(process)
            raise
        self.facts = {model.pop("name"): model for model in header["models"]}
        self.jobs.together = {name: model.pop("together") for name, model in self.facts.items()}
        return process

    async def _keep(self, number: int, process: asyncio.subprocess.Process | None) -> None:
        """Have a worker running, whatever happens to it."""
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                if process is None:
                    process = await self._started(number)
                self.jobs.workers += 1
                log.info("worker ready", extra={LOG_FIELDS: {"worker": number, "worker_process": process.pid}})
                try:
                    await self._feed(process)
                finally:
                    self.jobs.workers -= 1
                    await _end(process)
                reason = f"exit status {process.returncode}"
            except (InputError, EOFError, OSError) as error:
                reason = str(error) or type(error).__name__
            process = None
            pause = 0.1 if time.monotonic() - began > STEADY else min(2 * pause, LONGEST_PAUSE)
            self.metrics.restarts.inc()
            log.error("worker lost", extra={LOG_FIELDS: {"worker": number, "reason": reason, "again_in": pause}})
            await asyncio.sleep(pause)

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        """Give a worker batch after batch, until it ends or takes too long."""
        ended = asyncio.create_task(process.wait())
        try:
            while True:
                taking = asyncio.create_task(self.jobs.take())
                try:
                    await asyncio.wait({taking, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    taking.cancel()
                if ended.done():
                    with suppress(asyncio.CancelledError):  # it took nothing before it was cancelled
                        await self.jobs.put_back(await taking)
                    return
                batch = await taking
                try:
                    await self._answer(process, batch)
                except (EOFError, OSError, TimeoutError) as error:
                    late = isinstance(error, TimeoutError)
                    log.error(
                        "batch lost", extra={LOG_FIELDS: {"images": len(batch), "reason": "time" if late else "end"}}
                    )
                    return
                finally:  # also where this task is cancelled
                    for job in batch:
                        job.finish(503, b"the worker that computed this was lost")
        finally:
            ended.cancel()

    async def _answer(self, process: asyncio.subprocess.Process, batch: list[ImageJob]) -> None:
        first = batch[0]
        asked = {"kind": first.kind, "model": first.model, "options": dict(first.options)}
        async with asyncio.timeout(self.limits.seconds):
            header, contents = await _exchange(process, asked, [job.content for job in batch])
        for job, status, content in zip(batch, header["status"], contents, strict=True):
            job.finish(status, content)
        self.jobs.measured(len(batch), header["seconds"])
        self.metrics.computed(first.model, first.kind, len(batch), header["seconds"])


async def _exchange(
    process: asyncio.subprocess.Process, header: dict[str, Any], parts: list[bytes] | None = None
) -> Frame:
    """Send a worker a message, and return its answer. `EOFError` or `OSError` if it ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pack_frame(header, parts or []))
    await process.stdin.drain()
    return await receive_frame(process.stdout)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a worker: by the end of its input, or by force."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(ENDING):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):  # it has ended in the meantime
            process.kill()
        await process.wait()
