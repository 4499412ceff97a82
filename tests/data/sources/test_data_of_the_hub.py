"""Data sets by their names on the Hugging Face Hub, of which a server of the tests' own plays the part."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from hub_server import Hub, Repository, served_hub, talk_to
from making import FAST, fails, make_folder
from pyarrow import parquet
from vacuous import nonempty

from convnext import cli
from convnext.data.division import Division
from convnext.data.exclude import ExcludeList
from convnext.data.image_set import ImageSet, read_images, read_train_val
from convnext.data.sources.hub import _snapshot, fetched
from convnext.errors import InputError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with served_hub() as hub:
        talk_to(hub, tmp_path / "cache", monkeypatch)
        _snapshot.cache_clear()
        yield hub
        _snapshot.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours", train=4, val=2)


def as_parquet(folder: Path, part: str) -> bytes:
    files = sorted((folder / part).rglob("*.png"))
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    stream = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"image": images, "label": [path.parent.name for path in files]}), stream)
    return stream.getvalue().to_pybytes()


def publish_tables(hub: Hub, folder: Path, name: str = "someone/colours") -> None:
    files = {f"data/{part}-00000-of-00001.parquet": as_parquet(folder, part) for part in ("train", "val")}
    hub.repositories[f"datasets/{name}"] = Repository(files={"README.md": b"# Colours\n", **files}, commits=["first"])


def publish_files(hub: Hub, folder: Path, name: str = "someone/colours") -> None:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}
    hub.repositories[f"datasets/{name}"] = Repository(files={"README.md": b"# Colours\n", **files}, commits=["first"])


def contents(samples: ImageSet) -> list[tuple[str, bytes]]:
    return sorted((samples.classes[label], samples.content(n)) for n, label in enumerate(samples.targets))


def parts_of(data: str | Path) -> list[ImageSet]:
    return list(read_train_val(data)[:2])


@pytest.mark.parametrize("publish", [publish_tables, publish_files])
def test_a_data_set_is_the_same_as_in_a_folder(publish: Callable[[Hub, Path], None], hub: Hub, folder: Path) -> None:
    publish(hub, folder)
    for ours, theirs in nonempty(zip(parts_of("hf:someone/colours"), parts_of(folder), strict=True)):
        assert ours.classes == theirs.classes
        assert contents(ours) == contents(theirs)
    assert len(read_images("hf:someone/colours")) >= 12


def test_files_are_fetched_once_and_serve_without_a_network(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tables(hub, folder)
    first = fetched("hf:someone/colours")
    hub.asked.clear()
    _snapshot.cache_clear()
    assert fetched("hf:someone/colours") == first
    assert not [asked for asked in hub.asked if asked.startswith("GET /datasets/")]
    _snapshot.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetched("hf:someone/colours") == first


def test_a_run_is_trained_measured_and_checked_by_the_name(
    hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    publish_tables(hub, folder)
    run = tmp_path / "run"
    assert cli.main(["train", "classify", "hf:someone/colours", "--out", str(run), *FAST]) == 0
    assert cli.main(["evaluate", str(run), "hf:someone/colours", "--workers", "0"]) == 0
    said = capsys.readouterr()
    assert ["images", "6"] in [line.split() for line in said.out.splitlines()]
    assert "Fetching" not in said.err  # no bars where no terminal is
    cli.main(["check", "hf:someone/colours", "--workers", "0"])
    assert "train: 12 of 12 images can be used" in capsys.readouterr().out


def test_what_cannot_be_had_is_said_in_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(InputError, match="there is no such repository, or it is private"):
        fetched("hf:someone/nothing")
    with pytest.raises(InputError, match="names no repository; the form is hf:ORGANISATION/NAME") as refused:
        fetched("hf:nothing")
    assert type(refused.value) is InputError  # not of weights
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = fails(capsys, "train", "classify", "hf:someone/else", "--out", tmp_path / "never")
    assert "hf:someone/else cannot be fetched from the Hugging Face Hub: no network" in said


def test_images_are_listed_and_left_out_by_their_paths_in_the_data_set(
    hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("val", "test"):
        shutil.copytree(folder / "train", folder / name, dirs_exist_ok=True)  # copies in other parts
    publish_files(hub, folder)
    cli.main(["check", "hf:someone/colours", "--workers", "0", "--out", str(tmp_path / "check")])
    assert "test: " in capsys.readouterr().out
    listed = [row.split(",")[0] for row in (tmp_path / "check" / "exclude.csv").read_text().splitlines()[1:]]
    assert {path.split("/")[0] for path in listed} == {"train", "val"}  # never what is measured at the end
    left = read_images("hf:someone/colours", ExcludeList(Path("exclude.csv"), tuple(listed)))
    assert left.excluded == len(listed) > 0


@pytest.mark.parametrize("publish", [publish_tables, publish_files])
def test_it_is_packed_by_its_name(publish: Callable[[Hub, Path], None], hub: Hub, folder: Path, tmp_path: Path) -> None:
    publish(hub, folder)
    assert cli.main(["pack", "hf:someone/colours", "--out", str(tmp_path / "packed")]) == 0
    for ours, theirs in nonempty(zip(parts_of(tmp_path / "packed"), parts_of(folder), strict=True)):
        assert contents(ours) == contents(theirs)


def test_groups_are_those_of_the_same_folder(hub: Hub, folder: Path) -> None:
    table = ["file_name,patient"]
    for path in sorted(folder.rglob("*.png")):
        table.append(f"{path.relative_to(folder).as_posix()},{path.stem}")
    (folder / "metadata.csv").write_text("\n".join(table))
    publish_files(hub, folder)
    files = hub.repositories["datasets/someone/colours"].files
    files["metadata.csv"] = (folder / "metadata.csv").read_bytes()
    division = Division(0.3, group_by="patient")
    for ours, theirs in nonempty(zip(divided("hf:someone/colours", division), divided(folder, division), strict=True)):
        assert contents(ours) == contents(theirs)


def divided(data: str | Path, division: Division) -> list[ImageSet]:
    return list(read_train_val(data, division=division)[:2])


def test_other_data_are_as_they_are(folder: Path) -> None:
    assert fetched(folder) == folder
    assert fetched("digits") == "digits"
