"""The model card that a run writes about itself: one template; tasks fill it from their own config and metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.config import TrainConfig
from convnext.printing import printable
from convnext.storage.files import whole_file
from convnext.variants import find_variant

LICENCE = """If the first weights
were published ConvNeXt V2 weights, their licence (CC-BY-NC 4.0) holds for these too."""


@dataclass(frozen=True)
class Card:
    """What a task says of a run.

    Args:
        title: heading.
        trained: sentence on the training, after the network's version.
        measured: head of the table of metrics.
        metrics: values by name.
        digits: decimal places of the metrics.
        explained: what the metrics are.
        weakest: where the model is worst.
        commands: what can be done next.
        files: sentence on the run's files, after those that all runs have; empty where there are no others.
        pictures: file names and texts; those that the run has are shown, in rows.
        limits: what is not known of the model.
    """

    title: str
    trained: str
    measured: str
    metrics: Mapping[str, float]
    digits: int
    explained: str
    weakest: str
    commands: Sequence[str]
    files: str
    pictures: Sequence[Sequence[tuple[str, str]]]
    limits: str


def write_card(folder: Path, config: TrainConfig, card: Card) -> None:
    """Write `folder/README.md`."""
    table = "\n".join(f"| {name} | {value:.{card.digits}f} |" for name, value in card.metrics.items())
    rows = [[f"![{text}]({name})" for name, text in row if (folder / name).is_file()] for row in card.pictures]
    pictures = "".join(f"{' '.join(row)}\n\n" for row in rows if row)
    commands = "\n".join(f"    {command}" for command in card.commands)
    text = f"""# {card.title}

ConvNeXt V{find_variant(config.model).version} {card.trained}

| {card.measured} | |
|---|---|
{table}

{card.explained}

Weakest: {escaped(card.weakest)}.

{commands}

The whole configuration is in `config.json`, the machine in `environment.json`, every epoch in
`metrics.jsonl`{card.files}.

{pictures}{card.limits}{LICENCE}
"""
    with whole_file(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def first_weights(config: TrainConfig) -> str:
    """What a run started from."""
    weights = f"weights `{config.init}`" if config.init else "random weights"
    return f"{weights}, the backbone frozen," if config.freeze_backbone else weights


def names(classes: Sequence[str]) -> str:
    """The first classes by name, and how many more there are."""
    return ", ".join(map(escaped, classes[:20])) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")


def escaped(name: str) -> str:
    """A name as Markdown shows it, and no link, picture or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", " ".join(printable(name).split()))


def on_other(things: str) -> str:
    """The sentence on what was not measured."""
    return f"Measured on the images above alone: how it does on other cameras, places or {things} is not known. "
