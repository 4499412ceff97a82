"""Workers that are killed, signals, a front process that dies, more requests than can be answered."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from serving import Server

SIDE = 3000
"""Pixels of an image that takes a worker a second or so to decode and resize."""


@pytest.fixture(scope="module")
def slow_image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("slow") / "x.png"
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, compress_level=1)
    return file.read_bytes()


def started(run: Path, *options: object) -> Server:
    return Server(run, "--device", "cpu", *options)


def test_a_killed_worker_comes_back_and_only_its_requests_fail(run: Path, colours: Path, slow_image: bytes) -> None:
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 2) as server:
        server.wait_for_workers(2)
        expected = server.post("/v1/predict", image).json()["answers"]
        with ThreadPoolExecutor(8) as pool:
            slow = pool.submit(server.post, "/v1/predict", slow_image)
            victim = busiest(server)
            others = [pool.submit(server.post, "/v1/predict", image) for _ in range(6)]
            victim.kill()
            lost = slow.result()
            assert lost.status_code == 503
            assert int(lost.headers["retry-after"]) >= 1
            assert "worker" in lost.json()["error"]
            for other in others:
                assert other.result().status_code == 200, other.result().text
                assert other.result().json()["answers"] == expected
        server.wait_for_workers(2)
        assert victim.pid not in [worker.pid for worker in server.workers()]
        assert server.post("/v1/predict", image).json()["answers"] == expected
        assert "convnext_worker_restarts_total 1.0" in server.client.get("/metrics").text
        assert server.stop() == 0


def busiest(server: Server) -> psutil.Process:
    """The worker that computes."""
    workers, end = server.workers(), time.monotonic() + 20
    before = {worker.pid: sum(worker.cpu_times()[:2]) for worker in workers}
    while time.monotonic() < end:
        for worker in workers:
            if sum(worker.cpu_times()[:2]) > before[worker.pid] + 0.05:
                return worker
        time.sleep(0.01)
    raise AssertionError("no worker computes")


def test_without_a_worker_nothing_is_ready(run: Path, colours: Path) -> None:
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 1) as server:
        (worker,) = server.workers()
        worker.kill()
        end = time.monotonic() + 30
        while server.client.get("/ready").status_code == 200:  # until the server has seen it
            assert time.monotonic() < end
        answer = server.post("/v1/predict", image)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert server.client.get("/health").status_code == 200
        server.wait_for_workers(1)
        assert server.post("/v1/predict", image).status_code == 200


def test_a_worker_that_takes_too_long_is_replaced(run: Path, colours: Path) -> None:
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 1, "--timeout", "5") as server:
        (worker,) = server.workers()
        worker.suspend()
        assert server.post("/v1/predict", image).status_code == 503
        server.wait_for_workers(1)
        assert server.post("/v1/predict", image).status_code == 200
        assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)])
def test_a_signal_under_load_loses_no_request(number: signal.Signals, run: Path, colours: Path) -> None:
    images = [path.read_bytes() for path in sorted((colours / "val").rglob("*.png"))]
    with started(run, "--workers", 2) as server:
        server.wait_for_workers(2)
        workers, count = server.workers(), 40
        sent, answers = threading.Semaphore(0), Counter[int]()

        def ask(place: int) -> None:
            with httpx.Client(trust_env=False, timeout=30) as client:
                content = images[place % len(images)]

                def body():
                    yield content
                    sent.release()

                answers[client.post(f"{server.url}/v1/predict", content=body()).status_code] += 1

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(count)]
        for thread in threads:
            thread.start()
        for _ in range(count):
            sent.acquire()
        time.sleep(0.05)
        server.process.send_signal(number)
        began = time.monotonic()
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 10
        for thread in threads:
            thread.join()
        assert answers == {200: count}
        assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
        with pytest.raises(httpx.TransportError):
            server.client.get("/health")


def test_no_worker_outlives_a_killed_server(run: Path) -> None:
    with started(run, "--workers", 2) as server:
        server.wait_for_workers(2)
        workers = server.workers()
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive


def test_workers_leave_signals_to_the_server(run: Path, colours: Path) -> None:
    """Ctrl-C and a service manager's SIGTERM go to all processes of a group."""
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 1) as server:
        (worker,) = server.workers()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
        assert server.post("/v1/predict", image).status_code == 200
        assert [each.pid for each in server.workers()] == [worker.pid]


def test_what_is_too_much_is_shed(run: Path, colours: Path, slow_image: bytes) -> None:
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 1, "--queue", 8, "--max-mb", 64) as server:
        with ThreadPoolExecutor(32) as pool:
            slow = pool.submit(server.post, "/v1/predict", slow_image)
            busiest(server)
            answers = [found.result() for found in [pool.submit(server.post, "/v1/predict", image) for _ in range(31)]]
        counts = Counter(answer.status_code for answer in answers)
        assert slow.result().status_code == 200
        assert counts.keys() == {200, 503}
        assert counts[200] >= 8
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
        assert all("busy" in answer.json()["error"] for answer in answers if answer.status_code == 503)
        assert server.post("/v1/predict", image).status_code == 200


def test_a_client_that_goes_leaves_nothing_behind(run: Path, colours: Path, slow_image: bytes) -> None:
    image = min((colours / "val").rglob("*.png")).read_bytes()
    with started(run, "--workers", 1, "--max-mb", 64) as server:
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/v1/predict", content=slow_image, timeout=httpx.Timeout(20, read=0.05))
        assert server.post("/v1/predict", image).status_code == 200
        assert "convnext_images_waiting 0.0" in server.client.get("/metrics").text
