"""Limits on what a request may cost, and the refusal of one that would cost more."""

from __future__ import annotations

from dataclasses import dataclass

HEADER_BYTES = 64 * 2**10
"""Bytes of a request before its body, at most."""
LONGEST_WAIT = 5.0
"""Seconds that a request may be expected to wait for a worker; one that would wait longer is shed."""
GRACE = 8.0
"""Seconds that a server which was told to stop gives the requests that it accepted."""


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        body: bytes of a request's body.
        pixels: pixels of an image, by its header, before it is decoded.
        images: images of a request.
        seconds: for a request's headers, for its body, for the computation of its images, and for its answer to be
            taken, each.
        queue: images that wait for a worker.
    """

    body: int
    pixels: int
    images: int
    seconds: float
    queue: int

    @property
    def images_asked(self) -> int:
        """Most images in one request: more than may wait would be shed however often they came."""
        return min(self.images, self.queue)

    @property
    def held(self) -> int:
        """Bytes of all bodies that are held at once."""
        return max(8 * self.body, 2**28)


class Refusal(Exception):
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        message: a line that says what is wrong.
        retry_after: seconds after which the same request may succeed; None where it will not.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after
