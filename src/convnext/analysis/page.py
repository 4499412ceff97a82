"""One HTML page that shows all analyses in a folder, with a sentence on how to read each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from convnext.printing import to_json
from convnext.reports.html import html_page
from convnext.storage.files import whole_file

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { color: #555; }
table { border-collapse: collapse; } th, td { padding: 0.2rem 0.8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tbody tr:nth-child(odd) { background: #f4f4f4; }
.table { overflow-x: auto; } @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
figcaption { color: #aaa; } tbody tr:nth-child(odd) { background: #242424; } a { color: #8ab4f8; } }
"""


def write_section(
    folder: Path,
    name: str,
    *,
    title: str,
    reading: str,
    pictures: Sequence[tuple[str, str]],
    rows: Sequence[dict[str, Any]],
    **values: Any,
) -> None:
    """Write an analysis as `NAME.json`, and `index.html` anew.

    Args:
        folder: of the analyses.
        name: of this one, as in `convnext analyze NAME`.
        title: what it shows.
        reading: a sentence on how to read it.
        pictures: files in the folder, and what each shows, for those who do not see it.
        rows: a table.
        **values: all figures, for programs.
    """
    section = {"analysis": name, "title": title, "reading": reading, "pictures": list(pictures), "rows": list(rows)}
    with whole_file(folder / f"{name}.json") as path:
        path.write_text(to_json({**section, **values}) + "\n")
    sections = [found for path in sorted(folder.glob("*.json")) if (found := read_section(path))]
    with whole_file(folder / "index.html") as path:
        path.write_text(page_of(sections), encoding="utf-8", errors="replace")  # of a file's name


def read_section(path: Path) -> dict[str, Any] | None:
    """An analysis that `write_section` wrote; None for another file."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("analysis") == path.stem else None


def page_of(sections: Sequence[dict[str, Any]]) -> str:
    """The page, which needs no network: pictures lie beside it."""
    body = "\n".join(section_of(section) for section in sections)
    links = " · ".join(f'<a href="#{escape(s["analysis"])}">{escape(s["title"])}</a>' for s in sections)
    return html_page("Analyses", STYLE, f"<main>\n<h1>Analyses</h1>\n<p>{links}</p>\n{body}\n</main>")


def section_of(section: dict[str, Any]) -> str:
    """An analysis: how to read it, its pictures, and its table."""
    pictures = "\n".join(
        f'<figure><img src="{escape(file)}" alt="{escape(alt)}"><figcaption>{escape(alt)}</figcaption></figure>'
        for file, alt in section["pictures"]
    )
    return (
        f'<section id="{escape(section["analysis"])}">\n<h2>{escape(section["title"])}</h2>\n'
        f"<p>{escape(section['reading'])}</p>\n{pictures}\n{table_of(section['rows'])}\n</section>"
    )


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a table; nothing without any."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{cell_of(value)}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>'


def cell_of(value: Any) -> str:
    """A value of a table: fractions to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else escape("" if value is None else str(value))
