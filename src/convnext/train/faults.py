"""What can go wrong while training: being told to stop, and steps whose loss or gradient is not finite."""

from __future__ import annotations

import json
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from convnext.processes import STOP_SIGNALS
from convnext.run import Run


class StopSignal:
    """Inside this context, a signal to stop is kept in `received` instead of ending the process."""

    def __init__(self) -> None:
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            self.before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number


class NonFinite:
    """Counts and records the steps that are skipped; `limit` in a row end the run."""

    def __init__(self, run: Run, limit: int) -> None:
        self.run, self.limit = run, limit
        self.in_a_row = 0

    def record(self, row: dict[str, Any]) -> None:
        """Write down a step whose loss or gradient is not finite, with its images."""
        self.run.append(self.run.nonfinite, json.dumps(row))

    def advice(self) -> str:
        """What to tell who started the run."""
        where = f" (their images are in {self.run.nonfinite})" if self.run.nonfinite.is_file() else ""
        return (
            f"the loss or its gradient was not finite in {self.in_a_row} steps in a row{where}: "
            "lower --base-lr, set --clip-grad 1 or use --precision fp32, which --resume takes"
        )
