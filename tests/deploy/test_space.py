"""`convnext space`: the folder of a demo, for every task, and that its own command answers as the run does."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from containerfile import ContainerFile, on_path
from making import copied, fails, names_in
from PIL import Image
from serving import Server
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.cli.parser import build_parser
from convnext.deploy.serve.samples import MOST_SAMPLES
from convnext.deploy.space.folder import FILE_LIST
from convnext.runs.directory import CHARTS
from convnext.runs.lock import locked
from convnext.weights.files import store_meta

WHEEL = f"convnext-{convnext.__version__}-py3-none-any.whl"
FIXED = {"README.md", "Dockerfile", "requirements.txt", FILE_LIST, WHEEL}
LICENCE = "FAIR-Noncommercial-Research"


@pytest.fixture(scope="module")
def space(run: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Space of a classifier, with samples."""
    out = tmp_path_factory.mktemp("spaces") / "mine"
    done = convnext.write_space(run, out, **how_of(colours))
    assert done.files == {name: (out / name).stat().st_size for name in names_in(out)}
    return out


def how_of(colours: Path) -> dict[str, Any]:
    return {"title": "Colours: a demo", "samples": colours / "val" / "red", "model": "someone/colours"}


def metadata_of(card: Path) -> dict[str, Any]:
    return yaml.safe_load(card.read_text().split("---\n")[1])


