import errno

import pytest

from convnext.errors import InputError
from convnext.storage.files import whole_file, whole_folder


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
