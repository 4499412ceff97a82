"""The published weights: the table, and downloads from a server of the test's own."""

import errno
import hashlib
import logging
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
import torchvision
from PIL import Image
from vacuous import nonempty

from convnext import WeightsError, cli, create_model, load_weights
from convnext.data.images.preprocessing import Preprocessing
from convnext.storage import download as transfer
from convnext.weights import find, list_weights, read_meta, read_state, zoo
from convnext.weights.class_names import classes_for, imagenet_classes, published_classes
from convnext.weights.licences import RESTRICTIONS, licence_named
from convnext.weights.published import CENTRE, PUBLISHED, PublishedWeights
from convnext.weights.published_detectors import PUBLISHED_DETECTORS
from convnext.weights.zoo import download_published, published_meta

ATTO = "convnextv2_atto_1k_224"
ATTO_PATH = "/convnextv2/im1k/convnextv2_atto_1k_224_ema.pt"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Files by path, served on 127.0.0.1 as the official server would; `cut` sends only half of each."""

    class Handler(BaseHTTPRequestHandler):
        files: dict[str, bytes] = {}  # noqa: RUF012 - one server, one list
        cut = False
        requests: list[str] = []  # noqa: RUF012 - likewise

        def do_GET(self):
            self.requests.append(self.path)
            content = self.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.cut else content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        monkeypatch.setenv("CONVNEXT_WEIGHTS_URL", f"http://127.0.0.1:{http.server_port}")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        yield Handler
        http.shutdown()
        thread.join()


def cached(tmp_path):
    folder = tmp_path / "cache" / "hub" / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def put_atto(server, tmp_path):
    model = create_model("convnextv2_atto")
    torch.save({"model": model.state_dict()}, tmp_path / "atto.pt")
    server.files[ATTO_PATH] = (tmp_path / "atto.pt").read_bytes()
    return model


def test_the_table_holds_what_was_published():
    names = [entry.name for entry in list_weights()]
    assert len(names) == len(set(names))
    official = [entry for entry in list_weights() if entry.url.startswith(zoo.BASE_URL)]
    dense = [entry for entry in official if entry.task in ("detect", "segment")]
    assert (len(dense), len(official) - len(dense)) == (13, 8 + 8 + 10 + 4 + 2 + 5 + 10 + 3)
    for entry in nonempty(list_weights()):
        assert re.search(rf"(^|_){entry.variant}[_.]", entry.name)
        assert entry.licence in RESTRICTIONS
        if entry in official:
            assert entry.licence == ("CC-BY-NC-4.0" if entry.variant.startswith("convnextv2") else "MIT")
    for entry in PUBLISHED:
        assert bool(entry.num_classes) == (entry.task == "classify")
        assert bool(entry.width) == (entry.task == "embed")
        assert set(entry.preprocessing) <= {"crop", "mean", "std", "interpolation"}
        assert not entry.preprocessing or "crop" in entry.preprocessing


def test_what_timm_publishes_is_as_timm_says():
    """Classes, sizes, crop, colours and licence of every file of timm's."""
    hosted = [entry for entry in PUBLISHED if entry.url.startswith("hf:timm/")]
    assert len(hosted) >= 52
    for entry in hosted:
        said = timm.get_pretrained_cfg(entry.name)
        assert said is not None, entry.name
        assert f"hf:{said.hf_hub_id}" == entry.url
        assert said.num_classes == (entry.num_classes or ("clip" in entry.name and entry.width)), entry.name
        assert said.input_size[-1] == entry.image_size, entry.name
        assert licence_named(said.license) == entry.licence, entry.name
        rule = published_meta(entry)["preprocessing"]
        whole = 1.0 if said.crop_mode == "squash" else CENTRE
        expected = {"interpolation": said.interpolation, "crop": whole if said.crop_pct == 1 else said.crop_pct}
        expected |= {"mean": list(said.mean), "std": list(said.std)}
        assert {name: rule[name] for name in expected} == expected, entry.name


