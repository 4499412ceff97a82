"""Container files, as far as tests can follow them without an image builder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from fresh import fresh_environment


class ContainerFile:
    """Steps of a container file.

    Args:
        path: the file; what it copies lies beside it.
    """

    def __init__(self, path: Path) -> None:
        lines = path.read_text().replace("\\\n", " ").splitlines()
        self.path = path
        self.steps: dict[str, list[str]] = defaultdict(list)
        """What stands behind each instruction, in order."""
        for line in lines:
            if line.strip() and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                self.steps[word].append(rest.strip())

    def words(self, instruction: str) -> list[str]:
        """The last one of an instruction, which is a list in JSON."""
        text = self.steps[instruction][-1] if self.steps[instruction] else "[]"
        return json.loads(text[text.index("[") :])

    @property
    def command(self) -> list[str]:
        """What a container runs."""
        return self.words("ENTRYPOINT") + self.words("CMD")

    @property
    def arguments(self) -> dict[str, str]:
        """The build arguments that have a value."""
        pairs = (step.partition("=") for step in self.steps["ARG"])
        return {name: value for name, equals, value in pairs if equals}

    def installed(self, folder: Path, *requirements: str) -> Path:
        """Run the steps that call pip, in a new environment that holds what the requirements ask for, but this package;
        returns the environment's folder of programs.

        No index is asked: what pip finds missing is an error.
        """
        python = fresh_environment(folder / "environment", *requirements, "hatchling", without="convnext")
        place = folder / "copied"
        place.mkdir()
        for step in self.steps["COPY"]:
            *sources, _ = step.split()
            named = [each for each in sources if each != "."]  # all that is beside the file, which pip asks not for
            for source in (found for each in named for found in self.path.parent.glob(each)):
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, place / source.name)
        calls = [step for step in self.steps["RUN"] if step.startswith("pip ")]
        assert calls
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        for call in calls:
            environment = {**os.environ, **self.arguments, **offline, **on_path(python.parent)}
            done = subprocess.run(call, shell=True, cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        return python.parent


def on_path(programs: Path = Path(sys.executable).parent) -> dict[str, str]:
    """The environment variable by which programs in a folder are found first."""
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
