"""`convnext push`, against a hub of the tests' own: what is sent, what libraries open there, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import LARGE, Hub, Repository, environment, served_hub, talk_to
from making import copied, fails, names_in
from PIL import Image

import convnext
from convnext import cli

NAME = "someone/colours"
PUSH = "import sys; from convnext import cli; sys.exit(cli.main(sys.argv[1:]))"

OPEN = """
import sys, timm, torch, transformers, convnext
images = torch.randn(2, 3, 32, 32)
with torch.inference_mode():
    own = convnext.load(sys.argv[1], device="cpu", backend="torch").model(images)
    one = transformers.AutoModelForImageClassification.from_pretrained("someone/hf").eval()(images).logits
    other = timm.create_model("hf-hub:someone/timm", pretrained=True).eval()(images)
    print((one - own).abs().max().item(), (other - own).abs().max().item())
"""
"""Prints the largest differences of logits, of transformers and of timm, from those of a run."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process talks to, logged in."""
    with served_hub() as hub:
        talk_to(hub, tmp_path / "cache", monkeypatch)
        yield hub


def test_a_run_is_pushed_and_answers_from_there(
    run: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    assert cli.main(["push", str(run), NAME, "--private"]) == 0
    said = capsys.readouterr()
    assert f"{hub.address}/{NAME}: commit " in said.out
    assert f'transformers.pipeline("image-classification", model="{NAME}")' in said.out
    repository = hub.repositories[NAME]
    assert repository.private
    assert repository.commits == ["initial commit", f"Push by convnext {convnext.__version__}"]
    written = tmp_path / "written"
    convnext.push(run, NAME, dry_run=True, out=written)
    pushed = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert pushed == {name: (written / name).read_bytes() for name in names_in(written)}
    assert not list(run.glob(".hub*"))  # the folder is gone

    image = Image.effect_noise((50, 40), 80).convert("RGB")
    answer = convnext.load(run, device="cpu")(image)
    there = convnext.load(f"hf:{NAME}", device="cpu")
    assert there(image) == answer
    assert there.classes == ["blue", "green", "red"]


@pytest.mark.heavy
def test_the_libraries_open_it_by_its_name(atto_run: Path, tmp_path: Path) -> None:
    with served_hub() as hub:
        surroundings = {**os.environ, **environment(hub, tmp_path / "cache")}
        for layout in ("hf", "timm"):
            command = [sys.executable, "-c", PUSH, "push", str(atto_run), f"someone/{layout}", "--layout", layout]
            subprocess.run(command, env=surroundings, check=True, capture_output=True)
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(atto_run)], env=surroundings, check=True, capture_output=True, text=True
        )
    assert max(map(float, done.stdout.split())) <= 1e-5


