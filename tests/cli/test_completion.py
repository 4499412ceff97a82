"""`convnext completion`: what a shell completes, asked of bash itself."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from convnext import cli
from convnext.tasks.registry import find_task
from convnext.variants import list_models


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, in a folder with a file and a folder."""
    place = tmp_path_factory.mktemp("shell")
    (place / "photos").mkdir()
    (place / "photo.jpg").touch()
    with pytest.MonkeyPatch.context() as patch, open(place / "script.bash", "w") as file:
        patch.setattr("sys.stdout", file)
        assert cli.main(["completion", "bash"]) == 0
    return place / "script.bash"


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word of a command line."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    code = f"""
    source {shlex.quote(str(script))}
    COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
    function=$(complete -p convnext | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $function
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", code], cwd=script.parent, capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


TRAIN = ("convnext", "train", "classify")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("convnext", "tr"), {"train"}),
        (("convnext", "train", ""), {"classify", "detect", "segment", "depth"}),
        ((*TRAIN, "--im"), {"--image-size"}),
        ((*TRAIN, "photos", "--out", "r", "--rand"), {"--rand-augment", "--random-erasing"}),  # of --help-all alone
        ((*TRAIN, "--lr-decay", ""), {"cosine", "linear"}),
        ((*TRAIN, "--stem-patch", ""), {"1", "2", "4"}),
        ((*TRAIN, "--track", "w"), {"wandb"}),
        ((*TRAIN, "--compile", ""), {"true", "false", "auto"}),
        ((*TRAIN, "--ema", ""), {"none"}),
        ((*TRAIN, "--resume", ""), {"auto"}),
        ((*TRAIN, "--epochs", ""), set()),
        ((*TRAIN, "--jit"), set()),  # an old name
        ((*TRAIN, "--model", "convnextv2_"), {name for name in list_models() if name.startswith("convnextv2_")}),
        ((*TRAIN, "--recipe", ""), {recipe.__name__ for recipe in find_task("classify").recipes}),
        (("convnext", "train", "depth", "--recipe", ""), {recipe.__name__ for recipe in find_task("depth").recipes}),
        (("convnext", "recipes", "fcmae_s"), {"fcmae_small_data"}),
        (("convnext", "completion", ""), {"bash", "zsh", "fish"}),
        ((*TRAIN, "ph"), {"photo.jpg", "photos"}),
        ((*TRAIN, "photos", "--init", "ph"), {"photo.jpg", "photos"}),
        ((*TRAIN, "photos", "--out", "ph"), {"photos"}),
        (("convnext", "predict", "photos", "photo.jpg", "ph"), {"photo.jpg", "photos"}),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: set[str], script: Path) -> None:
    assert completed(script, *words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "lr-decay" in text
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} to read it")
    (tmp_path / "script").write_text(text)
    assert subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True).stderr == b""