def test_torchvision_s_files_are_as_torchvision_says():
    for size in ("tiny", "small", "base", "large"):
        said = torchvision.models.get_model_weights(f"convnext_{size}").DEFAULT
        entry = find(f"convnext_{size}_torchvision")
        assert entry.url == said.url
        assert entry.top1 == said.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        transform = said.transforms()
        rule = Preprocessing.from_dict(published_meta(entry)["preprocessing"])
        assert [math.floor(rule.image_size / rule.crop)] == transform.resize_size
        assert [rule.image_size] == transform.crop_size
        assert rule.interpolation == transform.interpolation.value
        assert (rule.mean, rule.std) == (tuple(transform.mean), tuple(transform.std))


def test_every_rule_can_be_applied():
    image = Image.new("RGB", (300, 200))
    for entry in PUBLISHED:
        if rule := published_meta(entry).get("preprocessing"):
            assert Preprocessing.from_dict(rule)(image).shape == (3, entry.image_size, entry.image_size)


@pytest.mark.parametrize(
    ("name", "path", "num_classes", "top1"),
    [
        ("convnextv2_atto_1k_224_fcmae", "convnextv2/pt_only/convnextv2_atto_1k_224_fcmae.pt", 0, None),
        ("convnextv2_huge_1k_224", "convnextv2/im1k/convnextv2_huge_1k_224_ema.pt", 1000, 86.3),
        ("convnextv2_nano_22k_1k_224", "convnextv2/im22k/convnextv2_nano_22k_224_ema.pt", 1000, 82.1),
        ("convnextv2_huge_22k_1k_512", "convnextv2/im22k/convnextv2_huge_22k_512_ema.pt", 1000, 88.9),
        ("convnext_tiny_1k_224", "convnext_tiny_1k_224_ema.pth", 1000, 82.1),
        ("convnext_large_1k_384", "convnext_large_1k_384.pth", 1000, 85.5),
        ("convnext_tiny_22k_224", "convnext_tiny_22k_224.pth", 21841, None),
        ("convnext_small_22k_1k_384", "convnext_small_22k_1k_384.pth", 1000, 85.8),
        ("convnext_xlarge_22k_1k_384", "convnext_xlarge_22k_1k_384_ema.pth", 1000, 87.8),
    ],
)
def test_entries_of_every_kind(name, path, num_classes, top1):
    entry = find(name)
    assert (entry.num_classes, entry.top1) == (num_classes, top1)
    assert entry.url == "https://dl.fbaipublicfiles.com/convnext/" + path
    assert find(path.rsplit("/")[-1].rsplit(".")[0]) is entry  # by the file's own name too


def test_detectors_and_segmenters_were_trained_at_the_published_sizes():
    """COCO's short side of 800; crops of ADE20K of 512, and of 640 after ImageNet-22K (ConvNeXt, appendix A.3)."""
    assert {(entry.task, entry.num_classes) for entry in PUBLISHED_DETECTORS} == {("detect", 80), ("segment", 150)}
    for entry in nonempty(PUBLISHED_DETECTORS):
        segmenters = 640 if "22k" in entry.name else 512
        assert entry.image_size == (800 if entry.task == "detect" else segmenters), entry.name


def test_unknown_names_get_the_nearest():
    with pytest.raises(WeightsError, match=r"no published weights 'convnextv2_atto'; nearest: convnextv2_atto_1k_224"):
        find("convnextv2_atto")


def test_published_weights_are_downloaded_once_and_loaded(server, tmp_path, caplog, capfd):
    published = put_atto(server, tmp_path)
    for loading in range(2):
        caplog.clear()
        model = create_model("convnextv2_atto")
        report = load_weights(model, ATTO)
        assert torch.equal(model.head.weight, published.head.weight)
        licence = "licensed CC-BY-NC-4.0, as convnextv2_atto_1k_224: not for commercial use"
        assert report.notes == [licence]
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == ([] if loading else [f"convnextv2_atto_1k_224_ema.pt: {licence}"])  # once
    assert server.requests.count(ATTO_PATH) == 1
    assert cached(tmp_path) == ["convnextv2_atto_1k_224_ema.pt"]
    out, err = capfd.readouterr()
    assert not out
    assert "convnextv2_atto_1k_224_ema.pt" in err  # the progress bar


