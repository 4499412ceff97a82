"""Servers that tests start as real processes, models for them, and requests of every form."""

from __future__ import annotations

import base64
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import psutil


class Server:
    """A running `convnext serve` on a free port.

    Args:
        words: after the command.
        command: that serves; None: `convnext serve`.
        folder: that it runs in; None: that of this process.
        environment: variables beside those of this process.
    """

    def __init__(
        self, *words: object, command: list[str] | None = None, folder: Path | None = None, **environment: str
    ) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 # until the server ends
        self.process = subprocess.Popen(
            [*(command or [sys.executable, "-m", "convnext", "serve"]), *map(str, words), "--port", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()  # when a worker is ready, or it has ended
        self.url = said.split()[-1] if said else ""
        assert self.url.startswith("http"), self.lines()
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *problem: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()

    def lines(self) -> list[str]:
        """What it wrote to standard error."""
        self.log.seek(0)
        return self.log.read().splitlines()

    def post(self, path: str, content: bytes, kind: str = "application/octet-stream", **options: Any) -> httpx.Response:
        """The answer to a body as it is."""
        return self.client.post(path, content=content, headers={"Content-Type": kind}, params=options)

    def workers(self) -> list[psutil.Process]:
        """The processes that compute."""
        return psutil.Process(self.process.pid).children()

    def wait_for_workers(self, count: int, seconds: float = 120) -> None:
        """Until so many workers are ready."""
        end = time.monotonic() + seconds
        while True:
            found = self.client.get("/ready")
            if found.status_code == 200 and found.json()["workers"] >= count:
                return
            assert time.monotonic() < end, self.lines()
            time.sleep(0.05)

    def stop(self) -> int:
        """Tell it to stop; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def forms_of(images: list[bytes], **options: Any) -> dict[str, dict[str, Any]]:
    """The same request in every form that takes so many images, as keywords of `httpx.Client.post`."""
    encoded = [base64.b64encode(image).decode() for image in images]
    texts = {name: str(value) for name, value in options.items()}
    files = [("image", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]
    forms = {
        "multipart": {"files": files, "data": texts},
        "multipart, options in the address": {"files": files, "params": texts},
        "json": {"json": {"images": encoded, **options}},
    }
    if len(images) == 1:
        forms["json of one"] = {"json": {"image": encoded[0], **options}}
        forms["data address"] = {"json": {"image": f"data:image/png;base64,{encoded[0]}", **options}}
        for kind in ("image/png", "application/octet-stream"):
            forms[kind] = {"content": images[0], "headers": {"Content-Type": kind}, "params": texts}
    return forms


def png_header(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and holds little."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
