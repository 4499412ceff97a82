"""`convnext.write_space`: the folder of a Space, which holds all that a demo of a run needs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from convnext.deploy.push.folder import OWN_LAYOUT, ended_run, sizes_in, write_hub_card, write_own
from convnext.deploy.push.upload import named_repository
from convnext.deploy.serve.samples import MOST_SAMPLES, SAMPLE_SUFFIXES, samples_in
from convnext.deploy.space.wheel import write_wheel
from convnext.errors import InputError
from convnext.printing import counted, quoted, to_json
from convnext.runs.directory import parsed, read_text
from convnext.storage.files import whole_folder
from convnext.tasks.card.metadata import base_model
from convnext.tasks.card.write import CARD_FILE
from convnext.weights import read_meta
from convnext.weights.licences import licence_in_words

PORT = 7860
"""Port that the Hub asks a Space on, where its card says no other."""
FILE_LIST = "space.json"
"""Names of the files that were written into a Space, as a list under `files`: what else it holds is somebody's own."""
SIGN = "Written by `convnext space`."
"""Words in a Space's Dockerfile, by which it is known."""
_DOCKERFILE = """\
# Serves the model in model/, with a page to try it on. {sign}
FROM python:3.11-slim
# A further package index, such as PyTorch's of wheels for CPUs; the ordinary ones are for GPUs, and gigabytes larger.
ARG PIP_EXTRA_INDEX_URL
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app
COPY requirements.txt *.whl ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
USER user
EXPOSE {port}
CMD {command}
"""
_README = """\
# {title}

A page to try [a model](model/{card}) on, by `convnext serve`. Programs ask it too: `/openapi.json` says how. Images
that are given to it are answered about and not kept.
{licence}
`docker build -t demo .` and `docker run -p {port}:{port} demo` run the same elsewhere. The build argument
`PIP_EXTRA_INDEX_URL`, which on the Hub is a variable of the Space, names a further package index, such as PyTorch's of
wheels for CPUs.
"""


class Space(NamedTuple):
    """Result of `write_space`: the folder, sizes of its files in bytes by name, and lines on what was left out or
    changed."""

    folder: Path
    files: dict[str, int]
    notes: list[str]


def write_space(
    run: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    samples: str | Path | None = None,
    model: str | None = None,
    overwrite: bool = False,
) -> Space:
    """Write a folder that runs as a demo on the Hugging Face Hub, a Space of Docker's kind: a page to try a run on.

    It holds the run's last weights and card, this package as a wheel, and how they are started. Pictures of the card
    that may show images of the data are left out, and so are data, checkpoints and logs.

    Args:
        run: a run that has ended, of any task.
        out: a new or empty folder.
        title: of the Space; None: the run's name.
        samples: a folder of images that the page offers; None: it offers none.
        model: the run's repository on the Hub, `ORG/NAME`, which the Space then names; None: that of the weights that
            the run started from, where they are on the Hub.
        overwrite: take the place of a folder that this function wrote.

    Raises:
        InputError: no run, or one that has not ended; a folder without images; a repository's name that is none; or a
            place that is taken or cannot be written.
    """
    path, place = Path(run), Path(out)
    summary = ended_run(path)
    offered = _samples(Path(samples)) if samples is not None else []
    named = model and named_repository(model)
    if overwrite and place.exists():
        _check_is_space(place)
    with whole_folder(place, replace=overwrite) as folder:
        wheel = write_wheel(folder)
        (folder / "requirements.txt").write_text(f"./{wheel}[serve,export]\n", encoding="utf-8")
        (folder / "model").mkdir()
        write_own(path, folder / "model")
        notes = write_hub_card(path, folder / "model", OWN_LAYOUT, galleries=False)
        notes += _copy(offered, folder / "samples")
        if not offered and (path / "samples").is_dir():
            notes.append(f"left out: {path / 'samples'}; --samples names a folder of images that everybody may see")
        command = _command(path.resolve().name, bool(offered))
        steps = _DOCKERFILE.format(sign=SIGN, port=PORT, command=json.dumps(command))
        (folder / "Dockerfile").write_text(steps, encoding="utf-8")
        repository = named or base_model(str(summary.options.get("init") or ""))
        text = _readme(folder / "model", title or path.resolve().name, repository, read_meta(path))
        (folder / CARD_FILE).write_text(text, encoding="utf-8")
        names = sorted([*sizes_in(folder), FILE_LIST])
        (folder / FILE_LIST).write_text(to_json({"files": names}, 2) + "\n", encoding="utf-8")
    return Space(place, sizes_in(place), notes)


def _samples(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    if not (found := samples_in(folder)):
        raise InputError(f"{folder} holds no image that browsers show: {', '.join(SAMPLE_SUFFIXES)}")
    return found


def _copy(offered: list[Path], folder: Path) -> list[str]:
    """Copy images into a new folder, as many as a page offers; returns lines on what was left out."""
    if offered:
        folder.mkdir()
    for image in offered[:MOST_SAMPLES]:
        shutil.copyfile(image, folder / image.name)
    left = len(offered) - MOST_SAMPLES
    return [f"left out: {counted(left, 'sample')} after the first {MOST_SAMPLES}"] if left > 0 else []


def _command(name: str, has_samples: bool) -> list[str]:
    """The Space's command."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model"
    words = ["convnext", "serve", f"{plain}=model", "--host", "0.0.0.0", "--port", str(PORT)]
    words += ["--framed-by", "https://huggingface.co"]  # whose page shows a Space in a frame
    return [*words, "--samples", "samples"] if has_samples else words


def _readme(model: Path, title: str, repository: str | None, meta: Mapping[str, Any]) -> str:
    """The Space's card: its metadata, of which the licence is that of the model's card, and a word on what it is."""
    from huggingface_hub import ModelCard, SpaceCardData

    card = ModelCard((model / CARD_FILE).read_text(encoding="utf-8")).data.to_dict()
    metadata = SpaceCardData(
        title=title,
        emoji="🔎",
        colorFrom="blue",
        colorTo="green",
        sdk="docker",
        app_port=PORT,
        **{name: value for name, value in card.items() if name.startswith("license")},
        models=[repository] if repository else None,
        tags=card.get("tags"),
    )
    words = licence_in_words(meta)
    licence = f"\nThe weights are {words}.\n" if words else ""
    text = _README.format(title=title, card=CARD_FILE, licence=licence, port=PORT)
    return f"---\n{metadata.to_yaml()}\n---\n{text}"


def _check_is_space(folder: Path) -> None:
    """`InputError` for a folder that holds more than `write_space` wrote, which would be lost with it."""
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    listed = parsed(read_text(folder / FILE_LIST)).get("files")
    own = {Path(str(name)) for name in listed} if isinstance(listed, list) else set()
    own |= {Path(name) for name in (FILE_LIST, "Dockerfile", CARD_FILE, "requirements.txt")}
    own |= {parent for path in own for parent in path.parents}
    foreign = [path.relative_to(folder) for path in found if path.relative_to(folder) not in own]
    if found and not foreign and SIGN not in read_text(folder / "Dockerfile"):
        foreign = [path.relative_to(folder) for path in found]
    if foreign:
        raise InputError(
            f"{folder} is no Space that was written here: it holds {quoted(foreign[0].as_posix())}; name a new folder"
        )
