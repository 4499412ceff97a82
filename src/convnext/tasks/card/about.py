"""Facts of a model that only a person knows: `about.yaml` beside its data or in its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.errors import InputError

ABOUT = "about.yaml"
FIELDS = {
    "developer": "who trained it",
    "funder": "who paid for it",
    "contact": "where questions go",
    "purpose": "what it is for",
    "out_of_scope": "what it is not to be used for",
    "license": "of the weights, by the Hub's name, such as mit",
    "data_source": "where the images come from, and who labelled them",
    "data_license": "of the images",
    "data_citation": "of the images, as BibTeX",
    "provider": "where it was trained: a cloud's name and region, or own hardware",
    "watts": "power of the machine at work",
    "carbon_intensity": "grams of CO₂ for a kilowatt-hour there",
}
"""Fields of the file, all of which may be left out."""


def read_about(run: Path, data: str) -> dict[str, Any]:
    """The fields of the run's file, then those of the file beside the data that it leaves out.

    `InputError` for a file that is no YAML mapping, or has other fields.
    """
    found: dict[str, Any] = {}
    place = Path(data)
    for folder in (run, place if place.is_dir() else place.parent):
        path = folder / ABOUT
        if path.is_file():
            found = {**_read(path), **found}
    return found


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not a YAML file that can be read: {str(error).splitlines()[0]}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected fields and values, such as `developer: A name`")
    unknown = [str(name) for name in content if name not in FIELDS]
    if unknown:
        raise InputError(f"{path} has a field '{unknown[0]}'; there are {', '.join(FIELDS)}")
    return content
