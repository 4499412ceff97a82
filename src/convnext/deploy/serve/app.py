"""The routes: what is asked, of which model, and how it is answered."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convnext.deploy.serve.bodies import Held, Question, question_of, read_body
from convnext.deploy.serve.limits import Limits, Refusal
from convnext.deploy.serve.logs import LOG_FIELDS
from convnext.deploy.serve.metrics import Metrics
from convnext.deploy.serve.openapi import openapi_document
from convnext.deploy.serve.waiting import ImageJob, WaitingJobs
from convnext.errors import nearest
from convnext.printing import quoted, to_json

log = logging.getLogger("convnext.serve")

OPEN = ("/", "/health", "/ready", "/openapi.json")
"""Routes that ask for no token."""
DETAILS = ("labels", "thresholds")
"""Facts with an item for each class, which the list of models leaves out."""


@dataclass(frozen=True)
class Service:
    """All that the routes need.

    Args:
        jobs: the queue.
        facts: what each model says of itself, by name.
        cards: files of model cards, by the model's name.
        samples: files of images that the page offers.
        limits: of requests.
        metrics: where requests are counted.
        token: what clients must show; None: nothing.
        framed_by: origin of a site that may show the page in a frame; None: no site.
    """

    jobs: WaitingJobs
    facts: Mapping[str, Mapping[str, Any]]
    cards: Mapping[str, Path]
    samples: list[Path]
    limits: Limits
    metrics: Metrics
    token: str | None
    framed_by: str | None
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", Held(self.limits.held))

    async def predict(self, request: Request) -> Response:
        """`POST /v1/predict`."""
        return await self._computed(request, "predict")

    async def embed(self, request: Request) -> Response:
        """`POST /v1/embed`."""
        return await self._computed(request, "embed")

    async def explain(self, request: Request) -> Response:
        """`POST /v1/explain`."""
        return await self._computed(request, "explain")

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return json_response({"models": [self._described(name) for name in self.facts]})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/{name}`, with the classes' names, and a detector's least scores of them."""
        name = self._known(request.path_params["name"])
        return json_response({**self._described(name), **{each: self.facts[name][each] for each in DETAILS}})

    async def card(self, request: Request) -> Response:
        """`GET /v1/models/{name}/card`, as text."""
        name = self._known(request.path_params["name"])
        if name not in self.cards:
            raise Refusal(404, f"the model {quoted(name)} has no card")
        return Response(self.cards[name].read_bytes(), media_type="text/plain; charset=utf-8")

    async def sample_list(self, request: Request) -> Response:
        """`GET /v1/samples`."""
        return json_response({"samples": [path.name for path in self.samples]})

    async def sample(self, request: Request) -> Response:
        """`GET /v1/samples/{number}`, from 0."""
        number = request.path_params["number"]
        if number >= len(self.samples):
            raise Refusal(404, f"there are {len(self.samples)} samples")
        return Response(self.samples[number].read_bytes(), media_type="application/octet-stream")

    async def health(self, request: Request) -> Response:
        """`GET /health`: the front process answers."""
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """`GET /ready`: there is a worker that takes requests."""
        self.jobs.check_workers()
        return json_response({"status": "ready", "workers": self.jobs.workers})

    async def metrics_text(self, request: Request) -> Response:
        """`GET /metrics`."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`."""
        return json_response(openapi_document(list(self.facts), needs_token=self.token is not None))

    async def page(self, request: Request) -> Response:
        """`GET /`."""
        content = files("convnext.deploy.serve").joinpath("page/index.html").read_bytes()
        return Response(content, media_type="text/html; charset=utf-8", headers=page_headers(self.framed_by))

    def _described(self, name: str) -> dict[str, Any]:
        own = {key: value for key, value in self.facts[name].items() if key not in DETAILS}
        return {"name": name, **own, "card": name in self.cards}

    def _known(self, name: str) -> str:
        if name not in self.facts:
            raise Refusal(404, f"there is no model {quoted(name)}; {nearest(name, list(self.facts))}")
        return name

    async def _computed(self, request: Request, kind: str) -> Response:
        """The answer of a model about a request's images."""
        self.jobs.check()  # before the body is read
        body = await read_body(request, self.limits, self.held)
        try:
            question = await question_of(request, body, self.limits)
            model, options = self._asked(question, kind)
            if kind == "explain" and len(question.images) > 1:
                raise Refusal(400, "one image at a time is explained")
            start = time.perf_counter()
            jobs = [ImageJob(kind, model, options, image) for image in question.images]
            await self.jobs.put(jobs)
            request.state.asked = {"model": model, "images": len(jobs), "bytes": len(body)}
            try:
                await _answered(jobs, request)
            finally:
                for job in jobs:
                    job.done.cancel()
                self.jobs.forget_abandoned()
        finally:
            self.held.drop(len(body))
        for number, job in enumerate(jobs, 1):
            status, content = job.done.result()
            if status != 200:
                where = f"image {number}: " if len(jobs) > 1 else ""
                raise Refusal(status, where + content.decode(), 1 if status == 503 else None)
        head = {
            "model": model,
            "milliseconds": round(1e3 * (time.perf_counter() - start), 3),
        }
        contents = b", ".join(job.done.result().content for job in jobs)
        name = {"predict": "answers", "embed": "embeddings", "explain": "explanations"}[kind]
        return Response(_with_list(head, name, contents), media_type="application/json")

    def _asked(self, question: Question, kind: str) -> tuple[str, dict[str, Any]]:
        """The model that a request names, or the only one, and the options for it."""
        options = dict(question.options)
        if "model" not in options and len(self.facts) > 1:
            raise Refusal(400, f"say which model: {', '.join(self.facts)}")
        name = self._known(options.pop("model", next(iter(self.facts))))
        facts = self.facts[name]
        if kind not in facts["answers"]:
            raise Refusal(400, f"the model {quoted(name)} does not {kind}: it can {' and '.join(facts['answers'])}")
        taken = {"predict": facts["options"], "explain": ["label"]}.get(kind, [])
        for option in options.keys() - set(taken):
            raise Refusal(400, f"{option} is not for this: {', '.join(taken) or 'no option'} would be")
        return name, options


