"""The card of a pushed run: metadata that the run knows, merged with those that its card has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from sitecustomize import BYTE

from convnext import InputError
from convnext.deploy.push.card import hub_metadata, pictures_shown, with_metadata
from convnext.runs.summary import summarise_run
from convnext.tasks.card.metadata import base_model
from convnext.tasks.registry import find_task
from convnext.weights.zoo import list_weights, repository_holding

KNOWN = {
    "license": "cc-by-nc-4.0",
    "library_name": "timm",
    "pipeline_tag": "image-classification",
    "base_model": "timm/convnextv2_atto.fcmae",
    "tags": ["convnext", "convnextv2_atto"],
}
INDEX = """model-index:
- name: mine
  results:
  - task:
      type: image-classification
    dataset:
      name: flowers
      type: flowers
    metrics:
    - type: accuracy
      value: 0.5
"""


def test_metadata_go_in_front() -> None:
    text = with_metadata("# Mine\n\nText.\n", KNOWN, [])
    assert text.startswith("---\n")
    assert text.endswith("---\n# Mine\n\nText.\n")
    assert ModelCard(text).data.to_dict() == KNOWN


def test_metadata_that_are_there_are_merged_and_not_doubled() -> None:
    notes: list[str] = []
    own = (
        f"---\nlicense: cc-by-nc-4.0\nlibrary_name: convnext\ntags:\n- flowers\n- convnext\nlanguage: en\n{INDEX}---\n"
    )
    text = with_metadata(own + "# Mine\n", {**KNOWN, "pipeline_tag": "other"}, notes)
    assert text.count("\n---\n") == 1
    data = ModelCard(text).data.to_dict()
    assert data["tags"] == ["flowers", "convnext", "convnextv2_atto"]
    assert (data["language"], data["pipeline_tag"], data["library_name"]) == ("en", "other", "timm")
    assert data["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.5}]
    assert not notes
    assert with_metadata(text, {**KNOWN, "pipeline_tag": "other"}, notes) == text


def test_what_the_card_says_stays() -> None:
    text = with_metadata("---\npipeline_tag: image-feature-extraction\nbase_model: a/b\n---\n", KNOWN, [])
    data = ModelCard(text).data
    assert (data.pipeline_tag, data.base_model) == ("image-feature-extraction", "a/b")


def test_a_licence_of_the_weights_stands_for_the_card_s() -> None:
    notes: list[str] = []
    own = "---\nlicense: other\nlicense_name: my-own\nlicense_link: LICENSE\n---\n# Mine\n"
    data = ModelCard(with_metadata(own, KNOWN, notes)).data.to_dict()
    assert {name: value for name, value in data.items() if "license" in name} == {"license": "cc-by-nc-4.0"}
    assert notes == ["the card says my-own; the weights are licensed CC-BY-NC-4.0, which is pushed"]
    free = ModelCard(with_metadata(own, {"library_name": "timm"}, notes)).data
    assert (free.license_name, len(notes)) == ("my-own", 1)
    dinov3 = {"license": "other", "license_name": "dinov3-license"}
    kept = "---\nlicense: other\nlicense_name: dinov3-license\nlicense_link: https://x.org\n---\n"
    assert ModelCard(with_metadata(kept, dinov3, notes)).data.license_link == "https://x.org"
    assert len(notes) == 1


@pytest.mark.parametrize("front", ["a: [", "- a\n- b", "model-index: 3", "1: 2"])
def test_metadata_that_cannot_be_read_are_a_line(front: str) -> None:
    with pytest.raises(InputError, match=r"^the metadata in front of README.md cannot be read: [^\n]+$"):
        with_metadata(f"---\n{front}\n---\n# Mine\n", KNOWN, [])


def test_metadata_of_a_run(run: Path) -> None:
    summary, meta = summarise_run(run), {"licence": "DINOv3", "licence_from": "x"}
    assert hub_metadata(summary, find_task("depth"), meta, "convnext") == {
        "license": "other",
        "license_name": "dinov3-license",
        "library_name": "convnext",
        "pipeline_tag": "depth-estimation",
        "tags": ["convnext", BYTE],
    }


def test_the_base_model_is_on_the_hub_or_not_named(run: Path, tmp_path: Path) -> None:
    assert base_model("hf:a/b") == "a/b"
    assert base_model("convnextv2_tiny_22k_1k_224") == "timm/convnextv2_tiny.fcmae_ft_in22k_in1k"
    assert base_model("convnext_tiny_dinov3_lvd1689m_hf") == "facebook/dinov3-convnext-tiny-pretrain-lvd1689m"
    for nowhere in ("", "some/file.safetensors", "convnext_tiny_torchvision", str(run)):
        assert base_model(nowhere) is None
    for name, init in (("first", "hf:a/b"), ("second", str(tmp_path / "first")), ("loop", str(tmp_path / "loop"))):
        (tmp_path / name).mkdir()
        config = json.loads((run / "config.json").read_text()) | {"init": init}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "environment.json").write_text("{}")
    assert base_model(str(tmp_path / "second")) == "a/b"
    assert base_model(str(tmp_path / "loop")) is None


def test_official_files_have_copies_on_the_hub() -> None:
    found = {entry.name: repository_holding(entry) for entry in list_weights()}
    official = [name for name, place in found.items() if place is None]
    assert found["convnextv2_atto_1k_224_fcmae"] == "timm/convnextv2_atto.fcmae"
    assert found["convnext_xlarge_22k_1k_384"] == "timm/convnext_xlarge.fb_in22k_ft_in1k_384"
    assert not [name for name in official if name.startswith("convnextv2_")]


def test_pictures_of_a_card_stay_in_its_folder(tmp_path: Path) -> None:
    """A path that leaves the run is none, also where it leads back into it: it would be written outside."""
    run = tmp_path / "run"
    (run / "deeper").mkdir(parents=True)
    for name in ("curves.png", "deeper/other.png"):
        (run / name).touch()
    (tmp_path / "outside.png").touch()
    names = ["curves.png", "deeper/other.png", "../run/curves.png", "deeper/../curves.png", "../outside.png"]
    text = " ".join(f"![x]({name})" for name in names)
    assert pictures_shown(text, run) == ["curves.png", "deeper/other.png"]
