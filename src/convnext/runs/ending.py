"""The results of a run as sentences (`summary.json`); `result.json` has the numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from convnext.runs.directory import Run, parsed, read_text

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Ending:
    """Results of a finished run as sentences, each of one line; empty where they are not known.

    Args:
        reached: the most important metrics, and on how many images they were measured.
        weakest: where the model is worst.
        licence: of the weights, where it restricts their use; `write_ending` adds it.
    """

    reached: str = ""
    weakest: str = ""
    licence: str = ""


def write_ending(run: Run, ending: Ending) -> None:
    """Write the run's `summary.json`, with the licence that is stored with its weights."""
    from convnext.weights.files import own_licence  # here: it takes PyTorch, without which runs are listed

    run.write_json(SUMMARY, asdict(replace(ending, licence=own_licence(run.weights))))


def read_ending(folder: Path) -> Ending:
    """Read the sentences of the run in `folder`; they are empty where it has no `summary.json`, as older runs."""
    stored = parsed(read_text(folder / SUMMARY))
    return Ending(**{name: str(stored.get(name, "")) for name in asdict(Ending())})
