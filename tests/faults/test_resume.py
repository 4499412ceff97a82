"""What a run is resumed on, and from: the same data, wherever they lie, and a checkpoint that is whole."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from filelock import FileLock
from making import FAST, FAST_DETECT, FAST_SEGMENT, evaluated, fails, make_folder, make_objects, make_scenes
from PIL import Image
from safetensors.torch import load_file
from vacuous import nonempty

from convnext import cli
from convnext.runs.directory import OWN, Run
from convnext.runs.lock import locked
from convnext.tasks.card.write import write_card
from convnext.train.checkpoint import checkpoints
from convnext.train.trainer import Trainer

PRETRAIN = ["--image-size", "64", "--epochs", "2", "--batch-size", "8", "--workers", "0", "--probe-every", "2"]
TASKS: dict[str, tuple[Callable, list[str], list[str]]] = {
    "classify": (make_folder, ["train", "classify"], FAST),
    "pretrain": (make_folder, ["pretrain"], PRETRAIN),
    "detect": (make_objects, ["train", "detect"], FAST_DETECT),
    "segment": (make_scenes, ["train", "segment"], [*FAST_SEGMENT, "--ignore-index", "9"]),
}


@pytest.fixture(scope="module", params=TASKS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and a folder with its `data` and `run`."""
    make, command, options = TASKS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    make(root / "data")
    assert cli.main([*command, str(root / "data"), "--out", str(root / "run"), *options]) == 0
    return request.param, root


