"""`--track`: what wandb and MLflow were given, in runs that end, fail, and are taken up."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import FAST, fails
from vacuous import nonempty

from convnext import cli
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.train import progress
from convnext.train.mlflow import Mlflow
from convnext.train.tracking import Curves
from convnext.train.trainer import Trainer

# Raised inside mlflow by SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackers that know of no server."""
    import wandb

    place = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        patch.setenv("NETRC", str(place / "none"))
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setattr(progress, "LOG_EVERY", 1)
        yield
        wandb.teardown()


@pytest.fixture(scope="module", params=["wandb", "mlflow"])
def tracked(request: pytest.FixtureRequest, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs of three steps that fails in step 9, after its checkpoint of step 6, and is taken up."""
    out = tmp_path_factory.mktemp("runs") / "tracked"
    command = ["train", "classify", str(colours), "--out", str(out), *FAST, "--epochs", "4", "--track", request.param]
    step = Trainer.train_step

    def fail(self: Trainer, batch: object) -> float:
        if self.step == 8:
            raise ArithmeticError
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", fail)
        with pytest.raises(ArithmeticError):
            cli.main(command)
    assert cli.main([*command, "--resume", "--keep-checkpoints", "3"]) == 0
    return out


def wandb_records(run: Path) -> Iterator:
    """What the files of a run hold that was tracked offline: records in LevelDB's log format, none split in two."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # it writes to the last, beside the program
    for path in nonempty(sorted(run.glob("wandb/offline-*/*.wandb"))):
        content, place = path.read_bytes(), 7
        while place + 7 <= len(content):
            length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
            assert kind == 1
            yield Record.FromString(content[place + 7 : place + 7 + length])
            place += 7 + length


def wandb_points(run: Path) -> list[dict]:
    rows = [record.history.item for record in wandb_records(run) if record.HasField("history")]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row} for row in rows]


def points_of(run: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a curve, in the order in which they were given."""
    if (run / "wandb.json").is_file():
        return [(row["step"], row[name]) for row in wandb_points(run) if name in row]
    from mlflow import MlflowClient

    found = MlflowClient().get_metric_history(json.loads((run / "mlflow.json").read_text())["id"], name)
    return [(point.step, point.value) for point in found]


def test_a_resumed_run_has_each_point_once(tracked: Path) -> None:
    rows = Run(tracked).rows()
    assert [step for step, _ in points_of(tracked, "train/loss")] == [*range(1, 13)]
    assert points_of(tracked, "epoch/top1") == [(row["step"], row["top1"]) for row in rows]
    result = json.loads((tracked / "result.json").read_text())
    assert points_of(tracked, "final/top1") == [(12, result["top1"])]


def test_options_and_the_end_are_tracked_in_one_run(tracked: Path) -> None:
    config = Run(tracked).read_config()
    if (tracked / "wandb.json").is_file():
        runs = [record.run for record in wandb_records(tracked) if record.HasField("run")]
        assert {run.run_id for run in runs} == {json.loads((tracked / "wandb.json").read_text())["id"]}
        configs = [record.config for record in wandb_records(tracked) if record.HasField("config")]
        given = {item.key: json.loads(item.value_json) for each in configs for item in each.update}
        assert {name: given[name] for name in config} == config
        assert [record.exit.exit_code for record in wandb_records(tracked) if record.HasField("exit")] == [1, 0]
        return
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_run(json.loads((tracked / "mlflow.json").read_text())["id"])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "tracked"
    assert found.data.params == {name: str(value) for name, value in {**config, "keep_checkpoints": 2}.items()}
    assert len(client.search_runs([found.info.experiment_id], "attributes.run_name = 'tracked'")) == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_library_that_is_missing_is_a_line_before_anything_is_written(
    name: str, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    line = fails(capsys, "train", "classify", colours, "--out", tmp_path / "run", *FAST, "--track", name)
    assert line.endswith(f"--track {name} needs pip install 'convnext[track]'")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_its_name_is_no_library(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "pip install" in fails(capsys, "train", "classify", colours, "--out", tmp_path / "run", "--track", "wandb")


def test_a_tracker_that_fails_ends_no_training(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Mlflow, values: dict[str, float], step: int) -> None:
        raise ConnectionError("no answer\nfrom the server")

    monkeypatch.setattr(Mlflow, "add", fail)
    command = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--track", "mlflow"]
    assert cli.main(command) == 0
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line for line in said if "track" in line] == ["the run is tracked no longer: no answer"]


def test_a_wandb_that_cannot_be_reached_is_done_without(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    init = wandb.init

    def fail(*, mode: str | None = None, **how: object) -> object:
        if mode is None:
            raise wandb.errors.CommError("no answer")
        return init(mode=mode, **how)

    monkeypatch.setattr(wandb, "init", fail)
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    curves = Curves(Run(tmp_path), 0, "wandb")
    curves.add({"train/loss": 2.5}, 3)
    curves.close()
    assert "so the run is tracked offline: no answer" in caplog.text
    assert wandb_points(tmp_path)[0].items() >= {"step": 3, "train/loss": 2.5}.items()


def test_a_wandb_that_lets_nobody_in_is_a_line(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()  # which has read the environment
    line = fails(capsys, "train", "classify", colours, "--out", tmp_path / "run", *FAST, "--track", "wandb")
    wandb.teardown()
    assert "WANDB_MODE=offline" in line


def test_only_the_first_process_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    curves = Curves(Run(tmp_path), 0, "mlflow")
    curves.add({"train/loss": 1.0}, 1)
    assert curves.end({"top1": 50.0}) == {"top1": 50.0}
    curves.close()
    assert not list(tmp_path.iterdir())
