"""The file of the container: what it names is there, and its steps give a server that becomes ready."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from containerfile import ContainerFile, on_path
from packaging.specifiers import SpecifierSet
from serving import Server

import convnext
from convnext.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILE = ContainerFile(ROOT / "Containerfile")


def test_what_the_file_names_is_there() -> None:
    (base,) = FILE.steps["FROM"]
    assert base.removeprefix("python:").removesuffix("-slim") in SpecifierSet(PROJECT["requires-python"])
    assert set(FILE.arguments["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    copied = {name for step in FILE.steps["COPY"] for name in step.split()[:-1]}
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} == copied
    assert all((ROOT / name).exists() for name in copied)  # and no run, no data, no cache
    assert list(FILE.steps).index("USER") < list(FILE.steps).index("ENTRYPOINT")
    assert FILE.steps["USER"] == ["convnext"]


def test_its_command_serves_where_it_says() -> None:
    program, *words = FILE.command
    assert program in PROJECT["scripts"]
    asked = build_parser().parse_args(words)
    assert (asked.host, asked.sources, asked.samples) == ("0.0.0.0", ["/model"], None)
    assert FILE.steps["EXPOSE"] == [str(asked.port)]
    assert f"http://127.0.0.1:{asked.port}/health" in FILE.words("HEALTHCHECK")[-1]


def test_the_health_check_asks_a_server(run: Path) -> None:
    with Server(run, "--workers", 1, "--device", "cpu", CONVNEXT_TOKEN="s3cret") as running:
        assert is_healthy(running, Path(sys.executable).parent)
        running.stop()
        assert not is_healthy(running, Path(sys.executable).parent)


def is_healthy(server: Server, programs: Path) -> bool:
    """What the file's health check says of a server on another port."""
    command = [word.replace("127.0.0.1:8000", server.url.partition("//")[2]) for word in FILE.words("HEALTHCHECK")]
    done = subprocess.run(command, env=on_path(programs), capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1)
    return done.returncode == 0


@pytest.mark.heavy
def test_its_steps_give_a_server_that_becomes_ready(run: Path, colours: Path, tmp_path: Path) -> None:
    """In an environment of its own, with what the declared extras ask for; no image is built."""
    programs = FILE.installed(tmp_path, f"convnext[{FILE.arguments['EXTRAS']}]")
    command = [str(run) if word == "/model" else word for word in FILE.command]
    host = ["--host", "127.0.0.1"]  # of the test: nobody else shall ask it
    image = min((colours / "val").rglob("*.png"))
    with Server(*host, command=command, folder=tmp_path, CONVNEXT_TOKEN="s3cret", **on_path(programs)) as running:
        running.wait_for_workers(1)
        assert is_healthy(running, programs)
        assert running.post("/v1/predict", image.read_bytes()).status_code == 401
        running.client.headers["Authorization"] = "Bearer s3cret"
        found = running.post("/v1/predict", image.read_bytes()).json()["answers"]
        assert found == [{"labels": convnext.load(run)(image)}]
        assert running.stop() == 0
