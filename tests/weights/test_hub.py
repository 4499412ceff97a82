"""The Hugging Face hub, played by a server of the test's own; a fresh process, since the hub's client reads its
address once."""

import errno
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
import timm
from huggingface_hub import errors
from making import fails
from PIL import Image
from safetensors.torch import save_file

from convnext import WeightsError, cli, create_model, load
from convnext.data.images.preprocessing import Preprocessing
from convnext.weights import are_trained, hub, read_meta
from convnext.weights.files import locate
from convnext.weights.layouts import from_official

CONFIG = {"id2label": {"1": "dog", "0": "cat"}}
PROCESSOR = {
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.2, 0.2, 0.2],
}
READ = """
import json, sys
from convnext import WeightsError
from convnext.weights import read_state
try:
    state, meta = read_state(sys.argv[1])
    print(json.dumps({"meta": meta, "head": list(state["head.weight"].shape)}))
except WeightsError as error:
    print(json.dumps(str(error)))
"""


def read(source, **environment):
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run([sys.executable, "-c", READ, source], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    save_file(from_official(create_model("convnextv2_atto", num_classes=2).state_dict(), "hf"), path)
    return {
        "model.safetensors": path.read_bytes(),
        "config.json": json.dumps(CONFIG).encode(),
        "preprocessor_config.json": json.dumps(PROCESSOR).encode(),
    }


@pytest.fixture
def server(files):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            name = self.path.removeprefix("/facebook/convnextv2-atto-test/resolve/main/").split("?")[0]
            content = files.get(name)
            self.send_response(200 if content else 404)
            if content:
                self.send_header("ETag", f'"{name}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content

        def do_GET(self):
            if content := self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_hub_model_is_downloaded_with_its_classes_and_preprocessing(server, tmp_path):
    environment = {"HF_ENDPOINT": server, "HF_HUB_CACHE": str(tmp_path)}
    answer, err = read("hf:facebook/convnextv2-atto-test", **environment)
    assert answer["head"] == [2, 320]
    assert answer["meta"]["classes"] == ["cat", "dog"]
    assert answer["meta"]["preprocessing"] == {
        "image_size": 224,
        "crop": 0.875,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "in_chans": 3,
    }
    assert "CC-BY-NC" in err
    assert read("hf:facebook/convnextv2-atto-test", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path))[0] == answer


def test_what_the_hub_does_not_have_is_said_in_one_line(server, tmp_path):
    for environment, reason in (
        ({"HF_ENDPOINT": server}, "there is no such repository, or it is private"),
        ({"HF_HUB_OFFLINE": "1"}, "no network (or HF_HUB_OFFLINE is set)"),
    ):
        message, said = read("hf:someone/nothing", HF_HUB_CACHE=str(tmp_path), **environment)
        assert "hf:someone/nothing cannot be fetched from the Hugging Face Hub" in message
        assert reason in message
        assert "\n" not in message
        assert "Retrying" not in said


@pytest.mark.parametrize(
    "name", ["a/b.pt", "a", "a/b/c", "runs/mine", "Checkpoints/x", "./a/b", "../b", "~/b", "a/" + "b" * 5000]
)
def test_paths_are_not_asked_for_on_the_hub(name, caplog):
    assert hub.repository_of(name) is None
    assert not caplog.records


def test_repositories(tmp_path, monkeypatch, caplog):
    assert hub.repository_of("hf:a/b.c") == "a/b.c"
    assert hub.repository_of("hf:runs/mine") == "runs/mine"
    assert not caplog.records
    assert hub.repository_of("a/b") == "a/b"
    assert "write hf:a/b" in caplog.text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert hub.repository_of("a/b") is None
    for name in ("hf:a", "hf:", "hf:a/b/c", "hf:a/b c"):
        with pytest.raises(WeightsError, match="hf:ORGANISATION/NAME"):
            hub.repository_of(name)


@pytest.mark.parametrize("name", ["runs/mine", "a/" + "b" * 5000])
def test_a_run_that_is_not_there_is_a_line(name):
    with pytest.raises(WeightsError, match="no such weight file or run directory"):
        locate(name)


def test_timm_configurations(tmp_path):
    save_file(create_model("convnextv2_atto").state_dict(), tmp_path / "model.safetensors")
    cfg = {"input_size": [3, 384, 384], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"}
    config = {"num_classes": 1000, "pretrained_cfg": cfg | {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    meta = read_meta(tmp_path)
    assert meta["classes"][0] == "n01440764"
    assert (meta["preprocessing"]["image_size"], meta["preprocessing"]["crop"]) == (384, 1.0)


@pytest.mark.parametrize("missing", ["input_size", "crop_pct", "interpolation", "mean", "std"])
def test_a_preprocessing_that_is_not_whole_is_none(missing: str, tmp_path: Path) -> None:
    cfg = {"input_size": [3, 384, 384], "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.1], "std": [1]}
    for given in (cfg, {**cfg, missing: []}, {name: value for name, value in cfg.items() if name != missing}):
        (tmp_path / "config.json").write_text(json.dumps({"num_classes": 1000, "pretrained_cfg": given}))
        assert ("preprocessing" in hub.hub_meta(tmp_path)) == (given == cfg)


@pytest.mark.parametrize(
    "config",
    [
        {"num_classes": 100_000_000_000},
        {"num_classes": "many"},
        {"id2label": {"a": "x"}},
        {"id2label": 3},
        {"num_classes": 2, "pretrained_cfg": [1]},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_a_line(config: dict, tmp_path: Path, capsys) -> None:
    save_file(create_model("convnextv2_atto", num_classes=2).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    said = fails(capsys, "predict", tmp_path, tmp_path / "x.png")
    assert f"{tmp_path / 'config.json'} says of a model what cannot be: " in said


def test_imagenet_descriptions_become_unique_ids(tmp_path):
    labels = {str(index): f"thing {index // 2}" for index in range(1000)} | {"0": "tench, Tinca tinca"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    assert len(set(hub.hub_meta(tmp_path)["classes"])) == 1000


def test_a_first_class_that_is_a_tench_is_not_imagenet_s(tmp_path):
    """Imagenette's is, and transformers write its ten classes so."""
    labels = {"0": "tench", "1": "English springer"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    assert hub.hub_meta(tmp_path)["classes"] == ["tench", "English springer"]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_several_labels_an_image_in_transformers_words(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "problem_type": f"{kind}_label_classification"}))
    assert hub.hub_meta(tmp_path)["multi_label"] == (kind == "multi")


@pytest.mark.parametrize("names", [["ant", "bee", "cat"], None])
def test_what_timm_saves_of_fine_tuned_weights(names, tmp_path):
    """timm leaves the name of the weights they began as in the configuration; they do not have their classes."""
    model = timm.create_model("convnext_atto", num_classes=3)
    assert model.pretrained_cfg["tag"] == "d2_in1k"
    timm.models.save_for_hf(model, tmp_path, model_config={"label_names": names} if names else None)
    predictor = load(tmp_path, device="cpu")
    assert predictor.classes == predictor.answers == (names or ["0", "1", "2"])
    meta = read_meta(tmp_path)
    assert (meta["licence_from"], meta["descriptions"]) == ("convnext_atto.d2_in1k", {})


def hub_error(kind):
    response = httpx2.Response(403, request=httpx2.Request("GET", "http://127.0.0.1/x"))
    return kind("busy\nwhat follows", response=response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (hub_error(errors.GatedRepoError), "it is gated; accept its licence"),
        (hub_error(errors.RepositoryNotFoundError), "no such repository, or it is private"),
        (errors.LocalEntryNotFoundError("offline\nsee"), "no network"),
        (errors.OfflineModeIsEnabled("offline"), "no network"),
        (errors.EntryNotFoundError("x"), "it holds no model.safetensors and no pytorch_model.bin"),
        (OSError(errno.ENOSPC, "full"), "No space left on device; HF_HOME"),
        (hub_error(errors.HfHubHTTPError), "busy"),
    ],
)
@pytest.mark.parametrize("source", ["hf:a/b", "convnext_tiny.dinov3_lvd1689m"])
def test_each_refusal_of_the_hub_is_a_line(source, error, reason, monkeypatch, capsys):
    def refuse(repository, name):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert cli.main(["evaluate", source, "digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be fetched from the Hugging Face Hub: " in line
    assert reason in line
    assert "what follows" not in line


@pytest.mark.parametrize(
    ("repository", "card", "config", "licence"),
    [
        ("a/b", "---\nlicense: cc-by-nc-4.0\ntags: []\n---\n# x", {}, "CC-BY-NC-4.0"),
        ("a/b", "---\nlicense: other\nlicense_name: dinov3-license\n---\n", {}, "DINOv3"),
        ("a/b", "", {"pretrained_cfg": {"license": "apache-2.0"}}, "Apache-2.0"),
        ("facebook/convnextv2-tiny-1k-224", "---\nlicense: apache-2.0\n---\n", {}, "CC-BY-NC-4.0"),
        ("timm/convnextv2_atto.fcmae", "", {}, "CC-BY-NC-4.0"),
        ("a/b", "# no front matter\nlicense: mit", {}, None),
    ],
)
def test_licences_of_repositories(repository, card, config, licence, tmp_path):
    folder = tmp_path / f"models--{repository.replace('/', '--')}" / "snapshots" / "0"
    folder.mkdir(parents=True)
    save_file(create_model("convnextv2_atto", num_classes=2).state_dict(), folder / "model.safetensors")
    (folder / "README.md").write_text(card)
    (folder / "config.json").write_text(json.dumps(config))
    meta = read_meta(folder)
    assert meta.get("licence") == licence
    assert meta.get("licence_from") == (f"hf:{repository}" if licence else None)


def test_a_copy_in_the_cache_is_known_by_its_repository(tmp_path):
    folder = tmp_path / "models--timm--convnext_base.clip_laion2b" / "snapshots" / "0"
    folder.mkdir(parents=True)
    save_file(create_model("convnextv2_atto", num_classes=0).state_dict(), folder / "model.safetensors")
    meta = read_meta(folder)
    assert (meta["task"], meta["licence"], meta["preprocessing"]["mean"][0]) == ("embed", "Apache-2.0", 0.48145466)
    assert are_trained(folder)


def test_a_centre_crop_of_all_is_no_warp(tmp_path):
    save_file(create_model("convnextv2_atto").state_dict(), tmp_path / "model.safetensors")
    cfg = {"input_size": [3, 256, 256], "crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
    config = {"num_classes": 1000, "pretrained_cfg": cfg | {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rule = Preprocessing.from_dict(read_meta(tmp_path)["preprocessing"])
    image = Image.new("RGB", (512, 256))
    image.paste((255, 255, 255), (128, 0, 384, 256))
    assert rule(image).min() > 0.6  # the middle square alone, and all of it
