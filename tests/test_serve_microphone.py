"""The microphone: Chromium's own capture, fed from a file, through the recorder and the decoder to the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from browsing import Server, browsing, opened, visited
from sounds import tone

RATE = 48_000  # what browsers record at


@pytest.fixture(scope="module")
def listening(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with a microphone that hears a tone within the band of the smoke alarm, over and over."""
    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    sound = 0.5 * tone(3_100, 2.0, RATE) + 0.001 * np.random.default_rng(0).standard_normal(2 * RATE)
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    arguments = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browsing(driver, *arguments, f"--use-file-for-fake-audio-capture={path}") as window:
        yield window


def test_five_seconds_of_the_microphone_are_heard(listening: Any, server: Server) -> None:
    with visited(listening, server) as page:
        opened(page, server, "hear")
        button = page.get_by_role("main").get_by_role("button", name="Record 5 s")
        with page.expect_request(lambda request: "/api/hear" in request.url) as sent:
            button.click()
            page.get_by_role("button", name="3 s").wait_for()
        assert sent.value.headers["content-type"] == "audio/wav"
        page.get_by_role("heading", name="Units that fire most").wait_for()
        assert page.get_by_role("heading", name="recording").is_visible()
        assert page.locator("main tbody th").first.text_content() == "smoke alarm"
        assert "relu:4" in page.locator(".strips li").first.text_content()
        duration = float(page.locator(".picture.wide").get_attribute("aria-valuemax"))
        assert 4.5 < duration < 5.6
        page.get_by_role("button", name="Play recording").click()
        page.wait_for_function("() => document.getElementById('audio').currentTime > 0.2")


def test_it_is_searched_by_and_recorded_as_it_is(listening: Any, server: Server) -> None:
    with visited(listening, server) as page:
        page.evaluate("""() => {
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (what) => {
                const stream = await ask(what);
                window.heard = stream.getAudioTracks()[0];
                return stream;
            };
        }""")
        page.get_by_role("search").get_by_role("button", name="Record").click()
        page.get_by_role("button", name="Search without recording").wait_for()
        page.wait_for_selector(".row b")
        assert page.locator("#row-0").get_attribute("data-unit") in {"relu:4", "relu:5", "head:2"}
        set_to = page.evaluate("() => window.heard.getSettings()")
        # What is made for speech takes other sounds for noise.
        assert not any(set_to[name] for name in ("echoCancellation", "noiseSuppression", "autoGainControl"))
        assert page.evaluate("() => window.heard.readyState") == "ended"  # the microphone is off again


def test_without_a_microphone_the_page_says_so(browser: Any, server: Server) -> None:
    with visited(browser, server) as page:
        page.get_by_role("search").get_by_role("button", name="Record").click()
        page.get_by_text("There is no microphone").wait_for()
        assert page.get_by_role("search").get_by_role("button", name="Record").is_enabled()
