"""The card of a run, written from its files alone: `config.json`, `result.json`, `facts.json` and what lies beside."""

from __future__ import annotations

from convnext.reports.card import render_card
from convnext.runs.directory import Run
from convnext.storage.files import whole_file
from convnext.tasks.card import sections
from convnext.tasks.card.metadata import metadata_of
from convnext.tasks.card.stored import read_stored

CARD_FILE = "README.md"


def write_card(run: Run) -> None:
    """Write the run's `README.md`. `InputError` for an `about.yaml` that cannot be read."""
    stored = read_stored(run)
    text = render_card(metadata_of(stored), stored.words.title, sections.lead(stored), sections.all_of(stored))
    with whole_file(run.path / CARD_FILE) as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
