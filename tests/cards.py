"""Model cards as tests read them: their sections, their snippet, and what holds of all."""

from __future__ import annotations

import json
import re
from pathlib import Path

from huggingface_hub import ModelCard

SECTIONS = ["Model", "Uses", "How to use it", "Data", "Training", "Results", "Known failures and limits",
            "Speed and size", "Energy", "Citation"]  # fmt: skip


def sections_of(card: str) -> dict[str, str]:
    """Text under each heading."""
    parts = re.split(r"^## (.+)$", card, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def check_card(run: Path, tag: str) -> dict[str, str]:
    """Assert what holds of all cards; returns the sections."""
    text = (run / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.pipeline_tag == tag
    assert card.data.library_name == "convnext"
    stored = json.loads((run / "result.json").read_text())
    assert {each.metric_name: each.metric_value for each in card.data.eval_results} == stored
    found = sections_of(text)
    assert set(SECTIONS) <= set(found)
    for title, body in found.items():
        assert body.strip(), title
        assert not [line for line in body.splitlines() if re.fullmatch(r"- \*\*.*:\*\*\s*", line)], title
    assert not [name for name in re.findall(r"!\[.*?\]\((.*?)\)", text) if not (run / name).is_file()]
    assert str(run.parent) not in text, "folders of this machine"
    return found


def snippet_of(found: dict[str, str]) -> str:
    """The card's lines of Python."""
    return found["How to use it"].split("```python\n")[1].split("```")[0]


def photo_of(data: Path) -> Path:
    """A photograph of labelled ones."""
    return next(path for path in sorted(data.rglob("*.png")) if not {"annotations", "depth"} & set(path.parts))
