"""The page of a data set's problems: in a browser, without a network, by keyboard."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convnext
from convnext.analysis.problems_page import MOST_OF_A_KIND, SIDE_BY_SIDE, problems_page
from convnext.data.check.problem import PROBLEM_KINDS, Problem
from convnext.data.images.decode import read_bytes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NAMES = ("a.png", "it's <b>.png")
PROBLEMS = [
    Problem("unreadable", "train", ("gone.png",), "truncated image", 1.0, ("gone.png",)),
    Problem("leak", "train, val", NAMES, "a crop of 80 % of the area", 0.98, NAMES[1:]),
    Problem("leak", "train, val", NAMES[::-1], "mirrored", 0.97, NAMES[:1]),
    Problem("small-class", "train", (), "0 images of 'dog' in train"),
]


@pytest.mark.parametrize("kind", PROBLEM_KINDS)
def test_a_kind_has_a_heading_and_sentences_on_what_to_do(kind: str) -> None:
    title, reading = PROBLEM_KINDS[kind]
    assert len(title) < 50
    assert not title.endswith(".")
    assert reading.endswith(".")
    assert len(reading) > len(title)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of `PROBLEMS`, in a file."""
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    captions = dict.fromkeys(NAMES, "train, cat, 40×30 pixels")
    text = problems_page(
        "photos", ["train: 2 images"], ["one: x"], PROBLEMS, captions, lambda path: read_bytes(tmp_path / path)
    )
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    return tmp_path / "index.html"


def shown(folder: Path, problem: Problem, **options: Any) -> Image.Image:
    """The one picture on a page."""
    text = problems_page("photos", [], [], [problem], {}, lambda path: read_bytes(folder / path), **options)
    (address,) = re.findall('base64,([^"]+)"', text)
    return Image.open(BytesIO(b64decode(address)))


@pytest.mark.parametrize("box", [(250, 250, 300, 300), (10, 250, 30, 300), (-90, 5, -60, 20), (20, 20, 300, 300)])
def test_a_box_that_was_drawn_for_an_image_of_another_size_is_no_fault(box: tuple, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 200, 9)).save(tmp_path / "a.png")
    image = shown(tmp_path, Problem("object", "train", ("a.png",), "cat that is not annotated", box=box))
    assert np.asarray(image)[:, :, 1].mean() > 100


def test_pictures_of_16_bits_are_shown_by_their_own_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40), 4000, np.uint16)).save(tmp_path / "a.png")
    problem = Problem("copy", "train", ("a.png",), "the same file")
    assert np.asarray(shown(tmp_path, problem, white=4095)).min() > 240
    convnext.check(tmp_path, task="pretrain", workers=0, white=4095, out=tmp_path / "look")
    (address,) = re.findall('base64,([^"]+)"', (tmp_path / "look" / "index.html").read_text())
    assert np.asarray(Image.open(BytesIO(b64decode(address)))).min() > 240


def test_images_are_in_the_page_and_names_cannot_break_it(page: Path) -> None:
    text = page.read_text()
    assert text.count('src="data:image/jpeg;base64,') == 4
    assert "it&#x27;s &lt;b&gt;.png" in text
    assert "<b>.png" not in text
    assert "cannot be shown" in text
    assert "left out one: x" in text
    assert "http" not in text


def test_kinds_come_in_the_order_given_with_their_counts(page: Path) -> None:
    text = page.read_text()
    heads = [f"{PROBLEM_KINDS[kind].title} ({n})" for kind, n in (("unreadable", 1), ("leak", 2), ("small-class", 1))]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)


def test_many_problems_and_many_copies_are_cut_with_a_word() -> None:
    many = [Problem("copy", "train", tuple("abcdefgh"), "8 copies")] * (MOST_OF_A_KIND + 1)
    text = problems_page("x", [], [], many, {}, lambda path: b"no image")
    assert text.count("<article") == MOST_OF_A_KIND
    assert f"The first {MOST_OF_A_KIND} of {MOST_OF_A_KIND + 1} are shown." in text
    assert text.count("<figure>") == MOST_OF_A_KIND * SIDE_BY_SIDE
    assert "and 2 more images" in text


def test_without_a_problem_the_page_says_so() -> None:
    assert "No problem found." in problems_page("x", ["train: 2 images"], [], [], {}, lambda path: b"")


@pytest.fixture
def opened(page: Path) -> Iterator[Any]:
    """The page in a browser, which fails the test for errors and for requests of anything else."""
    if BROWSER is None:
        pytest.skip("no chromium or chrome: `make browser` installs one")
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1000, "height": 700})
        shown.on("console", lambda said: faults.append(said.text))
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or faults.append(asked.url))
        shown.goto(page.as_uri())
        yield shown
        browser.close()
    assert faults == []


def test_keys_go_from_problem_to_problem(opened: Any) -> None:
    visited = []
    for key in ("j", "j", "j", "k"):
        opened.keyboard.press(key)
        visited.append(opened.evaluate("document.activeElement.id"))
    assert visited == ["unreadable-1", "leak-1", "leak-2", "leak-1"]


def test_tab_reaches_links_and_problems(opened: Any) -> None:
    reached = []
    for _ in range(9):
        opened.keyboard.press("Tab")
        reached.append(opened.evaluate("document.activeElement.getAttribute('href') || document.activeElement.id"))
    assert reached[0] == "#problems"
    assert reached[2:] == ["#unreadable", "#leak", "#small-class", "unreadable-1", "leak-1", "leak-2", "small-class-1"]


def test_copies_lie_side_by_side_and_are_seen(opened: Any) -> None:
    boxes = opened.evaluate(
        """async () => {
            const images = [...document.querySelectorAll('#leak-1 img')];
            await Promise.all(images.map(image => image.decode()));  // they load when the page has
            return images.map(i => [i.getBoundingClientRect().x, i.getBoundingClientRect().y, i.naturalWidth]);
        }"""
    )
    (left, top, width), (right, level, other) = boxes
    assert right > left
    assert top == level
    assert (width, other) == (40, 40)


def test_no_fault_that_axe_finds(opened: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


def test_an_object_is_shown_with_its_box_and_what_lies_about_it(tmp_path: Path) -> None:
    pixels = np.zeros((600, 800, 3), dtype=np.uint8)
    pixels[400:440, 100:160] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    problem = Problem("object", "train", ("a.png",), "cat where nothing is seen", box=(100.0, 400.0, 160.0, 440.0))
    text = problems_page("x", [], [], [problem], {}, lambda path: read_bytes(tmp_path / path))
    data = text.partition('src="data:image/jpeg;base64,')[2].partition('"')[0]
    seen = np.asarray(Image.open(BytesIO(b64decode(data))).convert("RGB")).astype(int)
    assert seen.shape == (160, 160, 3)
    bright = seen.min(axis=2) > 120
    assert 0.1 < bright.mean() < 0.4  # 60 by 40 pixels of a window of 90 by 90
    red = (seen[..., 0] > 150) & (seen[..., 1:].max(axis=2) < 110)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert abs(columns[-1] - columns[0] - 60 * 160 / 90) < 4
    assert abs(rows[-1] - rows[0] - 40 * 160 / 90) < 4