def test_published_weights_know_their_classes(server, tmp_path):
    put_atto(server, tmp_path)
    state, meta = read_state(ATTO)
    assert len(state["head.weight"]) == len(meta["classes"]) == 1000
    assert meta["classes"][0] == "n01440764"
    assert "tench" in meta["descriptions"]["n01440764"]
    assert (meta["variant"], meta["licence"], meta["image_size"]) == ("convnextv2_atto", "CC-BY-NC-4.0", 224)
    assert read_meta(ATTO) == meta


def refusal(name=ATTO):
    with pytest.raises(WeightsError) as caught:
        load_weights(create_model("convnextv2_atto"), name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_not_there(server, tmp_path):
    assert f"{ATTO_PATH}: the server answers 404" in refusal()
    assert cached(tmp_path) == []


def test_a_transfer_that_is_cut_short(server, tmp_path):
    put_atto(server, tmp_path)
    server.cut = True
    message = refusal()
    size = len(server.files[ATTO_PATH])
    assert f"{size // 2}" in message
    assert "download it elsewhere and pass the file" in message
    assert cached(tmp_path) == []
    server.cut = False
    load_weights(create_model("convnextv2_atto"), ATTO)


def test_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVNEXT_WEIGHTS_URL", "http://127.0.0.1:9")
    message = refusal()
    assert f"cannot download http://127.0.0.1:9{ATTO_PATH}: no network?" in message
    assert message.endswith("download it elsewhere and pass the file")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("address", ["notaurl", "http://[::1", "ssh://a/b", ""])
def test_a_mirror_that_is_no_address(address, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVNEXT_WEIGHTS_URL", address)
    assert "cannot download" in refusal()


def test_a_mirror_that_does_not_end(server, monkeypatch, tmp_path):
    put_atto(server, tmp_path)
    monkeypatch.setattr(zoo, "LARGEST_WEIGHTS", 1000)
    assert "more than 1000" in refusal()
    assert cached(tmp_path) == []


def test_an_unwritable_cache(server, monkeypatch, tmp_path):
    put_atto(server, tmp_path)
    (tmp_path / "cache").touch()
    assert "cannot write" in refusal()


def test_another_file_than_was_published_is_not_kept(server, tmp_path):
    """Names of files may hold the first digits of their SHA-256."""
    content = b"weights"
    digits = hashlib.sha256(content).hexdigest()[:8]
    for name, right in ((f"a-{digits}.pth", True), ("b-0123abcd.pth", False)):
        server.files[f"/{name}"] = content
        entry = PublishedWeights("x", zoo.BASE_URL + name, "convnext_tiny", "classify", 224, 1000, "MIT", "Meta")
        if right:
            assert download_published(entry).read_bytes() == content
        else:
            with pytest.raises(WeightsError, match=f"SHA-256 begins with {digits}, not 0123abcd") as caught:
                download_published(entry)
            assert "\n" not in str(caught.value)
    assert cached(tmp_path) == [f"a-{digits}.pth"]


def test_files_whose_names_say_their_sum():
    assert find("convnext_tiny_dinov3_lvd1689m").sha256 == "21b726bb"
    assert find("convnext_tiny_torchvision").sha256 == "983f1562"
    assert find("convnextv2_atto_1k_224").sha256 == ""


def test_a_full_disk(server, tmp_path, monkeypatch, capsys):
    put_atto(server, tmp_path)

    def fill(url, path, most, show):
        path.write_bytes(b"the start")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_copy", fill)
    assert "No space left on device" in refusal()
    assert cached(tmp_path) == []
    capsys.readouterr()
    assert cli.main(["evaluate", ATTO, "digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line


def test_class_names():
    assert len(imagenet_classes()) == len(set(imagenet_classes())) == 1000
    wnids, descriptions = classes_for(21841)
    assert len(wnids) == len(set(wnids)) == 21841
    assert set(descriptions) == set(wnids)
    assert classes_for(10) is None
    thousand = set(imagenet_classes())
    assert thousand - set(wnids) == {"n04399382"}
    assert len(thousand & set(classes_for(11821)[0])) == 993
    assert published_classes(1000)["classes"] == imagenet_classes()
    assert published_classes(3) == {}
