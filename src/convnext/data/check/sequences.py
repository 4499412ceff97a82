"""Sequences that are divided between parts: frames of a video and shots of a burst, known by numbered names of one
pattern whose neighbours look alike."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from convnext.data.check.problem import Problem
from convnext.data.check.scan import Scan
from convnext.data.splits import part_of_name
from convnext.printing import counted, quoted

LEAST_FRAMES = 6
LEAST_ALIKE = 0.6
"""Correlation of the frequencies of neighbours, less the mean of all images: its median in CamVid's videos is 0.8, and
that of other pairs 0."""
_SHOWN = 6


def find_sequences(scan: Scan) -> list[Problem]:
    """A problem for each sequence of which two parts have frames."""
    frequencies = scan.rows["frequencies"].astype(np.float32)
    readable = scan.readable
    if len(readable) < LEAST_FRAMES:
        return []
    own = frequencies[readable]
    frequencies = (frequencies - own.mean(0)) / (own.std(0) + 1e-6)
    frequencies /= np.linalg.norm(frequencies, axis=1, keepdims=True) + 1e-6
    return [
        problem for name, places in _numbered(scan).items() for problem in _divided(scan, name, places, frequencies)
    ]


def _numbered(scan: Scan) -> dict[str, list[int]]:
    """Places of the images of each pattern of numbered names, in the order of their numbers, whatever their part."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place in scan.readable.tolist():
        path = PurePosixPath(scan.paths[place])
        numbers = re.findall(r"\d+", path.stem)
        if not numbers or len(numbers[-1]) > 18:
            continue
        at = path.stem.rindex(numbers[-1])
        pattern = f"{path.stem[:at]}#{path.stem[at + len(numbers[-1]) :]}"
        folders = [name for name in path.parent.parts if part_of_name(name) is None]
        found["/".join([*folders, pattern])].append((int(numbers[-1]), place))
    return {name: [place for _, place in sorted(frames)] for name, frames in found.items()}


def _divided(scan: Scan, name: str, places: list[int], frequencies: np.ndarray) -> Iterator[Problem]:
    counts = Counter(scan.parts[place] for place in places)
    if len(places) < LEAST_FRAMES or len(counts) < 2:
        return
    alike = (frequencies[places[:-1]] * frequencies[places[1:]]).sum(1)
    typical = float(np.median(alike))
    if typical < LEAST_ALIKE:
        return
    apart = [at for at in range(len(alike)) if scan.parts[places[at]] != scan.parts[places[at + 1]]]
    near = [at for at in apart if alike[at] >= LEAST_ALIKE]
    shown = list(dict.fromkeys(place for at in near or apart for place in (places[at], places[at + 1])))[:_SHOWN]
    parts = [part for part in ("train", "val", "test") if part in counts]
    said = " and ".join(f"{counted(counts[part], 'frame')} in {part}" for part in parts)
    words = f"{quoted(name)}: {said}"
    if near:
        words += f"; {counted(len(near), 'pair')} of neighbours that look alike lie in two parts"
    yield Problem("sequence", ", ".join(parts), tuple(scan.paths[p] for p in shown), words, round(min(1, typical), 3))
