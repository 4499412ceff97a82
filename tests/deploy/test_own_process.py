"""Measuring in a process of its own, which ends with the one that waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ENDLESS = """
import os, time
from collections import namedtuple
from convnext.deploy.own_process import answer_job

Job = namedtuple("Job", ["threads"])

def measure(job, folder):
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    answer_job(Job, measure)
"""
WAITS = """
import signal
import sys
from pathlib import Path
import endless
from convnext.deploy.own_process import run_apart
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored
run_apart("endless", endless.Job(1), Path(sys.argv[1]), 1)
"""


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # which nobody may have asked about
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_the_process_that_waits(number: signal.Signals, tmp_path: Path) -> None:
    """It went on computing, which a benchmark begun anew would have measured."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    waiting = subprocess.Popen([sys.executable, "-c", WAITS, tmp_path], env={**os.environ, "PYTHONPATH": path})
    noted = tmp_path / "pid"
    wait_until(lambda: noted.is_file() and bool(noted.read_text()))
    measuring = int(noted.read_text())
    try:
        assert not has_ended(measuring)
        waiting.send_signal(number)
        assert waiting.wait(30) == -number
        wait_until(lambda: has_ended(measuring), 20)
    finally:
        waiting.kill()
        waiting.wait()
        if not has_ended(measuring):
            os.kill(measuring, signal.SIGKILL)
