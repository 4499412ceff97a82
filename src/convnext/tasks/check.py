"""`convnext check`: what is in a data set, and what is wrong with it, for every task."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from convnext.analysis.problems_page import problems_page
from convnext.config import TrainConfig
from convnext.cores import usable_cores
from convnext.data.check.copies import find_copies
from convnext.data.check.figures import figures_line, part_figures
from convnext.data.check.odd_files import odd_files, small_classes, unreadable_files
from convnext.data.check.part import CheckedData, CheckedPart
from convnext.data.check.problem import PROBLEM_KINDS, Problem
from convnext.data.check.scan import Scan, scan_images, thumbnail_file
from convnext.data.check.sequences import find_sequences
from convnext.data.images.decode import WHITE
from convnext.data.problems import NOT_READ, UNUSABLE, Problems
from convnext.data.sources.hub import fetched, is_on_hub
from convnext.errors import InputError
from convnext.printing import progress, to_json
from convnext.reports.problems import write_exclusions, write_problems
from convnext.storage.files import make_folder, whole_file
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS, find_task

TURNED = "images that EXIF turns or mirrors (were boxes drawn on them so?)"
LabelSearch = Callable[[TaskDefinition, dict[str, Any]], Sequence[Problem]]
"""From a task and options of its training, with `data`, to labels that may be wrong (`train.wrong_labels`)."""


@dataclass(frozen=True)
class DataCheck:
    """Count what a data set holds, and find what is wrong with it.

    Args:
        data: where it lies.
        task: the task it was read for.
        found: lines for people on its contents.
        left_out: lines on what training leaves out.
        parts: figures of each part by name (`part_figures`).
        problems: worst first within each kind.
        captions: of the images that problems name, by path: part, class and size.
        read: gives an image file's content by a path that problems name. `ImageError` if it cannot be read.
        white: the value of 16-bit images that is white.
    """

    data: str
    task: str
    found: list[str]
    left_out: list[str]
    parts: dict[str, dict[str, Any]]
    problems: list[Problem]
    captions: dict[str, str]
    read: Callable[[str], bytes] = field(repr=False, compare=False)
    white: int = WHITE

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Number of problems of each kind in each part, "train, val" being those between two."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for problem in self.problems:
            found[problem.part][problem.kind] += 1
        return dict(found)


def check_data(
    data: str | Path,
    *,
    task: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    labels: LabelSearch | None = None,
    source: str | None = None,
    **options: Any,
) -> DataCheck:
    """Look at every image of a data set, and find what is wrong with it.

    Arguments are those of `convnext.check`, but for `labels`: what finds labels that may be wrong; without, they are
    not looked for. `InputError` where training would refuse the data.
    """
    chosen = guess_task(str(data)) if task is None else find_task(task)
    how = {} if workers is None else {"workers": workers}
    given = {**options, **how, "data": str(data)}
    config = chosen.config().override(given)

    def suspects() -> Sequence[Problem]:
        if out is not None:
            make_folder(Path(out))  # where it cannot be written, that is said before hours of work
        return [] if labels is None else labels(chosen, given)

    found = check_config(chosen, config, workers, suspects, source)
    if out is not None:
        write_check(found, Path(out))
    return found


def guess_task(data: str) -> TaskDefinition:
    """The task that data of this form are for: the most special one that recognises them."""
    if not (data == "digits" or is_on_hub(data) or "://" in data or Path(data).exists()):
        raise InputError(f"{data}: no such folder or file")
    return next(task for task in reversed(TASKS) if task.recognises(data))


def check_config(
    task: TaskDefinition,
    config: TrainConfig,
    workers: int | None = None,
    suspects: Callable[[], Sequence[Problem]] = tuple,
    source: str | None = None,
) -> DataCheck:
    """`check_data` of the data that a config names.

    `suspects` finds labels that may be wrong, whose paths are files, in data that training would take.
    """
    cores = len(usable_cores())
    processes = (cores if cores > 1 else 0) if workers is None else workers
    checked = task.checked_data(config, source)
    suspected = suspects()
    relative = _relative_to(config.data)
    how: dict[str, Any] = {"workers": processes, "white": config.white}
    total = sum(map(len, checked.parts))
    with thumbnail_file() as thumbnails:
        with progress("reading images", total) as advance:
            scan = scan_images(checked.parts, thumbnails, relative, advance=advance, **how)
        with progress("looking for copies", total) as advance:
            problems = find_copies(scan, advance)
    unreadable = _unreadable_by_part(checked.parts, scan)
    problems += [*unreadable_files(scan), *odd_files(scan), *find_sequences(scan)]
    problems += small_classes(checked.parts, unreadable, scan)
    problems += [replace(each, paths=tuple(map(relative, each.paths))) for each in checked.problems]
    part_of = dict(zip(scan.paths, scan.parts, strict=True))
    for each in suspected:
        paths = tuple(map(relative, each.paths))
        problems.append(replace(each, paths=paths, part=part_of.get(paths[0], each.part)))
    problems += _problems_of_faults(checked.faults, scan)
    problems += _other_sizes(checked, scan)
    counted = _places_counted(checked.parts)
    for place, reason in scan.unreadable.items():
        if place not in counted:
            checked.faults.add(UNUSABLE, reason)
    order = list(PROBLEM_KINDS)
    problems.sort(key=lambda problem: (order.index(problem.kind), -problem.score, problem.paths))
    summaries = _summaries(checked.parts, scan, unreadable)
    found = checked.found(unreadable) + [figures_line(name, figures) for name, figures in summaries.items()]
    places = {path: place for place, path in enumerate(scan.paths)}
    named = {path for problem in problems for path in problem.paths}
    captions = {path: _caption(scan, places[path]) for path in sorted(named & places.keys())}
    read = partial(_content, checked.parts, places)
    return DataCheck(
        config.data, task.name, found, checked.faults.lines(), summaries, problems, captions, read, white=config.white
    )


def _relative_to(data: str) -> Callable[[str], str]:
    """Gives a file's path relative to the data, with "/"; a name that is no file in them as it is."""
    root = Path(fetched(data))
    above = f"{root if root.is_dir() else root.parent}{os.sep}"
    return lambda source: source.removeprefix(above).replace(os.sep, "/")


