"""Images that are copies of each other: the same files, and those that show one picture, whatever their names, sizes,
JPEG qualities, mirrored or cropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from os.path import normpath
from typing import NamedTuple

import numpy as np

from convnext.data.check.align import align
from convnext.data.check.candidates import Candidates, find_candidates
from convnext.data.check.hashes import WINDOWS
from convnext.data.check.problem import Problem
from convnext.data.check.scan import Scan
from convnext.printing import quoted

LEAST_CONTRAST = 2.0
"""Standard deviation of grey values of 255 below which an image shows nothing by which a copy would be known."""
_ALIGNED = 256
PART_ORDER = ("train", "val", "test")
"""From the part whose copies are left out first to the one whose copies stay."""


class Link(NamedTuple):
    """Two images that show one picture, by their places; the first may be a crop of the second.

    Fields:
        words: how they differ.
        score: likeness of their details, 1 for the same file.
    """

    first: int
    second: int
    words: str
    score: float


class Groups:
    """Disjoint sets of images."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def of(self, place: int) -> int:
        """The image that stands for the group of one."""
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, first: int, second: int) -> None:
        """Make one group of those of two images; the one of the lower place stands for it."""
        low, high = sorted((self.of(first), self.of(second)))
        self._above[high] = low


def find_copies(scan: Scan, advance: Callable[[int], None]) -> list[Problem]:
    """Copies within and between parts, and in two classes; `advance` is told how many more images are done."""
    links = list(same_files(scan))
    groups = Groups(len(scan))
    for link in links:
        groups.join(link.first, link.second)
    kept = [int(place) for place in scan.readable if groups.of(int(place)) == place]
    textured = [place for place in kept if scan.rows["contrast"][place] >= LEAST_CONTRAST]
    advance(len(scan) - len(textured))
    links += near_copies(scan, np.array(textured, dtype=np.int64), groups, advance)
    by_group: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        by_group[groups.of(link.first)].append(link)
    return [problem for own in by_group.values() for problem in problems_of_group(scan, own)]


def same_files(scan: Scan) -> Iterator[Link]:
    """Each file that has the content of one before it, with that one."""
    first: dict[bytes, int] = {}
    for place in scan.readable.tolist():
        before = first.setdefault(scan.rows["digest"][place].tobytes(), place)
        if before != place:
            is_one = normpath(scan.paths[place]) == normpath(scan.paths[before])
            yield Link(place, before, "one file, listed twice" if is_one else "the same file", 1.0)


def near_copies(scan: Scan, places: np.ndarray, groups: Groups, advance: Callable[[int], None]) -> Iterator[Link]:
    """Pairs of the images at `places` that show one picture, at least so many that their groups are joined."""
    done = 0
    for looked_up, found in find_candidates(scan.rows["hashes"][places], scan.rows["frequencies"][places]):
        crops, wholes = places[found.crop], places[found.whole]
        for start in range(0, len(crops), _ALIGNED):
            rows = range(start, min(start + _ALIGNED, len(crops)))
            apart = [at for at in rows if groups.of(int(crops[at])) != groups.of(int(wholes[at]))]
            some = Candidates(crops[apart], wholes[apart], found.window[apart], found.mirror[apart])
            for link in _confirmed(scan, some) if apart else ():
                if groups.of(link.first) != groups.of(link.second):
                    groups.join(link.first, link.second)
                    yield link
        advance(looked_up - done)
        done = looked_up


def _confirmed(scan: Scan, found: Candidates) -> Iterator[Link]:
    crops, wholes = scan.thumbnails.read(found.crop.tolist()), scan.thumbnails.read(found.whole.tolist())
    crops = np.where(found.mirror[:, None, None], crops[:, :, ::-1], crops)
    aligned = align(wholes, crops, WINDOWS[found.window])
    for at in np.flatnonzero(aligned.copies).tolist():
        first, second = int(found.crop[at]), int(found.whole[at])
        words = _difference(scan, first, second, aligned.windows[at], bool(found.mirror[at]))
        yield Link(first, second, words, float(aligned.detail[at]))


def _difference(scan: Scan, first: int, second: int, window: np.ndarray, mirror: bool) -> str:
    """How the first image was, or could be, made of the second."""
    left, right, top, bottom = window.tolist()
    share = (right - left) * (bottom - top)
    sizes = [(int(scan.rows["width"][place]), int(scan.rows["height"][place])) for place in (first, second)]
    words = ["mirrored"] if mirror else []
    if share < 0.97:
        words.append(f"a crop of {100 * share:.0f} % of the area")
    elif sizes[0] != sizes[1]:
        words.append("of another size")
    return ", ".join(words) or "nearly the same pixels"


def problems_of_group(scan: Scan, links: Sequence[Link]) -> Iterator[Problem]:
    """Problems with the images of one group, which all show one picture."""
    places = sorted({place for link in links for place in (link.first, link.second)}, key=lambda p: _rank(scan, p))
    score = min(link.score for link in links)
    parts = [part for part in PART_ORDER if part in {scan.parts[place] for place in places}]
    kept = [place for place in places if scan.parts[place] == parts[-1]]
    others = [place for place in places if scan.parts[place] != parts[-1]]
    if others:
        yield _problem(scan, "leak", ", ".join(parts), [*kept, *others], _words(links, places), score, others)
    names = sorted({name for place in places if (name := scan.classes[place]) is not None})
    agree = len({scan.classes[place] for place in kept}) == 1
    if len(kept) > 1 and agree:
        yield _problem(scan, "copy", parts[-1], kept, _words(links, kept), score, kept[1:])
    if len(names) > 1:
        said = f"in the classes {', '.join(map(quoted, names[:5]))}; {_words(links, places)}"
        yield _problem(scan, "two-classes", ", ".join(parts), places, said, score, others if agree else places)


def _rank(scan: Scan, place: int) -> tuple[int, int, int]:
    """Order of a group's images: those that stay first, which are held out, of most pixels, and listed first."""
    row = scan.rows[place]
    return -PART_ORDER.index(scan.parts[place]), -int(row["width"]) * int(row["height"]), place


def _words(links: Sequence[Link], places: Sequence[int]) -> str:
    """How the images at some places differ, by their own links; where they have none, by those of the whole group."""
    own = [link for link in links if {link.first, link.second} <= set(places)] or links
    kinds = dict.fromkeys(sorted(link.words for link in own))
    if len(places) == 2 and len(own) == 1:
        return own[0].words
    return f"{len(places)} copies of one picture: {'; '.join(list(kinds)[:5])}"


def _problem(
    scan: Scan, kind: str, part: str, places: list[int], words: str, score: float, leave_out: list[int]
) -> Problem:
    paths = tuple(scan.paths[place] for place in places)
    # A file that is listed twice cannot be left out once.
    stays = {normpath(scan.paths[place]) for place in set(places).difference(leave_out)}
    gone = tuple(scan.paths[place] for place in leave_out if normpath(scan.paths[place]) not in stays)
    return Problem(kind, part, paths, words, round(score, 3), gone)
