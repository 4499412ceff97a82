"""Where an export is written: over an older one, and over nothing else that lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import fails
from planted import plant_classifier

from convnext import cli


@pytest.mark.parametrize("beside", [None, "<annotation/>", "not XML"])
def test_weights_that_end_in_bin_are_not_written_over(
    beside: str | None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As transformers' of old are called, which may be somebody's only ones; it is said before any work."""
    source, weights = plant_classifier(tmp_path / "x.safetensors"), tmp_path / "pytorch_model.bin"
    weights.write_bytes(b"weights")
    out = weights.with_suffix(".xml")
    if beside is not None:
        out.write_text(beside)
    said = fails(capsys, "export", source, "--format", "openvino", "--out", out)
    assert f"{weights} exists already, and no export that it is of lies beside it; name a new file" in said
    assert weights.read_bytes() == b"weights"
    assert out.exists() == (beside is not None)


def test_an_export_is_written_over(tmp_path: Path) -> None:
    out = tmp_path / "mine.xml"
    sizes = []
    for number, precision in enumerate(("fp32", "fp16")):
        source = plant_classifier(tmp_path / f"{number}.safetensors")
        command = ["export", str(source), "--format", "openvino", "--out", str(out), "--precision", precision]
        assert cli.main(command) == 0
        sizes.append(out.with_suffix(".bin").stat().st_size)
    assert sizes[1] < sizes[0]
