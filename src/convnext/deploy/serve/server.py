"""A server from its start to its end: address, workers, signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn

from convnext.deploy.serve.app import Service, create_app
from convnext.deploy.serve.limits import GRACE, Limits
from convnext.deploy.serve.logs import LOG_FIELDS, log_as_json
from convnext.deploy.serve.metrics import Metrics
from convnext.deploy.serve.protocol import LimitedProtocol
from convnext.deploy.serve.samples import MOST_SAMPLES, samples_in
from convnext.deploy.serve.supervisor import Supervisor
from convnext.deploy.serve.waiting import WaitingJobs
from convnext.errors import InputError
from convnext.printing import complain

log = logging.getLogger("convnext.serve")

TOKEN = "CONVNEXT_TOKEN"
"""Environment variable of the token that clients must show."""
MOST_CONNECTIONS = 512
IDLE = 75
"""Seconds that a connection is kept without a request: longer than load balancers keep theirs, most of them 60, which
else send a request into one that is being closed."""


@dataclass(frozen=True)
class Serving:
    """Settings of a server: its models, address and limits.

    Args:
        models: sources by name.
        host: address that is listened on.
        port: 0 for any that is free.
        workers: processes that compute, as of `Supervisor`.
        max_batch: images that are computed together, at most.
        max_wait: seconds that a batch waits to be full.
        how: keywords of `load`.
        samples: folder of images that the page offers.
        token: what clients must show; None: nothing.
        limits: of requests.
        framed_by: origin of a site that may show the page in a frame; None: no site.
    """

    models: Mapping[str, str]
    host: str
    port: int
    workers: int | None
    max_batch: int
    max_wait: float
    how: Mapping[str, Any]
    samples: Path | None
    token: str | None
    limits: Limits
    framed_by: str | None = None


def serve(serving: Serving) -> None:
    """Answer requests until a signal says to stop; what was accepted by then is answered.

    `InputError` for an address that cannot be listened on, or a model that cannot be loaded.
    """
    samples = samples_of(serving)
    with listening(serving.host, serving.port) as place:
        asyncio.run(_serve(serving, place, samples))


async def _serve(serving: Serving, place: socket.socket, samples: list[Path]) -> None:
    jobs = WaitingJobs(serving.limits.queue, serving.max_batch, serving.max_wait)
    metrics = Metrics(lambda: len(jobs), lambda: jobs.workers)
    supervisor = Supervisor(serving.models, serving.workers, serving.how, jobs, serving.limits, metrics)
    try:
        await supervisor.start()
        log_as_json()
        cards = {name: Path(source) / "README.md" for name, source in serving.models.items()}
        cards = {name: path for name, path in cards.items() if path.is_file()}
        service = Service(
            jobs, supervisor.facts, cards, samples, serving.limits, metrics, serving.token, serving.framed_by
        )
        place.listen(1024)
        port = place.getsockname()[1]
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        print(f"serving {', '.join(serving.models)} at http://{host}:{port}", flush=True)
        if serving.token is None and not is_loopback(serving.host):
            complain(f"{serving.host} is open to others, and no token is asked for: set {TOKEN}")
        await Listener(create_app(service), serving.limits).serve(sockets=[place])
    finally:
        await supervisor.stop()
    log.info("stopped", extra={LOG_FIELDS: {"waiting": len(jobs)}})


class Listener(uvicorn.Server):
    """uvicorn's server, which ends with status 0 where a signal told it to."""

    def __init__(self, app: Any, limits: Limits) -> None:
        protocol = type("Protocol", (LimitedProtocol,), {"seconds": limits.seconds})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=IDLE,
                timeout_graceful_shutdown=int(GRACE),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of an address, that does not accept yet. `InputError` for one that is taken, or no address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', error)}") from None
    with place:
        try:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(address)
            place.setblocking(False)
        except OSError as error:
            raise InputError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
        yield place


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def named_sources(sources: Sequence[str]) -> dict[str, str]:
    """Sources by the names that clients call them: `NAME=SOURCE`, else what a folder, file or model is called.

    `InputError` for a name that two have, or that has no place in an address.
    """
    named: dict[str, str] = {}
    for given in sources:
        name, equals, source = given.partition("=")
        if not equals or Path(given).exists():
            name, source = _name_of(given), given
        if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
            raise InputError(
                f"'{name}' cannot be a model's name: give NAME={source}, of letters, digits, '.', '_', '-'"
            )
        if name in named:
            raise InputError(f"{named[name]} and {source} would both be called {name}: give NAME={source}")
        named[name] = source
    return named


def _name_of(source: str) -> str:
    path = Path(source.removeprefix("hf:"))
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else path.name


def samples_of(serving: Serving) -> list[Path]:
    """Images that the page offers: those of the folder that is named, else of the runs' own `samples`.

    `InputError` for a folder that is not there.
    """
    if serving.samples is not None and not serving.samples.is_dir():
        raise InputError(f"no such folder: {serving.samples}")
    folders = [Path(source) / "samples" for source in serving.models.values()]
    folders = [serving.samples] if serving.samples is not None else folders
    return [path for folder in folders if folder.is_dir() for path in samples_in(folder)][:MOST_SAMPLES]
