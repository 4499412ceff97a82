"""The folder that is published of a run: weights, how they are used, the card, and the pictures that it shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from convnext.deploy.convert import convert
from convnext.deploy.push.card import hub_metadata, is_gallery, pictures_shown, with_metadata, without_galleries
from convnext.errors import InputError
from convnext.printing import command_line, to_json
from convnext.runs.directory import read_text
from convnext.runs.summary import RunSummary, summarise_run
from convnext.storage.files import whole_folder
from convnext.tasks.card.write import CARD_FILE
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.load import task_of_weights
from convnext.weights import read_meta
from convnext.weights.files import RUN_FILE

LIBRARIES = {"hf": "transformers", "timm": "timm"}
"""Layouts that other libraries open, by what `convert` calls them."""
OWN_LAYOUT = "convnext"
"""Layout of this project: weights with their metadata in the header, and the same metadata as JSON beside them."""


class HubFolder(NamedTuple):
    """A folder as the Hub gets it: its layout, the sizes of its files in bytes by name, and lines on what was left out
    or changed."""

    path: Path
    layout: str
    files: dict[str, int]
    notes: list[str]


def write_hub_folder(
    run: Path, folder: Path, *, layout: str | None = None, galleries: bool = True, replace: bool = False
) -> HubFolder:
    """Write what is published of a run, whole or not at all.

    Args:
        run: a run that has ended.
        folder: a new or empty folder.
        layout: a key of `LIBRARIES`; None: the first that can hold the network, else this project's own.
        galleries: whether to publish pictures of the card that show images of the data.
        replace: take the place of a folder that holds something too.

    Raises:
        InputError: no run, or one that has not ended; a layout that cannot hold its network; or a place that is taken
            or cannot be written.
    """
    ended_run(run)
    if layout is not None and layout not in LIBRARIES:
        raise InputError(f"unknown layout '{layout}'; known: {', '.join(LIBRARIES)}")
    with whole_folder(folder, replace=replace) as place:
        layout, notes = _write_weights(run, place, task_of_weights(run), layout)
        notes += write_hub_card(run, place, LIBRARIES.get(layout, OWN_LAYOUT), galleries=galleries)
    return HubFolder(folder, layout, sizes_in(folder), notes)


def ended_run(run: Path) -> RunSummary:
    """The summary of a run that has ended. `InputError` for another."""
    summary = summarise_run(run)
    if summary.state == "training":
        raise InputError(f"{run} is being trained; publish it when it has ended")
    if summary.state == "stopped":
        raise InputError(f"{run} has not ended: end its training with --resume, then publish it")
    return summary


def sizes_in(folder: Path) -> dict[str, int]:
    """Sizes in bytes of the files in a folder and those below, by their paths within it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def write_hub_card(run: Path, place: Path, library: str, *, galleries: bool) -> list[str]:
    """Write a run's card into a folder, with the Hub's metadata in front, and the pictures that it shows; returns lines
    on what was left out or changed.

    Args:
        run: a run that has ended.
        place: the folder.
        library: the one that opens the weights beside the card.
        galleries: whether pictures that may show images of the data are among them.
    """
    notes: list[str] = []
    text = read_text(run / CARD_FILE)
    if shown := [name for name in pictures_shown(text, run) if is_gallery(name)]:
        what = f"{', '.join(shown)} {'shows' if len(shown) == 1 else 'show'} images of the data"
        notes.append(f"left out: {what}" if not galleries else f"{what}; --no-galleries leaves them out")
    text = text if galleries else without_galleries(text)
    known = hub_metadata(summarise_run(run), task_of_weights(run), read_meta(run), library)
    (place / CARD_FILE).write_text(with_metadata(text, known, notes), encoding="utf-8")
    for name in pictures_shown(text, run):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, place / name)
    return notes


def write_own(run: Path, place: Path) -> None:
    """Write a run's weights into a folder in this project's own layout, and their metadata beside them."""
    shutil.copyfile(run / RUN_FILE, place / RUN_FILE)
    content = {"library_name": OWN_LAYOUT, **read_meta(run)}
    (place / "config.json").write_text(to_json(content, 2) + "\n", encoding="utf-8")


def _write_weights(run: Path, place: Path, task: TaskDefinition, layout: str | None) -> tuple[str, list[str]]:
    """Write weights and configuration into an empty folder; returns the layout, and lines on it."""
    if not task.elsewhere:
        if layout is not None:
            raise InputError(
                f"{LIBRARIES[layout]} has no class for what `convnext {task.command}` trains: leave out --layout, and "
                f"it is pushed in this project's own; `{command_line('convert', run, 'OUT', '--to', layout)}` writes "
                "the backbone"
            )
        write_own(run, place)
        libraries = " and ".join(LIBRARIES.values())
        return OWN_LAYOUT, [f"{libraries} have no class for this network: pushed in this project's own layout"]
    notes: list[str] = []
    for each in LIBRARIES if layout is None else (layout,):
        try:
            return each, [*notes, *convert(run, place, each).notes]
        except InputError as error:
            if layout is not None:
                raise
            notes.append(f"{LIBRARIES[each]} cannot open it: {error}")
    write_own(run, place)
    return OWN_LAYOUT, [*notes, "pushed in this project's own layout"]
