"""Everything of a run that its card is written from."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from convnext.config import TrainConfig
from convnext.runs.directory import Run, parsed, read_text
from convnext.runs.ending import Ending, read_ending
from convnext.runs.facts import read_facts
from convnext.tasks.build import task_of_run
from convnext.tasks.card.about import read_about
from convnext.tasks.card.words import CardWords
from convnext.tasks.robustness_record import settings_in
from convnext.tasks.subgroups import GROUPS_FILE
from convnext.weights.files import read_own_meta


class Stored(NamedTuple):
    """Everything that a card is written from.

    Args:
        run: the run.
        command: that trained it, after `convnext`.
        pipeline_tag: the Hub's name of its task.
        measured: whether labels of validation images measure it.
        config: its options.
        words: the task's own.
        meta: stored with the weights.
        parameters: numbers of the weights.
        metrics: of the run's end.
        ending: sentences on them.
        facts: `facts.json`.
        environment: `environment.json`.
        about: what a person stated.
        by_class: rows of `per_class.csv`.
        groups: `groups.json`, or empty.
        robustness: rows of `robustness-summary.csv`, or none.
        robustness_of: the images that these rows are of, as `tasks.robustness_record.settings_in` gives them, or empty.
    """

    run: Run
    command: str
    pipeline_tag: str
    measured: bool
    config: TrainConfig
    words: CardWords
    meta: dict[str, Any]
    parameters: int
    metrics: dict[str, Any]
    ending: Ending
    facts: dict[str, Any]
    environment: dict[str, Any]
    about: dict[str, Any]
    by_class: list[dict[str, str]]
    groups: dict[str, Any]
    robustness: list[dict[str, str]]
    robustness_of: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, or what they mean where names are codes."""
        meanings = self.meta.get("descriptions") or {}
        return [meanings.get(name, name) for name in self.meta.get("classes", ())]

    @property
    def calibrates(self) -> bool:
        """Whether its answers have scores that can be calibrated."""
        return self.words.unit in ("images", "objects")


def read_stored(run: Run) -> Stored:
    """Read a run that has ended."""
    task = task_of_run(run.path)
    config = task.config.from_dict(run.read_config())
    meta = read_own_meta(run.weights) or {}
    meanings = meta.get("descriptions") or {}
    classes = [meanings.get(name, name) for name in meta.get("classes", ())]
    return Stored(
        run=run,
        command=task.command,
        pipeline_tag=task.pipeline_tag,
        measured=task.answers,
        config=config,
        words=task.card_words(config, classes),
        meta=meta,
        parameters=stored_parameters(run.weights),
        metrics=parsed(read_text(run.path / "result.json")),
        ending=read_ending(run.path),
        facts=read_facts(run.path),
        environment=parsed(read_text(run.path / "environment.json")),
        about=read_about(run.path, config.data),
        by_class=read_rows(run.path / "per_class.csv"),
        groups=parsed(read_text(run.path / GROUPS_FILE)),
        robustness=read_rows(run.path / "robustness-summary.csv"),
        robustness_of=settings_in(run.path),
    )


def stored_parameters(weights: Path) -> int:
    """How many numbers a weight file holds, by the shapes in its header."""
    with safe_open(weights, framework="pt") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 # not a mapping


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))
