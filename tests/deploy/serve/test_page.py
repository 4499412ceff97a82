"""The page at `/` in a real browser: each task's answer is shown, by pointer and keyboard, and nobody else is asked."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Server

import convnext
from convnext.weights import read_meta
from convnext.weights.files import store_meta

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome: `make browser` installs one")
SHIFT = {"desktop": {"viewport": {"width": 1280, "height": 900}}, "phone": {}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        phone = {key: value for key, value in playwright.devices["iPhone 13"].items() if key != "default_browser_type"}
        yield {
            "desktop": lambda: running.new_context(**SHIFT["desktop"]),
            "phone": lambda: running.new_context(**phone),
        }
        running.close()


class Watched:
    """A page of the server, and what was wrong with it.

    Args:
        context: of the browser.
        url: of the server.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.context, self.url, self.faults = context, url, list[str]()
        self.page = context.new_page()
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._local)
        self.page.goto(url)
        self.page.wait_for_selector("#model option", state="attached")

    def _local(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.faults.append(f"asks for {request.url}")

    def choose(self, model: str) -> None:
        self.page.select_option("#model", model)

    def give(self, path: Path) -> None:
        """Upload an image, and wait for its answer."""
        self.page.set_input_files("#file", str(path))
        self.answered()

    def answered(self) -> None:
        self.page.wait_for_selector("#time:not(:empty)", timeout=60_000)

    def status(self) -> str:
        return self.page.inner_text("#status")

    def pixels(self) -> np.ndarray:
        """What the canvas shows, uint8 `[H, W, 4]`."""
        found = self.page.evaluate(
            "() => { const view = document.querySelector('#view'), { width, height } = view;"
            "return [width, height, [...view.getContext('2d').getImageData(0, 0, width, height).data]]; }"
        )
        return np.array(found[2], dtype=np.uint8).reshape(found[1], found[0], 4)


@pytest.fixture(params=["desktop", "phone"])
def watched(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Watched]:
    context = browser[request.param]()
    opened = Watched(context, server.url)
    yield opened
    context.close()
    assert opened.faults == []


def test_a_classifiers_labels_are_bars(watched: Watched, trained) -> None:
    run, images = trained["classify"]
    expected = convnext.load(run)(images[0])
    watched.choose("classify")
    watched.give(images[0])
    rows = [row.inner_text().split("\n") for row in watched.page.query_selector_all("#labels li")]
    assert [row[0] for row in rows] == [each["label"] for each in expected]
    assert [row[1] for row in rows] == [f"{100 * each['score']:.1f} %" for each in expected]
    assert watched.status().startswith(expected[0]["label"])
    widths = [
        float(each.evaluate("bar => parseFloat(bar.style.width)"))
        for each in watched.page.query_selector_all(".bar div")
    ]
    np.testing.assert_allclose(widths, [100 * each["score"] for each in expected], atol=0.06)
    assert re.search(r"^classify: \d+ ms on the server, \d+ ms in all$", watched.page.inner_text("#time"))


def test_a_detectors_boxes_and_masks_are_drawn(watched: Watched, trained) -> None:
    run, images = trained["detect"]
    detector: Any = convnext.load(run)
    path = max(images, key=lambda image: len(detector(image, threshold=0.05)))
    every = detector(path, threshold=0.05)
    assert every, "the detector finds nothing"
    watched.choose("detect")
    watched.give(path)
    page, plain = watched.page, np.asarray(detector.read(path))
    page.fill("#score", "0.05")
    assert watched.status().startswith(f"{len(every)} object")
    both = watched.pixels()
    assert both.shape[:2] == plain.shape[:2]
    page.uncheck("#boxes")
    masked = watched.pixels()[..., :3]
    changed = (np.abs(masked.astype(int) - plain) > 3).any(-1)
    inside = np.any([each["mask"] for each in every], axis=0)
    assert (changed <= inside).all()  # and where the colour is that of the object already, nothing changes
    assert changed.sum() > 0.9 * inside.sum()
    page.uncheck("#masks")
    np.testing.assert_array_equal(watched.pixels()[..., :3], plain)
    page.check("#boxes")
    page.check("#masks")
    np.testing.assert_array_equal(watched.pixels(), both)
    least = sorted(each["score"] for each in every)[len(every) // 2]
    shown = round(float(np.ceil(least * 100) / 100), 2)
    page.fill("#score", str(shown))
    kept = [each for each in every if each["score"] >= shown]
    assert (
        watched.status() == "No objects at this score."
        if not kept
        else watched.status().startswith(f"{len(kept)} object")
    )
    page.fill("#score", "0.05")
    for switch in page.query_selector_all("#classes input"):
        switch.uncheck()
    assert watched.status() == "No objects at this score."
    np.testing.assert_array_equal(watched.pixels()[..., :3], plain)


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A detector with a threshold of its own for each class, and a server that answers by them."""
    weights = tmp_path_factory.mktemp("calibrated") / "detect.safetensors"
    shutil.copyfile(trained["detect"][0] / "model.safetensors", weights)
    store_meta(weights, {"calibration": {**read_meta(weights)["calibration"], "thresholds": [0.04, 0.9]}})
    # Of one thread a worker, as this process has: sums of several round otherwise.
    with Server(weights, "--workers", 2, "--device", "cpu", "--calibrated") as running:
        yield weights, running


def test_the_slider_starts_from_what_the_server_answers(calibrated, browser: Any, trained) -> None:
    weights, server = calibrated
    path = max(trained["detect"][1], key=lambda image: len(convnext.load(weights)(image, threshold=0.04)))
    expected = convnext.load(weights, calibrated=True)(path)
    answered = server.post("/v1/predict", path.read_bytes()).json()["answers"][0]["objects"]
    assert [each["score"] for each in answered] == [each["score"] for each in expected]
    every = convnext.load(weights)(path, threshold=0.04)
    assert len(every) > len(expected) > 0
    context = browser["desktop"]()
    opened = Watched(context, server.url)
    opened.give(path)
    page = opened.page
    assert page.inner_text("#score-value") == "each class's own"
    assert opened.status().startswith(f"{len(expected)} object")
    assert not page.is_visible("#score-own")
    page.fill("#score", "0.04")
    assert opened.status().startswith(f"{len(every)} object")
    assert page.inner_text("#score-value") == "0.04"
    page.click("#score-own")
    assert opened.status().startswith(f"{len(expected)} object")
    assert page.inner_text("#score-value") == "each class's own"
    context.close()
    assert opened.faults == []


def test_without_a_calibration_the_slider_starts_at_one_score(watched: Watched, trained) -> None:
    watched.choose("detect")
    watched.give(trained["detect"][1][0])
    assert watched.page.inner_text("#score-value") == "0.50"
    assert watched.page.input_value("#score") == "0.5"


def test_a_segmenters_classes_are_painted(watched: Watched, trained) -> None:
    run, images = trained["segment"]
    segmenter: Any = convnext.load(run)
    labels, plain = segmenter(images[0]), np.asarray(segmenter.read(images[0]))
    watched.choose("segment")
    watched.give(images[0])
    page = watched.page
    page.fill("#opacity", "1")
    painted = watched.pixels()[..., :3]
    there = np.unique(labels)
    assert len(page.query_selector_all("#classes li")) == len(there)
    colours = [np.unique(painted[labels == each], axis=0) for each in there]
    assert all(len(colour) == 1 for colour in colours)
    assert len(np.unique(np.concatenate(colours), axis=0)) == len(there)
    page.fill("#opacity", "0")
    np.testing.assert_array_equal(watched.pixels()[..., :3], plain)
    page.fill("#opacity", "1")
    first = page.query_selector("#classes li")
    named = first.inner_text().split(" ")[0]
    first.query_selector("input").uncheck()
    gone = labels == segmenter.classes.index(named)
    np.testing.assert_array_equal(watched.pixels()[gone][..., :3], plain[gone])
    assert (watched.pixels()[~gone][..., :3] == painted[~gone]).all()


def test_depths_and_embeddings_are_shown(watched: Watched, trained) -> None:
    run, images = trained["depth"]
    depths = convnext.load(run)(images[0])
    watched.choose("depth")
    watched.give(images[0])
    assert re.search(r"^Depth from [\d.e+-]+ to [\d.e+-]+, median", watched.status())
    assert float(watched.status().split()[2]) == pytest.approx(depths.min(), rel=0.01)
    watched.choose("embed")
    watched.answered()
    assert watched.status().startswith("An embedding of 320 numbers: ")


def test_the_keyboard_alone_does_it(watched: Watched, trained) -> None:
    page = watched.page
    page.wait_for_selector("#samples img")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"the Tab key does not lead to {selector}")

    page.evaluate("document.activeElement.blur()")
    tab_to("#model")
    page.keyboard.type("classify")
    assert page.input_value("#model") == "classify"
    tab_to("#file")
    tab_to("#samples button")
    page.keyboard.press("Enter")
    watched.answered()
    assert watched.status()
    tab_to("#why-ask")
    page.keyboard.press("Enter")
    page.wait_for_selector("#why-picture", state="visible")
    assert "speak for" in page.inner_text("#why-text")
    tab_to("#card")
    page.keyboard.press("Enter")
    page.wait_for_selector("#card-dialog", state="visible")
    assert page.inner_text("#card-text").startswith("# ")
    page.keyboard.press("Escape")
    assert not page.is_visible("#card-dialog")


def test_images_are_dropped_and_pasted(watched: Watched, trained) -> None:
    content = list(trained["classify"][1][0].read_bytes())
    watched.choose("classify")
    give = """([kind, content]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(content)], "x.png", { type: "image/png" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.querySelector("#time").textContent = "";
        document.querySelector("#drop").dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        watched.page.evaluate(give, [kind, content])
        watched.answered()
        assert len(watched.page.query_selector_all("#labels li")) == 3


def test_what_is_wrong_is_said(browser: Any, server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"hello")
    context = browser["desktop"]()
    opened = Watched(context, server.url)
    opened.page.set_input_files("#file", str(tmp_path / "x.png"))
    opened.page.wait_for_selector("#error:not(:empty)")
    assert opened.page.inner_text("#error") == "not an image (looks like text)"
    assert opened.page.get_attribute("#error", "role") == "alert"
    context.close()


def test_a_token_is_asked_for_once(browser: Any, trained) -> None:
    run, images = trained["classify"]
    with Server(run, "--workers", 1, "--device", "cpu", CONVNEXT_TOKEN="s3cret") as closed:
        context = browser["desktop"]()
        page = context.new_page()
        page.goto(closed.url)
        page.wait_for_selector("#token-dialog", state="visible")
        for word in ("wrong", "s3cret"):
            page.wait_for_selector("#token-dialog", state="visible")
            page.fill("#token", word)
            page.keyboard.press("Enter")
        page.wait_for_selector("#model option", state="attached")
        page.set_input_files("#file", str(images[0]))
        page.wait_for_selector("#time:not(:empty)")
        assert not page.is_visible("#token-dialog")
        context.close()


class Framing(BaseHTTPRequestHandler):
    """A site whose page shows the address behind its "?" in a frame."""

    def do_GET(self) -> None:
        content = f'<!doctype html><iframe src="{self.path.partition("?")[2]}"></iframe>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def test_a_site_that_is_named_may_show_it_in_a_frame(browser: Any, server: Server, trained) -> None:
    run, images = trained["classify"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Framing) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{site.server_port}"
        with Server(run, "--workers", 1, "--device", "cpu", "--framed-by", origin) as open_to_it:
            context = browser["desktop"]()
            page = context.new_page()
            page.goto(f"{origin}/?{server.url}/")  # which names no site
            assert not [frame for frame in page.frames if frame.query_selector("#model")]
            page.goto(f"{origin}/?{open_to_it.url}/")
            (_, frame) = page.frames
            frame.wait_for_selector("#model option", state="attached")
            frame.set_input_files("#file", str(images[0]))
            frame.wait_for_selector("#time:not(:empty)")
            assert len(frame.query_selector_all("#labels li")) == 3
            context.close()
        site.shutdown()


@pytest.mark.parametrize("task", ["classify", "detect", "segment"])
def test_no_serious_fault_of_accessibility(task: str, watched: Watched, trained) -> None:
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    watched.choose(task)
    watched.give(trained[task][1][0])
    found = module.Axe().run(watched.page).response["violations"]
    serious = [
        f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
