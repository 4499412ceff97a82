"""Servers of images and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from answering import Answer, started_servers


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers so; gives its address."""
    with started_servers() as start:
        yield start
