"""Going on with a run, and what may change then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from convnext.config import Config, TrainConfig
from convnext.errors import InputError
from convnext.parsing import to_text
from convnext.printing import flag_of
from convnext.runs.directory import Run
from convnext.runtime import distributed

RESUME_MAY_CHANGE = (
    # change no result
    *("workers", "device", "parallel", "save_every", "keep_checkpoints", "max_nonfinite", "max_unreadable", "patience"),
    "track",
    # may save a run that fails
    *("base_lr", "clip_grad", "precision", "cuda_graph"),
)
"""Options that a resumed run may change."""
FOLDS_MAY_DIFFER = (
    # say which images
    *("fold", "data"),
    # change no result
    *("workers", "device", "parallel", "save_every", "keep_checkpoints", "max_nonfinite", "max_unreadable", "track"),
)
"""Options that the runs of a cross-validation may have of their own."""


def resumed_config(
    kind: type[Config], data: str, out: Path, given: dict[str, Any], recipe: str | None = None
) -> Config:
    """The config of the run at `out`. `InputError` where `data`, `given` or the name of a recipe contradict it."""
    run = Run.reopen(out)
    try:
        stored = kind.from_dict(run.read_config())
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{out / 'config.json'} is damaged: {error}") from error
    config = dataclasses.replace(stored.override(given), recipe=recipe or stored.recipe)
    refuse_changes(out, stored, config)
    return dataclasses.replace(config, data=data)  # which may have been moved; the trainer knows whether they changed


def refuse_changes(out: Path, stored: TrainConfig, config: TrainConfig) -> None:
    """`InputError` where options of the run at `out` are others than those it was begun with, but for such that may
    change."""
    for name, value in config.to_dict().items():
        before = getattr(stored, name)
        # A batch that was made smaller to fit the images will be again; `train` compares what comes of it.
        if value != before and name not in (*RESUME_MAY_CHANGE, "batch_size"):
            allowed = ", ".join(map(flag_of, RESUME_MAY_CHANGE))
            raise InputError(f"{_difference(out, stored, config, name)}; --resume changes only {allowed}")


def refuse_other_fold(run: Path, stored: TrainConfig, wanted: TrainConfig, images: int) -> None:
    """`InputError` where the run of a fold, of so many training images, was begun otherwise than the others are to be
    trained: their mean would be of no recipe."""
    batch = min(wanted.batch_size, images)
    fitting = (batch, batch - batch % 2)  # as `fit_batch` has it, the second where images are mixed in pairs
    for name, value in wanted.to_dict().items():
        before = getattr(stored, name)
        if value != before and name not in FOLDS_MAY_DIFFER and not (name == "batch_size" and before in fitting):
            raise InputError(
                f"{_difference(run, stored, wanted, name)}: all folds are trained alike; give the same options, or "
                "--overwrite"
            )


def _difference(run: Path, stored: TrainConfig, wanted: TrainConfig, name: str) -> str:
    """A sentence on an option of a run, as the command line has it, that is another now."""
    kind = stored.types()[name]
    before, value = (to_text(getattr(config, name), kind) for config in (stored, wanted))
    return f"{run} was begun with {flag_of(name)} {before}, not {value}"


def resolve_resume(out: Path, resume: bool | str, overwrite: bool) -> tuple[bool, bool]:
    """Whether to resume and to overwrite: "auto" resumes where there is a checkpoint, else starts anew.

    All processes do what the first one sees.
    """
    if resume != "auto":
        return bool(resume), overwrite
    resumable, begun, ended = distributed.gather(
        (Run(out).can_resume(), (out / "config.json").is_file(), (out / "result.json").is_file())
    )[0]
    if ended and not resumable and not overwrite:
        raise InputError(f"{out} has ended, and its checkpoints are gone: choose another --out, or --overwrite")
    return resumable, overwrite or (begun and not resumable)
