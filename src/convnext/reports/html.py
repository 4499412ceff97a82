"""The frame of the HTML pages that commands write."""

from __future__ import annotations

from html import escape


def html_page(title: str, style: str, body: str) -> str:
    """A page in English that needs no network; `title` is plain text, `style` CSS, and `body` HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