def _with_starts(parts: Sequence[CheckedPart]) -> Iterator[tuple[int, CheckedPart]]:
    """Parts, each with the place that its first image has in a scan of all of them."""
    return zip(accumulate(map(len, parts), initial=0), parts, strict=False)  # after the last one there is an end


def _unreadable_by_part(parts: Sequence[CheckedPart], scan: Scan) -> list[set[int]]:
    return [
        {place - start for place in scan.unreadable if start <= place < start + len(part)}
        for start, part in _with_starts(parts)
    ]


def _summaries(parts: Sequence[CheckedPart], scan: Scan, unreadable: Sequence[set[int]]) -> dict[str, dict[str, Any]]:
    return {
        part.name: part_figures(part, scan.rows[start : start + len(part)], without)
        for (start, part), without in zip(_with_starts(parts), unreadable, strict=True)
    }


def _places_counted(parts: Sequence[CheckedPart]) -> set[int]:
    return {start + place for start, part in _with_starts(parts) for place in part.counted}


def _content(parts: Sequence[CheckedPart], places: Mapping[str, int], path: str) -> bytes:
    place = places[path]
    start, part = next((start, part) for start, part in _with_starts(parts) if place < start + len(part))
    return part.content(place - start)


def _caption(scan: Scan, place: int) -> str:
    row = scan.rows[place]
    words = [scan.parts[place], scan.classes[place]]
    if place not in scan.unreadable:
        words += [f"{row['width']}×{row['height']} pixels", f"{row['bytes'] / 1000:,.1f} kB"]
    return ", ".join(word for word in words if word)


def _problems_of_faults(faults: Problems, scan: Scan) -> Iterator[Problem]:
    """A problem for each example of what reading the annotations has found, with the image that it names, if any."""
    names: dict[str, list[int]] = defaultdict(list)
    for place, path in enumerate(scan.paths):
        names[path.rpartition("/")[2]].append(place)
    for counted, score in ((faults.left_out, 1.0), (faults.taken, 0.5)):
        for kind, examples in counted.found.items():
            for example in examples:
                at = _named(example, scan.paths, names)
                paths = () if at is None else (scan.paths[at],)
                part = "" if at is None else scan.parts[at]
                if at in scan.unreadable:
                    continue  # `unreadable_files` has it
                if kind in (UNUSABLE, NOT_READ) and paths:
                    yield Problem("unreadable", part, paths, example, 1.0, paths)
                else:
                    yield Problem("annotation", part, paths, f"{kind}: {example}", score)


def _named(example: str, paths: Sequence[str], names: Mapping[str, list[int]]) -> int | None:
    """Place of the one image whose path an example begins with, or the end of it."""
    for text in (example, example.partition(": ")[0], example.partition(", ")[0]):
        slashed = text.replace(os.sep, "/")
        ends = [
            place
            for place in names.get(slashed.rpartition("/")[2], ())
            if f"/{paths[place]}".endswith(f"/{slashed}") or slashed.endswith(f"/{paths[place]}")
        ]
        if len(ends) == 1:
            return ends[0]
    return None


def _other_sizes(checked: CheckedData, scan: Scan) -> Iterator[Problem]:
    """A problem for each image of another size than its annotations are for; EXIF that turns is noted."""
    for start, part in _with_starts(checked.parts):
        for index, (width, height) in enumerate(part.sizes or ()):
            place = start + index
            if place in scan.unreadable:
                continue
            row = scan.rows[place]
            size, turned = (int(row["width"]), int(row["height"])), int(row["orientation"])
            if turned in (2, 3, 4):
                checked.faults.note(TURNED, part.sources[index])
            if size != (width, height) and not (turned > 4 and size == (height, width)):
                words = f"{size[0]}×{size[1]} pixels, where its annotations are for {width}×{height}"
                checked.faults.add(UNUSABLE, f"{part.sources[index]}: {words}")
                yield Problem("annotation", part.name, (scan.paths[place],), words, 1.0, (scan.paths[place],))


def write_check(found: DataCheck, folder: Path) -> None:
    """Write `index.html`, `problems.csv`, `exclude.csv` and `check.json` into a folder, which is made if need be."""
    make_folder(folder)
    write_problems(found.problems, folder / "problems.csv")
    write_exclusions(found.problems, folder / "exclude.csv")
    page = problems_page(
        found.data, found.found, found.left_out, found.problems, found.captions, found.read, found.white
    )
    with whole_file(folder / "index.html") as path:
        path.write_text(page, encoding="utf-8", errors="surrogateescape")
    with whole_file(folder / "check.json") as path:
        path.write_text(to_json(as_json(found), indent=1) + "\n")


def as_json(found: DataCheck) -> dict[str, Any]:
    """The check as plain values: figures by part, and numbers of problems by part and kind."""
    return {
        "data": found.data,
        "task": found.task,
        "found": found.found,
        "left_out": found.left_out,
        "parts": found.parts,
        "problems": {part or "all": dict(counts) for part, counts in found.counts.items()},
    }