def check_folder(space: Path, run: Path, data: Path) -> None:
    """That a Space without samples holds what it needs, and nothing of the data."""
    names = names_in(space)
    assert names >= FIXED | {"model/README.md", "model/config.json", "model/model.safetensors"}
    assert {name.split("/")[0] for name in names} == FIXED | {"model"}
    assert (space / "model" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    pictures = {Path(name).name for name in names if name.endswith(".png")}
    assert pictures <= CHARTS
    texts = [(space / name).read_text() for name in names if Path(name).suffix in {".md", ".json", ".txt"}]
    assert not any(str(place.parent) in text for text in texts for place in (run, data))
    metadata, card = metadata_of(space / "README.md"), metadata_of(space / "model" / "README.md")
    assert (metadata["title"], metadata["sdk"], metadata["app_port"]) == (run.name, "docker", 7860)
    assert metadata["tags"] == card["tags"]
    assert "models" not in metadata


def test_the_folder_holds_what_a_space_needs(run: Path, colours: Path, tmp_path: Path) -> None:
    assert cli.main(["space", str(run), "--out", str(tmp_path / "out")]) == 0
    check_folder(tmp_path / "out", run, colours)


def test_its_metadata_and_command_are_the_run_s(space: Path, colours: Path) -> None:
    metadata = metadata_of(space / "README.md")
    assert (metadata["title"], metadata["models"]) == ("Colours: a demo", ["someone/colours"])
    file = ContainerFile(space / "Dockerfile")
    asked = build_parser().parse_args(file.command[1:])
    assert asked.sources == ["colours=model"]
    assert (asked.host, asked.port, asked.samples) == ("0.0.0.0", metadata["app_port"], Path("samples"))
    assert file.steps["EXPOSE"] == [str(metadata["app_port"])]
    assert file.steps["USER"] == ["user"]
    images = {path.name: path.read_bytes() for path in (colours / "val" / "red").iterdir()}
    assert {path.name: path.read_bytes() for path in (space / "samples").iterdir()} == images


def test_pictures_of_the_data_are_left_out(run: Path, tmp_path: Path) -> None:
    mine = copied(run, tmp_path / "mine")
    for name in ("mistakes.png", "curves.png"):
        Image.new("RGB", (2, 2)).save(mine / name)
    (mine / "README.md").write_text("# Card\n\n![a](mistakes.png) ![b](curves.png)\n")
    done = convnext.write_space(mine, tmp_path / "out")
    assert done.notes == ["left out: mistakes.png shows images of the data"]
    assert {name for name in done.files if name.endswith(".png")} == {"model/curves.png"}
    assert "mistakes" not in (tmp_path / "out" / "model" / "README.md").read_text()


def test_a_licence_is_carried_over(run: Path, tmp_path: Path) -> None:
    mine = copied(run, tmp_path / "my run!")
    store_meta(mine / "model.safetensors", {"licence": LICENCE})
    convnext.write_space(mine, tmp_path / "out")
    expected = {"license": "other", "license_name": "fair-noncommercial-research-license"}
    for card in ("README.md", "model/README.md"):
        assert metadata_of(tmp_path / "out" / card).items() >= expected.items()
    assert f"The weights are licensed {LICENCE}: for noncommercial research" in (tmp_path / "out/README.md").read_text()
    assert ContainerFile(tmp_path / "out" / "Dockerfile").command[2] == "my-run=model"  # a name that serve takes


def test_the_wheel_is_this_package(space: Path) -> None:
    assert (space / "requirements.txt").read_text() == f"./{WHEEL}[serve,export]\n"
    package = Path(convnext.__file__).parent
    sources = [path for path in package.rglob("*") if path.suffix in {".py", ".c", ".cu", ".html"}]
    with ZipFile(space / WHEEL) as wheel:
        names = wheel.namelist()
        for path in nonempty(sources):
            assert wheel.read(f"convnext/{path.relative_to(package).as_posix()}") == path.read_bytes()
        assert not [name for name in names if "__pycache__" in name]
        (record,) = (name for name in names if name.endswith("/RECORD"))
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
        assert [row[0] for row in rows] == names
        for name, digest, size in rows[:-1]:
            content = wheel.read(name)
            sha = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={sha}", len(content))


def test_the_same_run_gives_the_same_bytes(space: Path, run: Path, colours: Path, tmp_path: Path) -> None:
    again = convnext.write_space(run, tmp_path / "again", **how_of(colours)).folder
    assert {name: (again / name).read_bytes() for name in names_in(again)} == {
        name: (space / name).read_bytes() for name in names_in(space)
    }


@contextmanager
def served(space: Path, run: Path, image: Path, programs: dict[str, str]) -> Iterator[Server]:
    """What a Space starts, where it does, but for the address; its answer about an image is held against the run's."""
    command = ContainerFile(space / "Dockerfile").command
    with Server(run, "--workers", 1) as server:
        expected = answer_of(server, image)
    with Server("--host", "127.0.0.1", "--workers", 1, command=command, folder=space, **programs) as server:
        assert answer_of(server, image) == expected
        yield server


def answer_of(server: Server, image: Path) -> dict[str, Any]:
    """What the only model of a server says of an image."""
    (model,) = server.client.get("/v1/models").json()["models"]
    answer = server.post(f"/v1/{model['answers'][0]}", image.read_bytes())
    assert answer.status_code == 200
    return {name: value for name, value in answer.json().items() if name not in ("model", "milliseconds")}


def test_its_own_command_answers_as_the_run_does(space: Path, run: Path, colours: Path) -> None:
    red = sorted((colours / "val" / "red").iterdir())
    with served(space, run, red[0], on_path()) as server:
        assert server.client.get("/v1/samples").json()["samples"] == [path.name for path in red]
        assert server.client.get("/v1/models/colours/card").text == (space / "model" / "README.md").read_text()
        policy = server.client.get("/").headers["content-security-policy"]
        assert policy.endswith("; frame-ancestors https://huggingface.co")  # else the Hub could not show it
        assert server.stop() == 0


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["detect", "segment", "depth", "pretrain"])
def test_spaces_of_the_other_tasks_answer(task: str, trained, colours: Path, tmp_path: Path) -> None:
    run, images = trained.get(task, (tmp_path / "pretrain", sorted(colours.rglob("*.png"))))
    if task == "pretrain":
        options = ["--image-size", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0", "--decoder-dim", "32"]
        assert cli.main(["pretrain", str(colours / "train"), "--out", str(run), *options]) == 0
    space = convnext.write_space(run, tmp_path / "out").folder
    check_folder(space, run, images[0].parent)
    with served(space, run, images[0], on_path()):
        pass


@pytest.mark.heavy
def test_its_steps_give_a_server_in_an_environment_of_its_own(
    space: Path, run: Path, colours: Path, tmp_path: Path
) -> None:
    """Of what the declared extras ask for, and this package from the Space's own wheel; no image is built."""
    programs = ContainerFile(space / "Dockerfile").installed(tmp_path, "convnext[serve,export]")
    with served(space, run, min((colours / "val").rglob("*.png")), on_path(programs)):
        pass


def test_an_old_space_is_replaced_and_nothing_else(
    space: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(space, mine)
    assert "exists already; name a new folder" in fails(capsys, "space", run, "--out", mine)
    capsys.readouterr()
    assert cli.main(["space", str(run), "--out", str(mine), "--overwrite", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["folder"] == str(mine)
    assert done["files"].keys() == names_in(mine)
    assert not (mine / "samples").exists()
    (mine / ".git").mkdir()
    for other, held in ((mine, ".git"), (copied(run, tmp_path / "run"), "batches.png")):
        line = fails(capsys, "space", run, "--out", other, "--overwrite")
        assert f"{other} is no Space that was written here: it holds '{held}'" in line
    assert (mine / ".git").is_dir()


@pytest.mark.parametrize("held", ["samples/mine.txt", "model/train.py", "model/more/deep.txt", "notes.whl"])
def test_a_file_of_somebody_s_own_keeps_a_space(
    held: str, space: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = copied(space, tmp_path / "mine")
    (mine / held).parent.mkdir(exist_ok=True)
    (mine / held).write_text("mine")
    before = names_in(mine)
    first = "model/more" if "more" in held else held
    line = fails(capsys, "space", run, "--out", mine, "--overwrite")
    assert f"{mine} is no Space that was written here: it holds '{first}'; name a new folder" in line
    assert names_in(mine) == before


def test_a_project_with_the_names_of_a_space_is_none(
    space: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One of somebody's own, one whose Dockerfile is, and one that says nothing of its files."""
    project = tmp_path / "project"
    for name in ("Dockerfile", "README.md", "requirements.txt", "model/train.py", "samples/mine.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    own, bare = copied(space, tmp_path / "own"), copied(space, tmp_path / "bare")
    (own / "Dockerfile").write_text("FROM scratch\n")
    (bare / FILE_LIST).unlink()
    for folder in (project, own, bare):
        before = names_in(folder)
        assert "is no Space that was written here" in fails(capsys, "space", run, "--out", folder, "--overwrite")
        assert names_in(folder) == before


def test_what_cannot_be_a_space_is_a_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert "is not a run" in fails(capsys, "space", tmp_path / "empty", "--out", out)
    assert "is not a run" in fails(capsys, "space", "convnextv2_atto", "--out", out)
    assert "no such folder" in fails(capsys, "space", run, "--out", out, "--samples", tmp_path / "none")
    assert "empty holds no image that browsers show" in fails(
        capsys, "space", run, "--out", out, "--samples", tmp_path / "empty"
    )
    assert "'colours' names no repository of models" in fails(capsys, "space", run, "--out", out, "--model", "colours")
    assert "cannot write" in fails(capsys, "space", run, "--out", tmp_path / "none" / "out")
    with locked(run):
        assert "is being trained; publish it when it has ended" in fails(capsys, "space", run, "--out", out)
    stopped = copied(run, tmp_path / "stopped")
    (stopped / "README.md").unlink()
    assert "has not ended: end its training with --resume" in fails(capsys, "space", stopped, "--out", out)
    assert names_in(tmp_path) == {f"stopped/{name}" for name in names_in(stopped)}


def test_samples_are_those_that_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine, many = copied(run, tmp_path / "run"), tmp_path / "many"
    for folder, count in ((mine / "samples", 1), (many, MOST_SAMPLES + 2)):
        folder.mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(folder / f"{number:02}.png")
    (many / "notes.txt").touch()
    assert cli.main(["space", str(mine), "--out", str(tmp_path / "none")]) == 0
    assert f"left out: {mine / 'samples'}; --samples names a folder" in capsys.readouterr().err
    assert not (tmp_path / "none" / "samples").exists()
    assert cli.main(["space", str(mine), "--out", str(tmp_path / "some"), "--samples", str(many)]) == 0
    said = capsys.readouterr()
    assert f"left out: 2 samples after the first {MOST_SAMPLES}" in said.err
    assert f"hf upload ORG/NAME {tmp_path / 'some'} --repo-type space" in said.out
    assert names_in(tmp_path / "some" / "samples") == {f"{number:02}.png" for number in range(MOST_SAMPLES)}
