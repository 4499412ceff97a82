import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from making import names_in

from convnext.errors import InputError
from convnext.storage.files import whole_file, whole_folder

Replace = Callable[[Path, Path], None]


def test_the_file_appears_whole(tmp_path):
    with whole_file(tmp_path / "a") as path:
        path.write_text("new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device"), whole_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "a") as path:
        (path / "new").touch()
        assert not (tmp_path / "a").exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "new"]
    with pytest.raises(InputError, match="a exists already; name a new folder"), whole_folder(tmp_path / "a"):
        pass
    with whole_folder(tmp_path / "a", replace=True) as path:
        (path / "other").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "other"]


def test_a_full_disk_leaves_the_old_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(InputError, match="a: No space left"), whole_folder(tmp_path / "a", replace=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "old"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="exists already"), whole_folder(tmp_path / "file", replace=True):
        pass


def test_the_folder_that_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays the folder that a shell is in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("new", "other"):
        with whole_folder(Path(), replace=True) as path:
            (path / name).touch()
        assert os.listdir() == [name]
    assert names_in(tmp_path) == {"here/other"}


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with whole_folder(tmp_path / "link") as path:
        (path / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "a") == {"new"}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "link"}


@pytest.mark.parametrize("works_there", [False, True])
@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("happens", [True, False])
def test_an_interruption_loses_neither_the_old_folder_nor_the_new(
    works_there: bool, count: int, happens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after a file or folder is moved."""
    folder, replace, calls = tmp_path / "a", os.replace, 0
    folder.mkdir()
    for name in ("old", "older"):
        (folder / name).touch()
    if works_there:
        monkeypatch.chdir(folder)

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls != count:
            replace(source, target)
            return
        if happens:
            replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    try:
        with whole_folder(folder, replace=True) as path:
            for name in ("new", "newer"):
                (path / name).touch()
    except KeyboardInterrupt:
        assert calls >= count
    assert names_in(tmp_path) in ({"a/old", "a/older"}, {"a/new", "a/newer"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def mounted(place: Path, replace: Replace) -> Replace:
    """`os.replace` where `place` is a mount point, on a file system of its own."""

    def refuses(source: Path, target: Path) -> None:
        if place in (Path(source), Path(target)):
            raise OSError(errno.EBUSY, "Device or resource busy")
        if (place in Path(source).parents) != (place in Path(target).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    return refuses


def test_a_mount_point_gets_what_the_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a volume of a container."""
    place = tmp_path / "out"
    place.mkdir()
    monkeypatch.setattr(os, "rename", mounted(place, os.rename))
    monkeypatch.setattr(os, "replace", mounted(place, os.replace))
    for name in ("new", "other"):
        with whole_folder(place, replace=True) as path:
            (path / "deep").mkdir()
            (path / "deep" / name).touch()
            (path / name).touch()
        assert names_in(tmp_path) == {f"out/deep/{name}", f"out/{name}"}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
