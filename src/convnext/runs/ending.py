"""What a run came to, in words: `summary.json`, beside the numbers of `result.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from convnext.runs.directory import Run, parsed, read_text

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Ending:
    """What a run came to, a line each; empty where it is not known.

    Args:
        reached: the most important metrics, and on how many images they were measured.
        weakest: where the model is worst.
    """

    reached: str = ""
    weakest: str = ""


def write_ending(run: Run, ending: Ending) -> None:
    """Write the run's `summary.json`."""
    run.write_json(SUMMARY, asdict(ending))


def read_ending(folder: Path) -> Ending:
    """What the run in `folder` came to; empty of one that has no `summary.json`, as runs of before."""
    stored = parsed(read_text(folder / SUMMARY))
    return Ending(**{name: str(stored.get(name, "")) for name in asdict(Ending())})