def _with_list(head: dict[str, Any], name: str, contents: bytes) -> bytes:
    """A JSON object with a list of what is JSON already."""
    return json.dumps(head).encode()[:-1] + b', "' + name.encode() + b'": [' + contents + b"]}"


async def _answered(jobs: list[ImageJob], request: Request) -> None:
    """Until all jobs are done. `ClientDisconnect` where the client has gone."""
    gone = asyncio.create_task(_disconnected(request))
    try:
        waiting: set[asyncio.Future[Any]] = {job.done for job in jobs}
        while waiting:
            done, _ = await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone in done:
                raise ClientDisconnect
            waiting -= done
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(service: Service) -> Starlette:
    """The application."""
    own = service
    routes = [
        Route("/", own.page),
        Route("/health", own.health),
        Route("/ready", own.ready),
        Route("/metrics", own.metrics_text),
        Route("/openapi.json", own.openapi),
        Route("/v1/models", own.models),
        Route("/v1/models/{name}", own.model),
        Route("/v1/models/{name}/card", own.card),
        Route("/v1/samples", own.sample_list),
        Route("/v1/samples/{number:int}", own.sample),
        Route("/v1/predict", own.predict, methods=["POST"]),
        Route("/v1/embed", own.embed, methods=["POST"]),
        Route("/v1/explain", own.explain, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {Refusal: refused, HTTPException: not_there}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.add_middleware(Guard, service=service)
    return app


def page_headers(framed_by: str | None) -> dict[str, str]:
    """Headers of the page, by which a browser asks nobody else for anything, and shows it in a frame of that site
    alone."""
    return {
        "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors " + (framed_by or "'none'"),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
    }


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as one line of JSON, in ASCII: names of classes may be what no encoding takes."""
    return Response(to_json(value), status, headers, "application/json")


def refused(request: Request, error: Refusal) -> Response:
    """A refusal as one line of JSON."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 408:
        headers["Connection"] = "close"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response({"error": error.message}, error.status, headers)


def not_there(request: Request, error: HTTPException) -> Response:
    """A path or method that there is not, as one line of JSON."""
    return json_response({"error": error.detail.lower()}, error.status_code, error.headers)


def failed(request: Request) -> Response:
    """The answer where a fault is ours; what it is stands in the log."""
    return json_response({"error": "the server failed on this request"}, 500)


class Guard:
    """Middleware that asks for the token, and counts and logs each request.

    Args:
        app: the application inside.
        service: of the routes.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 499  # as others call a client that has gone
        state = scope.setdefault("state", {})

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if scope["path"] not in OPEN and not self._may(scope):
                await refused(Request(scope), Refusal(401, "this needs a token"))(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:  # the server stops, and the time that requests had for it is over
            if status == 499:
                await refused(Request(scope), Refusal(503, "the server stops", 1))(scope, receive, watched)
        except Exception:  # a fault of ours, which ends this request alone
            log.exception("a request failed")
            if status != 499:  # the answer has begun
                raise
            await failed(Request(scope))(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - start
            route = scope["route"].path if "route" in scope else "other"
            self.service.metrics.answered(route, status, seconds)
            client = scope.get("client") or ("",)
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "milliseconds": round(1e3 * seconds, 3),
                "client": client[0],
                **state.get("asked", {}),
            }
            log.info("request", extra={LOG_FIELDS: fields})

    def _may(self, scope: Scope) -> bool:
        token = self.service.token
        shown = dict(scope["headers"]).get(b"authorization", b"")
        return token is None or hmac.compare_digest(shown, b"Bearer " + token.encode())
