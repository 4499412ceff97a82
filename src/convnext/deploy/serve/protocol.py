"""http, with limits on what uvicorn leaves open: headers that do not end or come slowly, and answers nobody takes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convnext.deploy.serve.limits import HEADER_BYTES
from convnext.printing import to_json


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is cut where its client does not send a whole header, or take an answer, in `seconds`."""

    seconds: float
    _header: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._header, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self.parser is not None:
            self._watch()

    def send_400_response(self, msg: str) -> None:
        content = to_json({"error": msg}).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + content)
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _drains(self) -> bool:
        """Whether the rest of a refused body comes: many clients read no answer before they have sent all."""
        return self.cycle is not None and self.cycle.more_body

    def _watch(self) -> None:
        """Give the next header its time, from its first byte on."""
        if self.cycle is not None and not self.cycle.response_complete:  # a request is being answered
            self._received = 0
            if self._header is not None:
                self._header.cancel()
                self._header = None
        elif self._received > HEADER_BYTES and not self._drains():
            self.transport.abort()
        elif self._header is None:
            self._header = self.loop.call_later(self.seconds, self.transport.abort)