def test_an_upload_that_dies_goes_on(run: Path, tmp_path: Path) -> None:
    """Killed while the second of two large files is sent, the next push sends that one alone; by HF_ENDPOINT."""
    mine = copied(run, tmp_path / "mine")
    Image.effect_noise((400, 400), 90).save(mine / "curves.png")
    with served_hub() as hub:
        first_is_stored, started = threading.Event(), []

        def wait_and_kill() -> None:
            started.append(len(started))
            if started[-1] == 0:
                return
            while not hub.sent:
                first_is_stored.wait(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()

        hub.before_object = wait_and_kill
        surroundings = {**os.environ, **environment(hub, tmp_path / "cache")}
        process = subprocess.Popen([sys.executable, "-c", PUSH, "push", str(mine), NAME], env=surroundings)
        assert process.wait() == -signal.SIGKILL
        assert len(hub.sent) == 1
        assert hub.repositories[NAME].commits == ["initial commit"]

        hub.before_object = lambda: None
        done = subprocess.run(
            [sys.executable, "-c", PUSH, "push", str(mine), NAME, "--json"],
            env=surroundings,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        large = [name for name, size in json.loads(done.stdout)["files"].items() if size > LARGE]
        assert {"model.safetensors", "curves.png"} <= set(large)
        assert len(hub.sent) == len(set(hub.sent)) == len(large)
        assert len(hub.repositories[NAME].commits) == 2


def test_a_second_push_sends_what_has_changed(
    run: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = copied(run, tmp_path / "mine")
    first = convnext.push(mine, NAME)
    count = len(hub.sent)
    assert convnext.push(mine, NAME).notes[-1] == "nothing has changed since the last commit"
    repository = hub.repositories[NAME]
    assert len(repository.commits) == 2
    with open(mine / "README.md", "a") as file:
        file.write("One line more.\n")
    second = convnext.push(mine, NAME)
    assert second.commit != first.commit
    assert len(repository.commits) == 3
    assert repository.files["README.md"].endswith(b"One line more.\n")
    assert len(hub.sent) == count
    repository.files["mine.txt"] = b"somebody's own"
    convnext.push(mine, NAME, layout="timm")
    assert "preprocessor_config.json" not in repository.files  # which would tell transformers of another layout
    assert repository.files["mine.txt"] == b"somebody's own"


def test_a_hub_without_xet_is_a_line_that_says_what_to_set(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("hf_xet", reason="hf_xet is not on every platform")
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.refuse = lambda path: (404, "Not found") if "xet-write-token" in path else None
    line = fails(capsys, "push", run, NAME)
    assert line.endswith("; one without Xet needs HF_HUB_DISABLE_XET=1; the same command sends what is missing")
    assert not hub.sent


@pytest.mark.parametrize(
    ("path", "status", "message", "reason"),
    [
        ("/api/repos/create", 401, "Invalid username or password.", "the Hub refuses the token (Invalid username"),
        (
            "/api/repos/create",
            403,
            "No rights here",
            "the token has no right to write there (No rights here);",
        ),
        ("/preupload/", 403, "Read-only token", "take one with write access to someone"),
        ("/commit/", 412, "A commit has happened since", "the repository is being changed (A commit has happened"),
        ("/objects/batch", 400, "Too large", "the Hub answers 400 (Too large)"),
    ],
)
def test_what_the_hub_refuses_is_a_line(
    path: str, status: int, message: str, reason: str, run: Path, hub: Hub, capsys: pytest.CaptureFixture
) -> None:
    hub.refuse = lambda asked: (status, message) if path in asked else None
    line = fails(capsys, "push", run, NAME)
    assert f"cannot push to {NAME}: " in line
    assert reason in line
    assert ("the same command sends what is missing" in line) == (status == 412)
    assert "model.safetensors" not in {name for repository in hub.repositories.values() for name in repository.files}
    assert not list(run.glob(".hub*"))


def test_a_wrong_token_is_refused(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    line = fails(capsys, "push", run, NAME)
    assert "log in again: `hf auth login`, or HF_TOKEN" in line
    assert "hf_wrong" not in line
    assert not hub.repositories


def test_without_network_or_login_nothing_is_written(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "no network? (" in fails(capsys, "push", run, NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fails(capsys, "push", run, NAME).endswith("HF_HUB_OFFLINE is set")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "nobody is logged in; `hf auth login` does it, or HF_TOKEN" in fails(capsys, "push", run, NAME)
    assert not list(run.glob(".hub*"))


def test_a_repository_of_another_kind_is_left_alone(run: Path, hub: Hub, capsys: pytest.CaptureFixture) -> None:
    other = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"words"}
    hub.repositories["someone/words"] = Repository(files=dict(other))
    assert "someone/words holds another model (bert)" in fails(capsys, "push", run, "someone/words")
    assert hub.repositories["someone/words"].files == other
    hub.repositories[NAME] = Repository()
    assert f"{NAME} is there and public" in fails(capsys, "push", run, NAME, "--private")
    assert not hub.repositories[NAME].files
    for name in ("datasets/someone/colours", "colours", "https://x.org/a/b", "a b/c"):
        assert f"'{name}' names no repository of models; the form is ORG/NAME" in fails(capsys, "push", run, name)