@pytest.fixture
def begun(finished: tuple[str, Path], tmp_path: Path) -> tuple[str, Path]:
    """The same in a folder of the test's own, the run stopped before its last epoch."""
    task, root = finished
    for name in ("data", "run"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.rmtree(checkpoints(tmp_path / "run" / "checkpoints")[-1])
    return task, tmp_path


def resume(task: str, data: Path, run: Path) -> list[object]:
    return [*TASKS[task][1], data, "--out", run, "--resume"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_moved_data_go_on(begun: tuple[str, Path], finished: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a relative path from another folder too; the result is that of the run that was not stopped."""
    task, root = begun
    (root / "data").rename(root / "moved")
    monkeypatch.chdir(root)
    assert cli.main([str(a) for a in resume(task, Path("moved"), Path("run"))]) == 0
    found, expected = (load_file(folder / "run" / "model.safetensors") for folder in (root, finished[1]))
    assert all(torch.equal(found[name], expected[name]) for name in nonempty(expected))


def first_image(data: Path) -> Path:
    return next(
        path for path in sorted(data.rglob("*.png")) if "train" in path.parts and "annotations" not in path.parts
    )


def test_other_data_are_refused_before_anything_is_written(
    begun: tuple[str, Path], capsys: pytest.CaptureFixture
) -> None:
    task, root = begun
    before = contents(root / "run")
    image = first_image(root / "data")
    with Image.open(image) as opened:
        size = opened.size
    Image.new("RGB", size, (1, 2, 3)).save(image)  # of another size on the disc
    said = fails(capsys, *resume(task, root / "data", root / "run"))
    assert "was begun on other data" in said
    assert "names, sizes or labels" in said
    assert contents(root / "run") == before


def test_fewer_images_are_counted(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    """Nothing was trained then, without a word."""
    task, root = begun
    image = first_image(root / "data")
    image.unlink()
    said = fails(capsys, *resume(task, root / "data", root / "run"))
    assert "training images, now" in said


def test_other_classes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The head's rows silently got other classes."""
    data = make_folder(tmp_path / "data")
    command = ["train", "classify", str(data), "--out", str(tmp_path / "run")]
    assert cli.main([*command, *FAST]) == 0
    shutil.rmtree(checkpoints(tmp_path / "run" / "checkpoints")[-1])
    for part in ("train", "val"):
        (data / part / "red").rename(data / part / "aaa")
    assert "classes that were there: red; that are new: aaa" in fails(capsys, *command, "--resume")


def test_another_tasks_command_says_so(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    task, root = begun
    other = "detect" if task != "detect" else "segment"
    said = fails(capsys, *resume(other, root / "data", root / "run"))
    assert f"was begun by `convnext {' '.join(TASKS[task][1])}`, which also resumes it" in said


def test_another_recipe_is_refused(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    """It was passed over without a word."""
    task, root = begun
    own = json.loads((root / "run" / "config.json").read_text())["recipe"]
    said = fails(capsys, *resume(task, root / "data", root / "run"), "--recipe", "digits")
    assert f"was begun with --recipe {own}, not digits" in said
    assert cli.main([*map(str, resume(task, root / "data", root / "run")), "--recipe", own]) == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "state"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, run = make_folder(tmp_path / "data"), tmp_path / "run"
    command = ["train", "classify", str(data), "--out", str(run)]
    assert cli.main([*command, *FAST]) == 0
    expected = load_file(run / "model.safetensors")
    last = checkpoints(run / "checkpoints")[-1]
    spoil(last, damage)
    assert cli.main([*command, "--resume"]) == 0
    assert f"{last} is damaged" in caplog.text
    assert "the one before is taken" in caplog.text
    found = load_file(run / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in nonempty(expected))


def test_a_damaged_checkpoint_is_none_of_those_that_are_kept(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sorts last: with one kept, those that were written before its step came again were deleted at once."""
    folder = tmp_path / "run" / "checkpoints"
    command = ["train", "classify", str(colours), "--out", str(tmp_path / "run")]
    assert cli.main([*command, *FAST, "--save-every", "1", "--keep-checkpoints", "9"]) == 0
    for checkpoint in (*checkpoints(folder)[:2], *checkpoints(folder)[3:5]):
        shutil.rmtree(checkpoint)
    third, sixth = checkpoints(folder)
    spoil(sixth, "flipped")
    left = contents(sixth)

    def die(trainer: Trainer) -> NoReturn:
        trainer.checkpoints.finish()
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "stop_if_told", die)
        with pytest.raises(RuntimeError, match="killed"):
            cli.main([*command, "--resume", "--keep-checkpoints", "1"])
    (fourth,) = checkpoints(folder)
    assert third.name < fourth.name < sixth.name
    assert contents(sixth.with_name(f"damaged-{sixth.name}")) == left
    assert cli.main([*command, "--resume"]) == 0


def spoil(checkpoint: Path, damage: str) -> None:
    file = next(checkpoint.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "flipped":
        content[-1000] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    else:
        (checkpoint / "state.json").write_text('{"epoch": 2}')


def test_all_checkpoints_damaged_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, run = make_folder(tmp_path / "data"), tmp_path / "run"
    command = ["train", "classify", str(data), "--out", str(run)]
    assert cli.main([*command, *FAST]) == 0
    for checkpoint in checkpoints(run / "checkpoints"):
        spoil(checkpoint, "flipped")
    assert "no checkpoint can be resumed" in fails(capsys, *command, "--resume")


def test_random_bytes_are_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Resumed exactly or refused in a line, never silently wrong: a byte anywhere, 30 times, or 100 in `make fuzz`."""
    data, run = make_folder(tmp_path / "data", train=3, val=1), tmp_path / "run"
    command = ["train", "classify", str(data), "--out", str(run)]
    assert cli.main([*command, *FAST, "--epochs", "1"]) == 0
    checkpoint = checkpoints(run / "checkpoints")[-1]
    draw = random.Random(0)
    for _ in range(100 if "CONVNEXT_FUZZ" in os.environ else 30):
        file = draw.choice(sorted(checkpoint.iterdir()))
        whole = file.read_bytes()
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        file.write_bytes(content)
        assert "no checkpoint can be resumed" in fails(capsys, *command, "--resume")
        file.write_bytes(whole)
    assert cli.main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.json", '{"recipe": "x"'), ("config.json", "[]"), ("config.json", '{"image_size": "x"}')],
)
def test_a_damaged_config_is_one_line(begun: tuple, capsys: pytest.CaptureFixture, name: str, text: str) -> None:
    task, root = begun
    (root / "run" / name).write_text(text)
    assert "config.json is damaged" in fails(capsys, *resume(task, root / "data", root / "run"))


def test_a_config_of_wrong_types_is_one_line(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    task, root = begun
    config = json.loads((root / "run" / "config.json").read_text())
    (root / "run" / "config.json").write_text(json.dumps({**config, "epochs": None}))
    assert "config.json is damaged" in fails(capsys, *resume(task, root / "data", root / "run"))


def test_damaged_logs_are_only_logs(begun: tuple[str, Path]) -> None:
    task, root = begun
    metrics = root / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-20] + b"\xff\0\n[]\n")
    (root / "run" / "nonfinite.jsonl").write_text('{"step": 1}\n{"st\n7\n')
    assert cli.main([str(a) for a in resume(task, root / "data", root / "run")]) == 0
    assert [row["epoch"] for row in Run(root / "run").rows()][-1] == 2


def test_overwrite_deletes_what_runs_write_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A folder of another program's, with a `config.json`, was emptied."""
    data, other = make_folder(tmp_path / "data"), tmp_path / "thesis"
    (other / "chapters").mkdir(parents=True)
    (other / "config.json").write_text('{"architectures": ["BertModel"]}')
    (other / "chapters" / "1.txt").write_text("x")
    command = ["train", "classify", str(data), *FAST, "--epochs", "1", "--overwrite", "--out"]
    before = contents(other)
    assert "is not a run; --overwrite replaces nothing else" in fails(capsys, *command, other)
    assert contents(other) == before
    run = tmp_path / "run"
    assert cli.main([*command, str(run)]) == 0
    (run / "notes.txt").write_text("mine")
    assert cli.main([*command, str(run)]) == 0
    assert (run / "notes.txt").read_text() == "mine"
    assert not (run / ".lock").exists()


def test_overwrite_deletes_what_was_measured_of_the_old_model(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The new card had the old model's robustness."""
    run = tmp_path / "run"
    command = ["train", "classify", str(colours), *FAST, "--epochs", "1", "--overwrite", "--out", str(run)]
    assert cli.main(command) == 0
    trained = {path.name for path in run.iterdir()}
    evaluated(capsys, run, colours, "--by", "folder", "--out", run)
    robustness = ["--corruptions", "brightness", "--severities", "1", "--images", "4", "--workers", "0"]
    assert cli.main(["analyze", "robustness", str(run), str(colours), "--out", str(run), *robustness]) == 0
    write_card(Run(run))
    assert "| clean |" in (run / "README.md").read_text()
    assert {"groups.json", "costliest.csv", "robustness-summary.csv"} <= {path.name for path in run.iterdir()}
    assert cli.main(command) == 0
    assert "| clean |" not in (run / "README.md").read_text()
    assert {path.name for path in run.iterdir()} <= {*trained, "index.html"}  # which all analyses share


def test_what_runs_write_is_known(finished: tuple[str, Path]) -> None:
    """Else `--overwrite` would leave it."""
    names = {path.name for path in (finished[1] / "run").iterdir() if not path.match("reconstructions-*.png")}
    assert names <= OWN


def test_two_processes_do_not_write_one_run(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    task, root = begun
    with locked(root / "run"):
        assert "another process is writing" in fails(capsys, *resume(task, root / "data", root / "run"))
        options = [*TASKS[task][1], root / "data", "--out", root / "run", *TASKS[task][2], "--overwrite"]
        assert "another process is writing" in fails(capsys, *options)
    assert cli.main([str(a) for a in resume(task, root / "data", root / "run")]) == 0


def test_where_files_cannot_be_locked_it_trains_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some network file systems have no locks."""

    def cannot(self: FileLock, **options: object) -> None:
        raise NotImplementedError("the file system has no flock")

    monkeypatch.setattr(FileLock, "acquire", cannot)
    data = make_folder(tmp_path / "data", train=3, val=1)
    assert cli.main(["train", "classify", str(data), "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]) == 0
    assert "where files cannot be locked" in caplog.text


def test_a_config_that_is_no_text_is_one_line(begun: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    task, root = begun
    path = root / "run" / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"seed"', b'"se\x80d"'))
    assert "config.json is damaged" in fails(capsys, *resume(task, root / "data", root / "run"))


def test_a_resumed_run_may_do_without_a_cuda_graph(tmp_path: Path) -> None:
    """What cannot be recorded on one machine must not keep a run from going on; a CPU passes over it."""
    data, run = make_folder(tmp_path / "data", train=3, val=1), tmp_path / "run"
    command = ["train", "classify", str(data), "--out", str(run)]
    assert cli.main([*command, *FAST, "--epochs", "1"]) == 0
    assert cli.main([*command, "--resume", "--cuda-graph", "false"]) == 0


def test_a_resumed_run_may_change_its_precision(colours: Path, tmp_path: Path) -> None:
    """To fp16, whose scale is found anew, away from it and back: it ended in a traceback."""
    command = ["train", "classify", str(colours), "--out", str(tmp_path / "run")]
    assert cli.main([*command, *FAST, "--precision", "fp32", "--keep-checkpoints", "9", "--save-every", "1"]) == 0
    for step, precision in ((1, "fp16"), (2, "fp32"), (3, "fp16")):
        for checkpoint in checkpoints(tmp_path / "run" / "checkpoints")[step:]:
            shutil.rmtree(checkpoint)
        assert cli.main([*command, "--resume", "--precision", precision]) == 0
        last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
        state = json.loads((last / "state.json").read_text())
        assert (state["step"], state["scaler"] == {}) == (6, precision == "fp32")
