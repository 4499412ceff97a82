"""Environments of Python that hold what a package declares and nothing else, made without a network.

What is in them is linked from the environment of the tests, so that making one takes seconds.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import venv
from collections import Counter
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement


def closure(*requirements: str) -> list[Distribution]:
    """The installed distributions that requirements ask for, and those that these ask for in turn."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        asked = waiting.pop()
        own = distribution(asked.name)
        found[own.name] = own
        for extra in {"", *asked.extras}:
            if (own.name, extra) in done:
                continue
            done.add((own.name, extra))
            inner = [Requirement(text) for text in own.requires or []]
            waiting += [each for each in inner if each.marker is None or each.marker.evaluate({"extra": extra})]
    return [found[name] for name in sorted(found)]


def fresh_environment(folder: Path, *requirements: str, without: str = "") -> Path:
    """Make an environment in a folder, with pip and what the requirements ask for; returns its Python.

    Args:
        folder: a new one.
        requirements: of distributions that the environment of the tests has.
        without: a distribution that is left out, whose own requirements are there.
    """
    venv.create(folder, with_pip=True)
    (place,) = folder.glob("lib/python*/site-packages")
    for other in place.iterdir():  # setuptools, which comes with it before 3.12
        if not other.name.startswith("pip"):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    here = Path(sysconfig.get_path("purelib"))
    holders = Counter(top for own in distributions(path=[str(here)]) for top in tops(own))
    for own in closure(*requirements):
        if own.name == without:
            continue
        for top in tops(own):
            if holders[top] == 1:
                (place / top).symlink_to(here / top)
        for file in own.files or []:
            if file.parts[0] != ".." and holders[file.parts[0]] > 1 and not (place / file).exists():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).symlink_to(here / file)
    return folder / "bin" / Path(sys.executable).name


def tops(own: Distribution) -> set[str]:
    """The names in the environment's folder of packages that a distribution has a part in."""
    return {file.parts[0] for file in own.files or [] if file.parts[0] not in ("..", "__pycache__")}
