"""The OpenAPI document says what the server does: requests are made up from it, and answers held against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server

EXAMPLES = 20 * int(os.environ.get("CONVNEXT_FUZZ", "1"))


@pytest.fixture(scope="module")
def closed(run: Path) -> Iterator[Server]:
    """A server that asks for a token."""
    with Server(run, "--workers", 1, "--device", "cpu", CONVNEXT_TOKEN="s3cret") as running:
        yield running


def test_the_document_is_sound(closed: Server) -> None:
    document = closed.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    routes = set(document["paths"])
    assert {"/v1/predict", "/v1/embed", "/v1/explain", "/v1/models", "/health", "/ready", "/metrics"} <= routes


def test_schemathesis_finds_no_fault(closed: Server, tmp_path: Path) -> None:
    """All its checks but one: bytes that the document allows need not be an image."""
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{closed.url}/openapi.json",
        "--max-examples",
        EXAMPLES,
    ]
    command += ["--header", "Authorization: Bearer s3cret", "--exclude-checks", "positive_data_acceptance"]
    command += ["--phases", "examples,coverage,fuzzing", "--request-timeout", 60, "--seed", 0, "--no-color"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=500)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Test cases|generated", done.stdout)
