"""The page that shows all analyses in a folder."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from convnext.analysis.page import write_section


class Seen(HTMLParser):
    """Tags with attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def section(folder: Path, name: str, **values: object) -> None:
    write_section(
        folder,
        name,
        title=name.title(),
        reading="Look & see.",
        pictures=[(f"{name}.png", "<b>curves</b>")],
        rows=[{"source": "<script>", "value": 0.123456}],
        **values,
    )


def test_names_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    """A file's name may hold any bytes; an analysis that named one kept every later one from its page."""
    section(tmp_path, "collapse", file="a\udcff.jpg")
    write_section(
        tmp_path,
        "attribute",
        title="A",
        reading="B.",
        pictures=[("a.png", "of a\udcff.jpg")],
        rows=[{"path": "a\udcff.jpg"}],
    )
    assert "of a?.jpg" in (tmp_path / "index.html").read_text()


def test_all_analyses_are_on_one_page_that_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"analysis": "another"}')
    (tmp_path / "broken.json").write_text("{")
    section(tmp_path, "collapse")
    section(tmp_path, "attribute", figures=[1, float("nan")])
    section(tmp_path, "collapse")
    text = (tmp_path / "index.html").read_text()
    tags = Seen(text).tags
    assert [attributes["id"] for tag, attributes in tags if tag == "section"] == ["attribute", "collapse"]
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert [image["src"] for image in images] == ["attribute.png", "collapse.png"]
    assert all(image["alt"] == "<b>curves</b>" for image in images)
    assert "http" not in text
    assert "<script>" not in text
    assert "0.1235" in text
    assert ("html", {"lang": "en"}) in tags
    assert json.loads((tmp_path / "attribute.json").read_text())["figures"] == [1, None]
