"""One HTML page of what is wrong with a data set, with the images themselves, side by side where they are copies."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from io import BytesIO
from itertools import groupby

from PIL import Image, ImageDraw

from convnext.analysis.page import STYLE
from convnext.data.check.problem import PROBLEM_KINDS, Problem
from convnext.data.images.decode import WHITE, decode_image
from convnext.errors import ImageError
from convnext.printing import counted, printable
from convnext.reports.html import html_page

MOST_OF_A_KIND = 100
"""Problems of a kind that are shown; the table has all."""
SIDE_BY_SIDE = 6
THUMBNAIL = 160  # pixels

Picture = Callable[[str], Image.Image]
"""Gives an image by its path. `ImageError` if it cannot be read."""

PAGE_STYLE = """
nav ul { columns: 18rem; padding-left: 1.2rem; } article { border-top: 1px solid #bbb; padding: 0.6rem 0; }
article:focus { outline: 3px solid #2b6cb0; outline-offset: 2px; } article p { margin: 0.2rem 0; }
.images { display: flex; flex-wrap: wrap; gap: 0.8rem; } .images figure { margin: 0; max-width: 14rem; }
.images img, .unseen { width: 160px; height: 160px; object-fit: contain; background: #eee; }
.unseen { display: flex; align-items: center; justify-content: center; color: #444; }
figcaption { font-size: 0.8rem; overflow-wrap: anywhere; } figcaption b { color: #9b2c2c; }
pre { overflow-x: auto; white-space: pre-wrap; } kbd { border: 1px solid #999; border-radius: 3px; padding: 0 0.3rem; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; background: #fff; color: #000; }
@media (prefers-color-scheme: dark) { .images img, .unseen { background: #333; } .unseen { color: #ddd; }
figcaption b { color: #feb2b2; } }
"""

KEYS = """
const problems = [...document.querySelectorAll("article")];
document.addEventListener("keydown", event => {
  const step = {j: 1, k: -1}[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = problems.indexOf(document.activeElement);
  const next = problems[at < 0 ? 0 : at + step];
  if (next) { next.focus(); next.scrollIntoView({block: "nearest"}); }
});
"""


def problems_page(
    data: str,
    found: Sequence[str],
    left_out: Sequence[str],
    problems: Sequence[Problem],
    captions: Mapping[str, str],
    read: Callable[[str], bytes],
    white: int = WHITE,
) -> str:
    """The page, which needs nothing beside it and no network.

    Args:
        data: where the data lie.
        found: lines on their contents.
        left_out: lines on what training leaves out.
        problems: those of one kind one after another.
        captions: of images, by path.
        read: gives an image file's content by its path. `ImageError` if it cannot be read.
        white: the value of 16-bit images that is white.
    """
    kinds = [(kind, list(own)) for kind, own in groupby(problems, key=lambda problem: problem.kind)]
    counts = [(kind, PROBLEM_KINDS[kind].title, len(own)) for kind, own in kinds]
    links = "\n".join(f'<li><a href="#{escape(k)}">{escape(title)}</a>: {count:,}</li>' for k, title, count in counts)
    nav = f'<nav aria-label="Kinds of problems">\n<ul>\n{links}\n</ul>\n</nav>' if kinds else "<p>No problem found.</p>"
    lines = escape(printable("\n".join([*found, *(f"left out {line}" for line in left_out)])))
    sections = "\n".join(_section(kind, own, captions, partial(_picture, read, white)) for kind, own in kinds)
    title = f"What is in {printable(data)}"
    keys = "<p>Keys: <kbd>j</kbd> and <kbd>k</kbd> go to the next problem and back. Nothing here deletes a file.</p>"
    body = (
        f'<a class="skip" href="#problems">Skip to the problems</a>\n<main>\n<h1>{escape(title)}</h1>\n'
        f'<pre tabindex="0" aria-label="Contents">{lines}</pre>\n<div id="problems">{nav}</div>\n{keys}\n{sections}\n'
        f"</main>\n<script>{KEYS}</script>"
    )
    return html_page(title, f"{STYLE}{PAGE_STYLE}", body)


def _section(kind: str, problems: Sequence[Problem], captions: Mapping[str, str], picture: Picture) -> str:
    title, reading = PROBLEM_KINDS[kind]
    more = f" The first {MOST_OF_A_KIND} of {len(problems):,} are shown." if len(problems) > MOST_OF_A_KIND else ""
    articles = "\n".join(
        f'<article id="{escape(kind)}-{number}" tabindex="0">\n<h3>{escape(_heading(problem))}</h3>\n'
        f"<p>{escape(printable(problem.words))}</p>\n{''.join(_images(problem, captions, picture))}</article>"
        for number, problem in enumerate(problems[:MOST_OF_A_KIND], start=1)
    )
    return (
        f'<section aria-labelledby="{escape(kind)}">\n'
        f'<h2 id="{escape(kind)}">{escape(title)} ({len(problems):,})</h2>\n'
        f"<p>{escape(reading)}{more}</p>\n{articles}\n</section>"
    )


def _heading(problem: Problem) -> str:
    names = [printable(path.rpartition("/")[2]) for path in problem.paths[:2]]
    more = f" and {len(problem.paths) - 2} more" if len(problem.paths) > 2 else ""
    return " and ".join(names) + more if names else problem.part or "the data"


def _images(problem: Problem, captions: Mapping[str, str], picture: Picture) -> Iterator[str]:
    if not problem.paths:
        return
    yield '<div class="images">\n'
    for path in problem.paths[:SIDE_BY_SIDE]:
        name, about = escape(printable(path)), escape(printable(captions.get(path, "")))
        address = _thumbnail(path, picture, problem.box if path == problem.paths[0] else None)
        seen = (
            f'<img src="{address}" alt="{name}" loading="lazy">'
            if address
            else '<div class="unseen">cannot be shown</div>'
        )
        mark = "<br><b>may be left out</b>" if path in problem.leave_out else ""
        yield f"<figure>{seen}<figcaption>{name}<br>{about}{mark}</figcaption></figure>\n"
    yield "</div>\n"
    if len(problem.paths) > SIDE_BY_SIDE:
        yield f"<p>and {counted(len(problem.paths) - SIDE_BY_SIDE, 'more image')}</p>\n"


def _picture(read: Callable[[str], bytes], white: int, path: str) -> Image.Image:
    return decode_image(read(path), "RGB", name=path, white=white)


def _thumbnail(path: str, picture: Picture, box: tuple[float, float, float, float] | None = None) -> str:
    """The image as a data address, what lies about a box alone, with the box; nothing for one that cannot be read."""
    try:
        image = picture(path)
    except (ImageError, KeyError):
        return ""
    if box is not None:
        image = _about(image, box)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


def _about(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The surroundings of a box in an image, with the box drawn, at least as large as a thumbnail where they can be;
    the whole image where the box lies beside it."""
    if not (box[0] < image.width and box[1] < image.height and box[2] > 0 and box[3] > 0):
        return image  # drawn for an image of another size
    x0, y0, x1, y1 = box
    side = max(1.5 * (x1 - x0), 1.5 * (y1 - y0), THUMBNAIL / 2)
    left, top = ((low + high - side) / 2 for low, high in ((x0, x1), (y0, y1)))
    window = tuple(round(value) for value in (max(0, left), max(0, top), left + side, top + side))
    seen = image.crop((window[0], window[1], min(window[2], image.width), min(window[3], image.height)))
    factor = THUMBNAIL / max(seen.size)
    seen = seen.resize((max(1, round(seen.width * factor)), max(1, round(seen.height * factor))))
    edges = [(value - start) * factor for value, start in zip(box, (window[0], window[1]) * 2, strict=True)]
    ImageDraw.Draw(seen).rectangle(edges, outline="red")
    return seen
