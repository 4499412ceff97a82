"""Frames of videos and pages of TIFFs as images without labels."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from making import fails, make_video
from PIL import Image

from convnext.data.image_set import read_images
from convnext.data.images.decode import read_image
from convnext.data.images.video import count_frames, read_frames
from convnext.data.sources.inputs import expand
from convnext.errors import ImageError, InputError


def shade(picture: Image.Image) -> float:
    return float(np.asarray(picture).mean())


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mpeg4"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
def test_frames_are_those_of_their_seconds(suffix: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    make_video(path, 6, codec=codec)
    with av.open(str(path)) as container:
        every = [shade(frame.to_image()) for frame in container.decode(video=0)]
    assert len(every) == 60
    for rate, step in ((1.0, 10), (5.0, 2), (0.5, 20)):
        count = count_frames(path, rate)
        assert count == pytest.approx(6 * rate, abs=1)
        found = [shade(each) for each in read_frames(path, rate, 0, count)]
        assert found == pytest.approx(every[::step][:count], abs=0.01)
    assert [shade(each) for each in read_frames(path, 10.0, 33, 4)] == pytest.approx(every[33:37], abs=0.01)


def test_a_folder_of_images_videos_and_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (20, 10), (9, 9, 9)).save(tmp_path / "a.png")
    make_video(tmp_path / "b c.MP4", 3)
    pages = [Image.fromarray(np.full((8, 12), 1000 * n, dtype=np.uint16)) for n in range(1, 4)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with caplog.at_level(logging.WARNING):
        data = read_images(tmp_path)
    assert "videos that cannot be read: 1" in caplog.text
    names = [Path(source).relative_to(tmp_path).as_posix() for source in data.sources]
    expected = ["a.png", *(f"b c.MP4#{n}" for n in range(3)), "one.tif", *(f"stack.tif#{n}" for n in range(3))]
    assert names == expected
    assert [data.open(n, "RGB").size for n in (0, 1, 4, 5)] == [(20, 10), (64, 48), (12, 8), (12, 8)]
    assert [shade(data.open(n, "L", 4000)) for n in (5, 6, 7)] == [64, 128, 191]
    assert [shade(data.open(n, "L")) for n in (1, 2, 3)] == pytest.approx([0, 20, 40], abs=3)
    assert sorted(data.shuffled(1)) == list(range(8))
    assert len(read_images(tmp_path / "b c.MP4", frame_rate=5.0)) == 15
    assert data.take([2]).open(0, "L").size == (64, 48)
    named = list(expand([str(tmp_path), str(tmp_path / "b c.MP4")]))  # for what takes images alone
    assert [name for name, _ in named] == [*data.sources, *data.sources[1:4]]
    for n, (_, image) in enumerate(named[:8]):
        np.testing.assert_array_equal(read_image(image), data.open(n, "RGB"))


def test_smaller_copies_of_a_page_are_no_images(tmp_path: Path) -> None:
    picture = Image.new("L", (16, 16), 5)
    copy = Image.new("L", (8, 8), 5)
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(tmp_path / "pyramid.tif", save_all=True, append_images=[copy])
    data = read_images(tmp_path)
    assert [Path(source).name for source in data.sources] == ["pyramid.tif"]
    assert data.members is None


def test_damaged_pages_and_videos_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pages = [Image.new("L", (32, 32), n) for n in range(3)]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    data = read_images(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"stack\.tif, page 2"):
        data.content(2)
    path.unlink()
    (tmp_path / "a.mp4").write_bytes(b"\0" * 100)
    assert "none of its images can be read" in fails(capsys, "pretrain", tmp_path, "--out", tmp_path / "run")
    with pytest.raises(InputError, match="cannot be read"):
        read_images(tmp_path / "a.mp4")


def test_a_length_that_the_file_cannot_have_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_video(path, 2)
    content = bytearray(path.read_bytes())
    duration = content.index(b"\x44\x89\x88") + 3  # Matroska's element Duration, a double of milliseconds
    content[duration : duration + 8] = struct.pack(">d", 1e12)
    path.write_bytes(content)
    assert len(read_images(path)) == pytest.approx(2, abs=1)


def test_without_pyav_videos_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "b.mp4").write_bytes(b"")
    monkeypatch.setattr("convnext.data.sources.folders.videos_are_read", lambda: False)
    assert len(read_images(tmp_path)) == 1
    assert "1 video files are not read" in caplog.text
    assert "convnext[video]" in caplog.text
