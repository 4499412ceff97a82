"""Bodies that are damaged or made up: each is answered by a status of the client's fault, or by 200, and memory stays
bounded. 2,000 of them; `make fuzz` sends 100,000, and prints the counts."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from serving import Server, png_header

COUNT = 100 * int(os.environ.get("CONVNEXT_FUZZ", "20"))
"""`make fuzz` sets 1,000."""
MOST = 2**30
"""Bytes by which all processes may grow."""
LARGE = 100 * 2**20


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Sound images of many kinds."""
    rng, found = np.random.default_rng(0), []
    picture = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        for shown in (picture, picture.convert("L")):
            file = io.BytesIO()
            shown.save(file, format=kind)
            found.append(file.getvalue())
    return found


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The file cut short, with bytes changed, doubled, left out or put in."""
    spoiled = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        at = rng.randrange(max(1, len(spoiled)))
        match rng.randrange(5):
            case 0:
                del spoiled[at:]
            case 1:
                spoiled[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                spoiled[at:at] = spoiled[at : at + rng.randrange(64)]
            case 3:
                del spoiled[at : at + rng.randrange(64)]
            case 4:
                spoiled[at:at] = rng.randbytes(rng.randrange(64))
    return bytes(spoiled)


def made_up(number: int, files: list[bytes]) -> dict[str, Any]:
    """A request by its number, as keywords of `httpx.Client.post`."""
    rng = random.Random(number)
    content = damaged(rng.choice(files), rng)
    if rng.random() < 0.1:
        content = png_header(rng.choice([1, 10**4, 2**31 - 1]), rng.choice([1, 10**5, 2**31 - 1]))
    if rng.random() < 0.1:
        content = rng.randbytes(rng.randrange(3000))
    params = rng.choice([{}, {}, {}, {"top_k": rng.choice(["1", "x", "-1", "99999999999"])}, {"threshold": "2"}])
    match rng.randrange(8):
        case 0 | 1 | 2 | 3:
            kind = rng.choice(["image/png", "application/octet-stream", "text/html", 'a/b; c="', "\x7f"])
            return {"content": content, "headers": {"Content-Type": kind}, "params": params}
        case 4:
            form = {"files": [("image", ("x", content))] * rng.choice([1, 2, 100]), "params": params}
            return form
        case 5:
            form = httpx.Request("POST", "http://x", files={"image": ("x", content)})
            spoiled = damaged(form.read(), rng)
            return {"content": spoiled, "headers": {"Content-Type": form.headers["content-type"]}}
        case 6:
            text = json.dumps({"image": base64.b64encode(content).decode()}).encode()
            return {"content": damaged(text, rng), "headers": {"Content-Type": "application/json"}}
        case _:
            odd = rng.choice([None, 3, [], {}, "x" * 5000, [[[]]], "\ud800", 1e308, -1, True])
            value = {rng.choice(["image", "images", "top_k", "model", "threshold", "label", "x"]): odd}
            return {"content": json.dumps(value).encode(), "headers": {"Content-Type": "application/json"}}


def test_no_body_is_the_servers_fault(run: Path, files: list[bytes]) -> None:
    with Server(run, "--workers", 2, "--device", "cpu") as server:
        server.wait_for_workers(2)
        path = "/v1/predict"
        assert server.post(path, files[0]).status_code == 200
        workers = server.workers()
        before, counts, busy = memory(server), Counter[int](), Counter[int]()

        def ask(number: int) -> int:
            """The status that a body is answered by, sent anew for as long as the server is busy with others."""
            while True:
                answer = server.client.post(path, **made_up(number, files))
                assert answer.status_code == 200 or answer.json().keys() == {"error"}
                if not (answer.status_code == 503 and "the server is busy" in answer.text):
                    return answer.status_code
                busy[number] += 1
                time.sleep(float(answer.headers["Retry-After"]))

        with ThreadPoolExecutor(8) as pool:
            for number, status in enumerate(pool.map(ask, range(COUNT))):
                counts[status] += 1
                assert status == 200 or 400 <= status < 500, (number, status)
        for body in (bytes(LARGE), endless()):
            try:
                counts[server.client.post(path, content=body).status_code] += 1
            except httpx.TransportError:  # closed while a body of unknown length still came
                counts[413] += 1
        print(f"\n{sum(counts.values()):,} bodies: {dict(sorted(counts.items()))}; busy: {busy.total()}")
        assert counts[413] >= 2
        assert memory(server) - before < MOST
        assert server.workers() == workers
        assert server.post(path, files[0]).status_code == 200
        assert server.stop() == 0


def endless() -> Iterator[bytes]:
    for _ in range(LARGE // 2**20):
        yield bytes(2**20)


def memory(server: Server) -> int:
    """Bytes of the server and its workers."""
    return sum(
        psutil.Process(pid).memory_info().rss for pid in [server.process.pid, *(w.pid for w in server.workers())]
    )
