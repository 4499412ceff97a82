import errno

import pytest

from convnext.errors import InputError
from convnext.storage.files import whole_file


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
