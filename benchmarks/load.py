"""Servers under load: a closed loop of connections that wait for their answers, and an open one at a fixed rate."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CONNECTIONS = 16
BOUNDARY = "x" * 30
WARM_UP = 20
"""Seconds of requests before anything is timed: workers may still be loading."""


class Side:
    """A server that is measured.

    Args:
        name: in the table.
        command: that starts it; `{port}` stands for the port.
        path: that is asked.
        as_form: the image is sent as a form, else as the body.
    """

    def __init__(self, name: str, command: Sequence[str], path: str, *, as_form: bool) -> None:
        self.name, self.command, self.path, self.as_form = name, command, path, as_form

    def body(self, content: bytes) -> bytes:
        """A request's body."""
        if not self.as_form:
            return content
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n'
        return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()

    @property
    def kind(self) -> str:
        """Type of the body."""
        return f"multipart/form-data; boundary={BOUNDARY}" if self.as_form else "image/jpeg"

    @contextmanager
    def running(self, contents: Sequence[bytes]) -> Iterator[tuple[int, psutil.Process]]:
        """Inside, the server's port and process; it has answered some requests."""
        port = free_port()
        command = [word.replace("{port}", str(port)) for word in self.command]
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        family: list[psutil.Process] = []
        try:
            end = time.monotonic() + 300
            while True:
                try:
                    status, _ = asyncio.run(ask_once(port, self, contents[0]))
                    if status == 200:
                        break
                except OSError:
                    pass
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{self.name} does not answer")
                time.sleep(0.2)
            asyncio.run(closed_loop(port, self, contents, 0, WARM_UP))
            family = process.children(recursive=True)
            yield port, process
        finally:
            for each in [process, *family, *process.children(recursive=True)]:  # LitServe's live on without it
                if each.is_running():
                    each.kill()
            process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Connection:
    """A connection that is kept."""

    def __init__(self, port: int, side: Side) -> None:
        self.port, self.side = port, side
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, body: bytes) -> int:
        """Send a request; returns the answer's status. `OSError` or `EOFError` if the connection ends."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        head = f"POST {self.side.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {self.side.kind}\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        await self.reader.readexactly(int(length[1]) if length else 0)
        if b"connection: close" in answer:
            self.close()
        return int(answer[9:12])

    @property
    def ended(self) -> bool:
        """Whether the server has closed it, as it does with one that was idle for seconds."""
        return self.reader is not None and self.reader.at_eof()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def ask_once(port: int, side: Side, content: bytes) -> tuple[int, float]:
    """Status and seconds of a request on a connection of its own."""
    line, start = Connection(port, side), time.perf_counter()
    try:
        return await line.ask(side.body(content)), time.perf_counter() - start
    except EOFError:
        raise ConnectionResetError from None
    finally:
        line.close()


async def closed_loop(port: int, side: Side, contents: Sequence[bytes], count: int, seconds: float) -> float:
    """Requests a second of `CONNECTIONS` that wait for their answers, until so many are sent and so long is over."""
    bodies = [side.body(content) for content in contents]
    sent, start = 0, time.perf_counter()

    async def ask() -> None:
        nonlocal sent
        line = Connection(port, side)
        while sent < count or time.perf_counter() - start < seconds:
            sent += 1
            status = await line.ask(bodies[sent % len(bodies)])
            if status != 200:
                raise SystemExit(f"{side.name} answers {status}")
        line.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return sent / (time.perf_counter() - start)


def throughput(port: int, side: Side, contents: Sequence[bytes], folder: Path, seconds: float) -> tuple[float, float]:
    """Requests a second, and the client's share of all cores."""
    cores = len(os.sched_getaffinity(0))
    if tool := shutil.which("hey"):
        body = folder / "body"
        body.write_bytes(side.body(contents[0]))
        command = [tool, "-z", f"{seconds:g}s", "-c", str(CONNECTIONS), "-m", "POST", "-T", side.kind, "-D", str(body)]
        before = os.times()
        said = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{side.path}"], check=True, capture_output=True, text=True
        ).stdout
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        statuses = re.findall(r"\[(\d+)\]\s+\d+ responses", said)
        if statuses != ["200"]:
            raise SystemExit(f"{side.name} answers {', '.join(statuses)}")
        found = re.search(r"Requests/sec:\s*([\d.]+)", said)
        assert found is not None
        return float(found[1]), used / (seconds * cores)
    before_here = time.process_time()
    rate = asyncio.run(closed_loop(port, side, contents, 0, seconds))
    return rate, (time.process_time() - before_here) / (seconds * cores)


async def open_loop(
    port: int, side: Side, contents: Sequence[bytes], rate: float, seconds: float
) -> list[tuple[int, float]]:
    """Status and seconds, from when it was due, of each request; 0 stands for a connection that was cut."""
    bodies = [side.body(content) for content in contents]
    idle: list[Connection] = []
    found: list[tuple[int, float]] = []
    tasks = set()

    async def ask(number: int, due: float) -> None:
        line = idle.pop() if idle else Connection(port, side)
        if line.ended:  # as every client looks before it sends
            line.close()
        try:
            status = await line.ask(bodies[number % len(bodies)])
            idle.append(line)
        except (OSError, EOFError):
            line.close()
            status = 0
        found.append((status, time.perf_counter() - due))

    start = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(ask(number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for line in idle:
        line.close()
    return found


def memory(process: psutil.Process) -> float:
    """MB of a server's processes."""
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6


def at_rate(
    name: str, port: int, side: Side, process: psutil.Process, contents: Sequence[bytes], rate: float, seconds: float
) -> list[Any]:
    """A row on requests that come at a rate: name, rate, counts of answered, shed and failed ones, percentiles of the
    time in milliseconds, and the memory in MB in the first and the last tenth of the time."""
    samples: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            samples.append(memory(process))

    watching = threading.Thread(target=watch)
    watching.start()
    answers = asyncio.run(open_loop(port, side, contents, rate, seconds))
    over.set()
    watching.join()
    counts = Counter(status for status, _ in answers)
    times = sorted(1e3 * taken for status, taken in answers if status == 200)
    tenth = max(1, len(samples) // 10)
    shares = [times[min(len(times) - 1, len(times) * share // 100)] for share in (50, 95, 99)]
    failed = len(answers) - counts[200] - counts[503]
    kept = [statistics.median(samples[:tenth]), statistics.median(samples[-tenth:])]
    return [name, rate, counts[200], counts[503], failed, *shares, *kept]
