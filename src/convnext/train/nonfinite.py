"""Steps whose loss or gradient is not finite."""

from __future__ import annotations

from typing import Any

from convnext.printing import to_json
from convnext.runs.directory import Run


class NonFinite:
    """Counts and records the steps that are skipped; `limit` in a row end the run."""

    def __init__(self, run: Run, limit: int) -> None:
        self.run, self.limit = run, limit
        self.in_a_row = 0

    def record(self, row: dict[str, Any]) -> None:
        """Write down a step whose loss or gradient is not finite, with its images."""
        self.run.append(self.run.nonfinite, to_json(row))

    def advice(self) -> str:
        """Message for the one who started the run."""
        where = f" (their images are in {self.run.nonfinite})" if self.run.nonfinite.is_file() else ""
        return (
            f"the loss or its gradient was not finite in {self.in_a_row} steps in a row{where}: "
            "lower --base-lr, set --clip-grad 1 or use --precision fp32, which --resume takes"
        )
