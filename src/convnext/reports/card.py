"""Model cards: sections in, Markdown out, with metadata as the Hub reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convnext.printing import printable

NOT_STATED = "not stated by the author"
"""Text of what only a person knows, and did not say."""
MOST_ROWS = 20
"""Rows of a table in a card, at most."""


class Section(NamedTuple):
    """A heading, and the Markdown under it."""

    title: str
    text: str


def render_card(metadata: Mapping[str, Any], title: str, lead: str, sections: Iterable[Section]) -> str:
    """A card's whole text: YAML between lines of dashes, then Markdown.

    Args:
        metadata: arguments of `huggingface_hub.ModelCardData`.
        title: heading.
        lead: sentences under it.
        sections: in their order; those without text are left out.
    """
    from huggingface_hub import ModelCardData

    parts = [f"---\n{ModelCardData(**metadata).to_yaml()}\n---\n\n# {title}\n\n{lead}\n"]
    parts += [f"## {section.title}\n\n{section.text}\n" for section in sections if section.text]
    return "\n".join(parts)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers as they are, text escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[each if isinstance(each, str) else f"{each:g}" for each in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def listed_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Facts by name, one a line; those without text are left out."""
    return "\n".join(f"- **{name}:** {text}" for name, text in facts if text)


def pictures_of(folder: Path, names: Iterable[tuple[str, str]]) -> str:
    """Pictures (file name, text) one below the other, of those that are in a folder."""
    return "\n\n".join(f"![{text}]({name})" for name, text in names if (folder / name).is_file())


def code_block(text: str, language: str) -> str:
    """Text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def code_span(text: str) -> str:
    """Text as code within a line."""
    return f"`{' '.join(printable(text).replace('`', ' ').split())}`"


def names(classes: Sequence[str]) -> str:
    """The first classes by name, and how many more there are; between semicolons where a name holds a comma."""
    first, more = classes[:20], len(classes) - 20
    between = "; " if any("," in name for name in first) else ", "
    return between.join(map(escaped, first)) + (f" and {more} more" if more > 0 else "")


def escaped(name: str) -> str:
    """A name as Markdown shows it, and no link, picture or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", " ".join(printable(name).split()))
