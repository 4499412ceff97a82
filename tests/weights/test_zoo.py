"""The published weights: the table, and downloads from a server of the test's own."""

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from convnext import WeightsError, create_model, load_weights
from convnext.variants import VARIANTS
from convnext.weights import find, list_weights, read_meta, read_state, zoo
from convnext.weights.class_names import classes_for, imagenet_classes, published_classes

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
    assert len(names) == len(set(names)) == 8 + 8 + 10 + 4 + 2 + 5 + 10
    assert {entry.variant for entry in list_weights()} == set(VARIANTS)
    for entry in list_weights():
        assert entry.name.startswith(entry.variant + "_")
        assert entry.licence == ("CC-BY-NC-4.0" if entry.variant.startswith("convnextv2") else "MIT")


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
    assert (entry.path, entry.num_classes, entry.top1) == (path, num_classes, top1)
    assert entry.url == "https://dl.fbaipublicfiles.com/convnext/" + path
    assert find(path.rsplit("/")[-1].rsplit(".")[0]) is entry  # by the file's own name too


def test_unknown_names_get_the_nearest():
    with pytest.raises(WeightsError, match=r"no published weights 'convnextv2_atto'; nearest: convnextv2_atto_1k_224"):
        find("convnextv2_atto")


def test_published_weights_are_downloaded_once_and_loaded(server, tmp_path, caplog, capfd):
    published = put_atto(server, tmp_path)
    for _ in range(2):
        caplog.clear()
        model = create_model("convnextv2_atto")
        report = load_weights(model, ATTO)
        assert torch.equal(model.head.weight, published.head.weight)
        licence = "published ConvNeXt V2 weights are licensed CC-BY-NC 4.0: not for commercial use"
        assert report.notes == [licence]
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert licence in warning.getMessage()
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


def test_class_names():
    assert len(imagenet_classes()) == len(set(imagenet_classes())) == 1000
    wnids, descriptions = classes_for(21841)
    assert len(wnids) == len(set(wnids)) == 21841
    assert set(descriptions) == set(wnids)
    assert classes_for(10) is None
    assert published_classes(1000)["classes"] == imagenet_classes()
    assert published_classes(3) == {}
