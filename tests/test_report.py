from __future__ import annotations

import base64
import io
import json
import re
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from and_retrieval.clips.bands import BANDS
from and_retrieval.clips.files import UnreadableAudioError
from and_retrieval.errors import InputError
from and_retrieval.report import media
from and_retrieval.report import page as report
from and_retrieval.report.data import (
    ClipFacts,
    LayerOverview,
    Picture,
    ReportData,
    Section,
    TextTables,
)
from and_retrieval.report.page import UnitClips, build_report
from and_retrieval.report.write import _captions
from and_retrieval.types import (
    Clip,
    Explanation,
    Floats,
    Label,
    Meaning,
    Shown,
    Summary,
    UnitFaithfulness,
    reliability,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028{{script}}"
CLIPS = 12
RATE = 16_000


def read_clip(row: int) -> tuple[Floats, int]:
    """A second of sound, another one for every row: a tone in noise, loudest at its end."""
    times = np.arange(RATE) / RATE
    noise = np.random.default_rng(row).normal(0, 0.05, RATE)
    return (0.5 * times * np.sin(2 * np.pi * (200 + 150 * row) * times) + noise).astype(np.float32), RATE


FACTS = {
    row: ClipFacts(f"water/{row}.wav", 0.0, ("Water drips in a cave",) if row % 2 else ())
    for row in range(CLIPS)
}


def shown(row: int, activation: float) -> Shown:
    return Shown(row, 0.25, activation)


def figures(reliable: bool) -> UnitFaithfulness:
    return UnitFaithfulness(80, 0.61 if reliable else -0.001, 0.05, 0.3, 0.714159265, 0.2, 0.001, reliable)


def explain(
    layer: str, unit: int, concept: str = "rain", abstained: bool = False, reliable: bool | None = None
) -> Explanation:
    top = tuple(shown((unit + i) % CLIPS, 5.0 - i) for i in range(6))
    low = tuple(shown((unit + i + 6) % CLIPS, -1.0) for i in range(3))
    summary = (
        Summary(None, True, "the clips have nothing in common", "raw words of the model")
        if abstained
        else Summary(f"It hears {concept}.", False)
    )
    labels = (Label(concept, 0.9 - unit / 100), Label("wind", 0.1))
    faithfulness = None if reliable is None else figures(reliable)
    acoustics = "prefers tonal, short sounds (rho 0.69, -0.61)" if unit % 2 else None
    return Explanation(
        layer,
        unit,
        top,
        low,
        labels,
        faithfulness,
        reliability(faithfulness),
        acoustics=acoustics,
        summary=summary,
    )


def small(concept: str = "rain", **other: Any) -> ReportData:
    """Of the 30 units of conv 0..9 are reliable, 10..19 not; every fifth has no sentence. Head is untested."""
    units = [
        explain("conv", u, concept, abstained=u % 5 == 4, reliable=u < 10 if u < 20 else None)
        for u in range(30)
    ]
    units += [explain("head", u, "train") for u in range(10)]
    fields: dict[str, Any] = {
        "title": "a network",
        "facts": {"Target": "a network"},
        "notes": ("target and embedder share weights",),
        "layers": ("conv", "head"),
        "explanations": units,
        "clips": FACTS,
        "concept_hits": {"rain": [(31, 0.8), (2, 0.7)], "train": [(35, 0.9)]},
        "layer_facts": {"conv": [("R2 by measured acoustics", "0.49, shuffled -0.06")]},
    }
    return ReportData(**(fields | other))


class Page(HTMLParser):
    """What a browser makes of the page: every element, JSON blocks by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, Any] = {}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.blocks[self._open] = json.loads(data)
            self._open = None

    @property
    def clips(self) -> dict[str, Any]:
        return {name: block for name, block in self.blocks.items() if name.startswith("clip-")}


@pytest.fixture(scope="module")
def text() -> str:
    return build_report(small(), read_clip)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_unit_is_there_with_its_labels_and_clips(page: Page) -> None:
    content = page.blocks["report"]
    assert [(content["layers"][u["layer"]]["name"], u["unit"]) for u in content["units"]] == [
        (e.layer, e.unit) for e in small().explanations
    ]
    unit = content["units"][3]
    assert [(content["concepts"][c], *rest) for c, *rest in unit["labels"]] == [
        ("rain", 0.87, "audio"),
        ("wind", 0.1, "audio"),
    ]
    clip, peak, activation = unit["top"][0]
    assert (content["clips"][clip]["path"], peak, activation) == ("water/3.wav", 0.25, 5.0)
    assert content["hits"][0] == ["rain", [[31, 0.8], [2, 0.7]]]


def test_units_without_a_sentence_keep_reason_and_raw_answer(page: Page) -> None:
    units = page.blocks["report"]["units"]
    assert [i for i, u in enumerate(units) if u["text"] is None] == [4, 9, 14, 19, 24, 29]
    assert (units[4]["reason"], units[4]["raw"]) == (
        "the clips have nothing in common",
        "raw words of the model",
    )


def two_meanings(one: Explanation) -> Explanation:
    """The unit with its first, third and fourth top clip of one kind, the next two of another, the last of none."""
    summary = Summary("Responds to the hiss of rain.", False, origin="written")
    unsaid = Summary(None, True, "its label does not predict it on clips it was not made from")
    meanings = (
        Meaning((Label("hiss", 3.0, "both"), Label("rain", 1.0)), (0, 2, 3), summary, figures(True)),
        Meaning((Label("dog", 2.0, "captions"),), (1, 4), unsaid, figures(False)),
    )
    return replace(one, meanings=meanings, polysemanticity=0.62, open_concepts=("drip", "splashing"))


def test_meanings_have_labels_a_sentence_a_verdict_and_clips_of_their_own() -> None:
    units = [two_meanings(explain("conv", 0)), explain("conv", 1)]
    data = small(layers=("conv",), explanations=units, concept_hits={}, random_polysemanticity=0.97)
    content = Page(build_report(data, read_clip)).blocks["report"]
    unit, other = content["units"]
    first, second = unit["meanings"]
    assert [(content["concepts"][c], *rest) for c, *rest in first["labels"]] == [
        ("hiss", 3.0, "both"),
        ("rain", 1.0, "audio"),
    ]
    assert (first["text"], first["reliable"], first["clips"]) == (
        "Responds to the hiss of rain.",
        "holds",
        [0, 2, 3],
    )
    assert (second["text"], second["reliable"], second["clips"]) == (None, "fails", [1, 4])
    assert second["reason"].startswith("its label does not predict")
    assert (unit["spread"], unit["words"], other["spread"], other["meanings"]) == (
        0.62,
        ["drip", "splashing"],
        None,
        [],
    )
    layer = content["layers"][0]
    assert (layer["several"], layer["spread"], content["randomSpread"]) == (1, 0.62, 0.97)


def test_the_first_clips_of_every_meaning_get_sound_first() -> None:
    unit = replace(explain("conv", 0), low=(), top=tuple(shown(row, 9.0 - row) for row in range(12)))
    meanings = tuple(Meaning((Label("x", 1.0),), places) for places in ((0, *range(2, 8)), (1, 10, 11)))
    order = report.sound_order([UnitClips.of(replace(unit, meanings=meanings))], ("conv",))
    assert order == [0, 2, 3, 4, 5, 1, 10, 11, 6, 7, 8, 9]


def test_a_meaning_of_clips_that_are_not_there_is_refused() -> None:
    unit = explain("conv", 0)
    meaning = Meaning((), (0, len(unit.top)))
    with pytest.raises(ValueError, match="conv:0 names a clip"):
        build_report(small(explanations=[replace(unit, meanings=(meaning,))], concept_hits={}), read_clip)


def test_sections_are_text_tables_and_pictures_inside_the_page() -> None:
    picture = Picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "a curve")
    section = Section("Pruning", (HOSTILE,), [["units", "gap"], ["3", HOSTILE]], [picture])
    page = Page(build_report(small(sections=[section]), read_clip))
    content = page.blocks["report"]["sections"]
    assert content[0]["title"] == "Pruning"
    assert content[0]["paragraphs"] == [HOSTILE]
    assert content[0]["table"] == [["units", "gap"], ["3", HOSTILE]]
    ((source, description),) = content[0]["pictures"]
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")) == picture.content
    assert description == "a curve"


def test_every_unit_says_how_far_its_label_can_be_trusted(page: Page) -> None:
    units = page.blocks["report"]["units"]
    assert [u["reliable"] for u in units] == ["holds"] * 10 + ["fails"] * 10 + ["untested"] * 20
    assert units[0]["faithfulness"] == [80, 0.61, 0.05, 0.3, 0.71416, 0.2, 0.001]
    assert units[39]["faithfulness"] is None
    assert [u["acoustics"] for u in units[:2]] == [None, "prefers tonal, short sounds (rho 0.69, -0.61)"]


def test_overview_counts_what_was_tested_holds_and_has_a_sentence(page: Page) -> None:
    conv, head = page.blocks["report"]["layers"]
    assert [conv[name] for name in ("units", "tested", "reliable", "sentences")] == [30, 20, 10, 24]
    assert [head[name] for name in ("units", "tested", "reliable", "sentences")] == [10, 0, 0, 10]
    assert conv["facts"] == [["R2 by measured acoustics", "0.49, shuffled -0.06"]]
    assert head["facts"] == []


def test_overview_counts_what_explains_the_tested_units() -> None:
    kinds = [None, "concept", "acoustic", "acoustic", "both"]
    units = [replace(explain("conv", number, reliable=True), kind=kind) for number, kind in enumerate(kinds)]  # type: ignore[arg-type]
    untested = replace(explain("conv", 9), kind=None)
    overview = LayerOverview("conv")
    overview.add(untested)
    assert overview.table()["kinds"] is None
    for unit in units:
        overview.add(unit)
    assert overview.table()["kinds"] == {"concept": 1, "acoustic": 2, "both": 1, "none": 1}


def test_profiles_are_drawn_where_there_is_something_to_see() -> None:
    rising, flat = np.linspace(-0.4, 0.4, BANDS), np.full(BANDS, 0.05)
    units = [
        replace(explain("conv", number), profile=tuple(profile))
        for number, profile in enumerate([rising, flat, (), np.full(BANDS, np.nan)])
    ]
    text = TextTables(small(explanations=units, concept_hits={}))
    drawn = [text.unit(unit)["profile"] for unit in units]
    tables = text.tables()
    assert drawn[0] == [round(value, 2) for value in rising.tolist()]
    assert drawn[1:] == [[], [], []]
    assert len(tables["bands"]) == BANDS
    assert tables["bands"] == sorted(tables["bands"])


def test_overview_counts_best_labels_and_places_every_score_in_the_picture(page: Page) -> None:
    conv, head = page.blocks["report"]["layers"]
    assert conv["frequent"] == [["rain", 30]]
    assert head["frequent"] == [["train", 10]]
    assert sum(conv["scores"]["counts"]) == conv["units"] == conv["labelled"] == 30
    assert (conv["scores"]["low"], conv["scores"]["high"]) == (0.61, 0.9)


def test_each_clip_is_stored_once_as_playable_sound(page: Page, text: str) -> None:
    assert set(page.clips) == {f"clip-{row}" for row in range(CLIPS)}
    assert len(re.findall(r'id="clip-\d+"', text)) == CLIPS
    for row in range(CLIPS):
        block = page.clips[f"clip-{row}"]
        assert text.count(block["audio"]) == 1
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(block["audio"])), dtype="float32")
        original, _ = read_clip(row)
        assert rate == RATE
        assert block["duration"] == 1.0
        assert abs(len(sound) - RATE) <= 1152
        least = min(len(sound), RATE)
        assert np.corrcoef(sound[:least], original[:least])[0, 1] > 0.8


def png_pixels(png: bytes) -> tuple[np.ndarray, np.ndarray]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("colours", [24, 256])
def test_a_picture_holds_the_colours_it_was_made_of(colours: int) -> None:
    random = np.random.default_rng(colours)
    levels = random.integers(colours, size=(7, 13)).astype(np.uint8)
    palette = random.integers(256, size=(colours, 3)).astype(np.uint8)
    png = media.encode_png(levels, palette)
    pixels, shades = png_pixels(png)
    np.testing.assert_array_equal(pixels, levels)
    np.testing.assert_array_equal(shades[pixels], palette[levels])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), palette[levels])
    assert media.encode_png(levels, palette) == png


def test_pictures_are_png_whose_brightest_spot_is_where_the_tone_is(page: Page) -> None:
    for row in range(CLIPS):
        pixels, palette = png_pixels(base64.b64decode(page.clips[f"clip-{row}"]["image"]))
        assert pixels.shape == (media.MELS, media.COLUMNS)
        assert pixels.max() == len(palette) - 1
        band, column = np.unravel_index(pixels.argmax(), pixels.shape)
        mel = 2595 * np.log10(1 + (200 + 150 * row) / 700)
        expected = media.MELS - mel / (2595 * np.log10(1 + 8000 / 700)) * (media.MELS + 1)
        assert abs(band - expected) <= 1.5
        assert column > media.COLUMNS * 0.6


@pytest.mark.parametrize("samples", [0, 1, 100, 1600, RATE * 30])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_clips_of_any_length_and_rate_can_be_stored(samples: int, rate: int) -> None:
    stored = media.clip_media(np.full(samples, np.nan, np.float32), rate)
    pixels, _ = png_pixels(base64.b64decode(stored["image"]))
    assert pixels.max(initial=0) == 0
    assert stored["duration"] == pytest.approx(samples / rate, abs=1e-3)


def test_hostile_text_stays_text() -> None:
    plain = Page(build_report(small(), read_clip, 1))
    units = small(HOSTILE).explanations
    summary = Summary(None, True, HOSTILE, HOSTILE)
    last = Explanation(
        "head",
        9,
        (Shown(0, 0.0, 1.0),),
        labels=(Label(HOSTILE, 1.0),),
        acoustics=HOSTILE,
        summary=summary,
    )
    units = [*units[:-1], last]
    facts = {HOSTILE: HOSTILE}
    data = small(
        title=HOSTILE,
        facts=facts,
        notes=(HOSTILE,),
        explanations=units,
        clips={**FACTS, 0: ClipFacts(HOSTILE, 0.0, (HOSTILE, HOSTILE))},
        concept_hits={HOSTILE: [(0, 1.0)]},
        layer_facts={"conv": [(HOSTILE, HOSTILE)]},
    )
    text = build_report(data, read_clip, 1)
    hostile = Page(text)
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert "alert(1)</script>" not in text
    assert "\u2028" not in text
    content = hostile.blocks["report"]
    assert (
        content["title"] == content["notes"][0] == content["facts"][0][1] == content["hits"][0][0] == HOSTILE
    )
    assert content["layers"][0]["facts"] == [[HOSTILE, HOSTILE]]
    assert content["units"][-1]["raw"] == content["units"][-1]["acoustics"] == HOSTILE
    (clip,) = (clip for clip in content["clips"] if clip["row"] == 0)
    assert clip["path"] == clip["captions"][0] == clip["captions"][1] == HOSTILE


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_json_survives_and_never_holds_markup(value: Any) -> None:
    text = report._embed(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_undecodable_paths_and_odd_numbers_do_not_break_the_page() -> None:
    odd = Shown(-1, float("nan"), float("inf"))
    labels = (Label("rain", float("-inf")),)
    unit = Explanation("conv", 0, (odd,), labels=labels, summary=Summary("é", False))
    clips = {-1: ClipFacts("caf\udce9.wav", 0.0)}
    data = small(layers=("conv",), explanations=[unit], clips=clips, concept_hits={}, layer_facts={})
    text = build_report(data, read_clip)
    content = Page(text.encode().decode()).blocks["report"]
    assert content["units"][0]["top"] == [[0, None, None]]
    assert content["clips"][0]["path"] == "caf\udce9.wav"
    assert content["layers"][0]["scores"] is None


def test_page_allows_its_own_script_and_style_and_no_address(page: Page, text: str) -> None:
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    assert f"'{report._hash(script)}'" in policy
    outside = [
        a for _, a in page.elements for name in ("src", "href") if not (a.get(name) or "#").startswith("#")
    ]
    assert outside == []


def test_same_data_same_bytes(text: str) -> None:
    assert build_report(small(), read_clip) == text


def test_size_budget_is_kept_best_labelled_units_first(text: str) -> None:
    units = [explain("conv", u) for u in range(CLIPS)]
    units[7] = replace(units[7], labels=(Label("rain", 99.0),), acoustics=None)
    data = small(layers=("conv",), explanations=units, concept_hits={})
    empty = len(build_report(data, read_clip, 25).encode()) / 1e6
    budget = empty * 0.8
    text = build_report(data, read_clip, budget)
    page = Page(text)
    assert budget * 0.7 < len(text.encode()) / 1e6 <= budget
    sound = page.blocks["report"]["sound"]
    assert 5 <= sound["stored"] == len(page.clips) < sound["wanted"] == CLIPS
    assert {f"clip-{s.row}" for s in units[7].top[:5]} <= set(page.clips)
    assert len(page.blocks["report"]["units"]) == CLIPS
    assert 1 <= page.blocks["report"]["layers"][0]["heard"] < CLIPS


def test_layers_take_turns_for_sound() -> None:
    a, b = (
        [Explanation(n, u, (shown(r, 1.0),), labels=(Label("x", s),)) for u, s, r in rows]
        for n, rows in (("a", [(0, 0.1, 0), (1, 0.9, 1)]), ("b", [(0, 0.5, 2), (1, 0.6, 3)]))
    )
    assert report.sound_order(map(UnitClips.of, [*a, *b]), ("a", "b")) == [1, 3, 0, 2]


def test_reliable_units_get_sound_before_untested_and_unreliable_ones() -> None:
    verdicts = [False, None, True, True]
    units = [
        replace(explain("conv", u, reliable=verdict), top=(shown(u, 1.0),), low=())
        for u, verdict in enumerate(verdicts)
    ]
    assert report.sound_order(map(UnitClips.of, units), ("conv",)) == [2, 3, 1, 0]


def test_text_larger_than_the_budget_is_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"and 0\.01 are allowed; give --megabytes [\d.]+ or more"):
        build_report(small(), read_clip, 0.01)
    with pytest.raises(InputError, match="above 0"):
        build_report(small(), read_clip, float("nan"))


class Streamed(Sequence[Explanation]):
    """Units that are made while they are read, as those of a run are; counts how often all were."""

    def __init__(self, units: int) -> None:
        self.units, self.read = units, 0

    def __len__(self) -> int:
        return self.units

    def __getitem__(self, place: Any) -> Any:
        raise AssertionError("units are read in their order, not one by one")

    def __iter__(self) -> Iterator[Explanation]:
        self.read += 1
        for number in range(self.units):
            top = tuple(shown(row, 9.0 - row / 100) for row in range(20))
            yield replace(explain("conv", number), top=top, low=top, profile=tuple(np.linspace(-1, 1, BANDS)))


def test_memory_does_not_grow_with_what_is_said_of_the_units() -> None:
    """Of a unit beyond the text that fits, some rows of clips are kept: 35 kB were, when all units were held."""
    clips = {row: ClipFacts(f"{row}.wav", 0.0) for row in range(20)}

    def peak(units: int) -> int:
        many = Streamed(units)
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match="the report's text alone takes"):
                build_report(small(explanations=many, clips=clips, concept_hits={}), read_clip, 0.1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert many.read == 1

    few, many = peak(200), peak(600)
    assert (many - few) / 400 < 1000  # bytes a unit


def test_unreadable_clips_are_named() -> None:
    def fails_on_3(row: int) -> tuple[Floats, int]:
        if row == 3:
            raise UnreadableAudioError("file is gone")
        return read_clip(row)

    calls: list[tuple[int, int]] = []
    page = Page(build_report(small(), fails_on_3, progress=lambda done, total: calls.append((done, total))))
    assert page.blocks["report"]["sound"]["unreadable"] == ["water/3.wav from 0 s: file is gone"]
    assert "clip-3" not in page.clips
    assert len(page.clips) == CLIPS - 1
    assert calls[-1] == (CLIPS, CLIPS)


def test_contradictory_data_is_refused() -> None:
    unit = explain("conv", 0)
    with pytest.raises(ValueError, match="'conv', which is not in layers"):
        build_report(small(layers=("head",), layer_facts={}), read_clip)
    with pytest.raises(ValueError, match="conv:0 is explained twice"):
        build_report(small(explanations=[unit, unit], concept_hits={}), read_clip)
    with pytest.raises(ValueError, match="facts about layer 'convolution'"):
        build_report(small(layer_facts={"convolution": [("a", "b")]}), read_clip)
    with pytest.raises(ValueError, match="concept 'rain' points outside"):
        build_report(small(explanations=[unit]), read_clip)


@pytest.fixture
def browser() -> Iterator[Any]:
    """A page of a browser that may not say anything: no error, no dialog, no request to a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    messages: list[str] = []
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = window.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: messages.append(dialog.message))
        page.on(
            "request",
            lambda request: messages.append(request.url) if request.url.startswith("http") else None,
        )
        yield page
        window.close()
    assert messages == []


def opened(page: Any, folder: Path, data: ReportData) -> Any:
    file = folder / "report.html"
    file.write_text(build_report(data, read_clip), encoding="utf-8")
    page.goto(file.as_uri())
    return page


@pytest.mark.slow
def test_search_filters_and_sound_in_a_browser(browser: Any, tmp_path: Path) -> None:
    units = [*small().explanations[:-1], explain("head", 9, HOSTILE)]
    page = opened(browser, tmp_path, small(explanations=units))
    cards, status = page.locator(".card"), page.locator("#status")
    assert cards.count() == 24
    page.fill("#query", "rain")
    assert status.inner_text().startswith("Ranked by vector score")
    assert [cards.nth(i).get_attribute("data-unit") for i in range(2)] == ["31", "2"]
    page.click("#swap")
    assert status.inner_text().startswith("Matched by words")
    assert "30 units" in status.inner_text()
    page.fill("#query", "RAI")
    assert "30 units" in status.inner_text()
    page.fill("#query", "conv:7")
    assert cards.first.get_attribute("aria-label") == "conv unit 7"
    page.fill("#query", "drip cave")
    assert "40 units" in status.inner_text()
    page.fill("#query", "alert")
    assert cards.count() == 1
    page.fill("#query", "")
    page.check("#reliable")
    assert status.inner_text() == "10 units of 40"
    page.select_option("#layer", "1")
    assert "Untick" in page.locator("#cards .none").inner_text()
    page.uncheck("#reliable")
    assert cards.count() == 10

    page.locator(".play").nth(1).click()
    page.wait_for_selector(".clip.playing")
    assert page.evaluate("player.readyState") >= 2
    assert page.evaluate("player.duration") == pytest.approx(1.0, abs=0.1)
    assert page.locator(".picture img").first.evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    page.evaluate("location.hash = '#conv/29'")
    page.wait_for_selector(".card.found")
    assert page.locator(".card.found").get_attribute("aria-label") == "conv unit 29"


@pytest.mark.slow
def test_cards_show_how_far_they_can_be_trusted_in_a_browser(browser: Any, tmp_path: Path) -> None:
    units = list(small().explanations)
    facts = {"network": f"yamnet (weights {'0123456789abcdef' * 4})"}
    page = opened(browser, tmp_path, small(facts=facts))
    cards = page.locator(".card")
    assert cards.first.get_attribute("data-unit") == "0"
    badges = [cards.locator(f".badge.{style}").count() for style in ("holds", "fails", "untested")]
    assert badges == [10, 0, 14]
    numbers = page.locator(".numbers").first
    assert numbers.locator("dt").all_inner_texts()[:4] == ["units", "labelled", "reliable", "sentences"]
    assert numbers.locator("dd").all_inner_texts()[:4] == ["30", "100 %", "50 %", "80 %"]
    assert "R2 by measured acoustics" in page.locator(".measures").first.inner_text()
    assert page.locator("#facts .hash").inner_text() == "0123456789abcdef" * 4 + ")"

    holds = cards.nth(1)
    assert holds.locator(".badge").inner_text() == "holds on unseen clips"
    assert holds.locator(".trust .muted").inner_text().replace("\u00a0", " ") == (
        "On 80 unseen clips: correlation 0.61 (random label 0.05, best of ten 0.30), "
        "AUPRC 0.71 (base rate 0.20), q 0.001"
    )
    assert holds.locator(".acoustics").inner_text().lower() == (
        "prefers tonal, short sounds (rho 0.69, −0.61)"
    )
    assert (
        cards.nth(4)
        .locator(".unsaid")
        .inner_text()
        .startswith("No sentence: the clips have nothing in common")
    )

    page.fill("#query", "conv:14")
    assert cards.first.locator(".abstained").inner_text().startswith("No reliable explanation: the clips")
    assert "correlation 0.00 (random" in cards.first.locator(".trust .muted").inner_text()

    untested = [replace(unit, faithfulness=None, reliable="untested") for unit in units]
    opened(page, tmp_path, small(explanations=untested))
    assert page.locator("#reliable").is_disabled()
    assert page.locator("label:has(#reliable)").get_attribute("title")
    assert page.locator("#trust").is_hidden()
    assert page.locator(".badge.untested").count() == 24


@pytest.mark.slow
def test_paths_are_shown_short_and_copied_whole_in_a_browser(browser: Any, tmp_path: Path) -> None:
    unit = replace(explain("conv", 0), top=(Shown(-1, 0.25, 1.0),), low=())
    clips = {-1: ClipFacts("/sounds/far away/water/drop.wav", 0.0)}
    page = opened(browser, tmp_path, small(explanations=[unit], clips=clips, concept_hits={}))
    path = page.locator(".path").first
    assert path.inner_text() == "water/drop.wav"
    assert path.get_attribute("title") == "/sounds/far away/water/drop.wav"
    page.evaluate("addEventListener('copy', e => { window.copied = e.clipboardData.getData('text/plain'); })")
    path.click(click_count=3)
    page.keyboard.press("Control+c")
    assert page.evaluate("copied").strip() == "/sounds/far away/water/drop.wav"


def test_all_captions_of_a_clip_come_the_typical_one_first() -> None:
    clip = Clip(
        "0", "/", "a.wav", 0, 1, captions=("A cat.", "The sound of rain\non a roof", "rain", "A cat.")
    )
    assert _captions(clip, "rain on a roof") == (
        "rain on a roof",
        "A cat.",
        "rain",
    )  # without a shared template
    assert _captions(clip, "rain") == ("rain", "A cat.", "The sound of rain on a roof")
    assert _captions(clip, "wind, water") == ("wind, water", "A cat.", "The sound of rain on a roof", "rain")
    assert _captions(replace(clip, captions=()), "wind") == ("wind",)
    assert _captions(replace(clip, captions=("rain",)), "") == ("rain",)


@pytest.mark.slow
def test_several_captions_are_shown_and_found_in_a_browser(browser: Any, tmp_path: Path) -> None:
    unit = replace(explain("conv", 0), top=(Shown(-1, 0.25, 1.0),), low=())
    clips = {-1: ClipFacts("/sounds/a.wav", 0.0, ("Rain on a roof", "It pours", "Zebras wade"))}
    page = opened(browser, tmp_path, small(explanations=[unit], clips=clips, concept_hits={}))
    shown = page.locator("[data-unit='0'] .clip").first.locator(".caption")
    assert shown.all_inner_texts() == ["Rain on a roof", "It pours", "Zebras wade"]
    page.fill("#query", "zebras")
    page.wait_for_selector("mark")
    assert page.locator("mark").all_inner_texts() == ["Zebras"]


@pytest.mark.slow
def test_meanings_sources_and_sections_in_a_browser(browser: Any, tmp_path: Path) -> None:
    units = list(small().explanations)
    units[0] = replace(
        two_meanings(units[0]), labels=(Label("rain", 0.9, "both"), Label("wind", 0.1, "captions"))
    )
    picture = Picture(
        media.encode_png(np.zeros((4, 9), np.uint8), np.zeros((24, 3), np.uint8)), "image/png", "a curve"
    )
    section = Section("Pruning", ("What was lost.",), [["units", "gap"], ["3", "0.5"]], [picture])
    page = opened(
        browser, tmp_path, small(explanations=units, random_polysemanticity=0.97, sections=[section])
    )
    card = page.locator("[data-unit='0']")
    groups = card.locator(".meaning")
    assert groups.locator("h4").all_inner_texts() == ["Meaning 1 of 2", "Meaning 2 of 2"]
    assert groups.nth(0).locator(".sentence").inner_text() == "Responds to the hiss of rain."
    assert groups.nth(1).locator(".sentence").count() == 0
    assert [groups.nth(i).locator(".badge").inner_text() for i in range(2)] == [
        "holds on unseen clips",
        "does not hold on unseen clips",
    ]
    assert [groups.nth(i).locator(".clip").count() for i in range(2)] == [3, 2]
    assert groups.nth(0).locator(".names li").all_inner_texts() == ["hissby both", "rainby sound"]
    assert card.locator(".bars .source").all_inner_texts() == ["by both", "by captions"]
    assert " ".join(card.locator(".spread").inner_text().split()) == "0.62 (random clips 0.97)"
    assert "1 strong clip of no group" in card.locator(".sounds").inner_text()
    assert page.locator("#spread").is_visible()
    assert page.locator(".measures").first.inner_text().count("0.62, random 0.97") == 1

    page.check("#several")
    assert page.locator("#status").inner_text() == "1 unit of 40"
    page.evaluate("location.hash = '#conv/29'")
    page.wait_for_selector(".card.found")
    assert not page.is_checked("#several")
    page.fill("#query", "hiss")
    assert page.locator(".card").count() == 1
    page.fill("#query", "")

    assert page.locator("#sections h2").inner_text() == "Pruning"
    assert page.locator("#sections td").all_inner_texts() == ["3", "0.5"]
    assert (
        page.locator("#sections img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 9
    )

    opened(page, tmp_path, small())
    assert page.locator("#several").is_disabled()
    assert page.locator("#spread").is_hidden()
    assert page.locator(".card .source").count() == 0


@pytest.mark.slow
def test_measured_units_in_a_browser(browser: Any, tmp_path: Path) -> None:
    words = "prefers mostly-silent sounds (rho 0.76)"
    unit = replace(
        explain("conv", 0, abstained=True, reliable=True),
        labels=(Label("silence", 0.76, "measured"), Label("sigh", -9.0)),
        kind="acoustic",
        acoustics=words,
        profile=tuple(np.linspace(-0.4, 0.4, BANDS)),
    )
    failing = replace(unit, unit=1, faithfulness=figures(reliable=False), reliable="fails")
    other = replace(explain("conv", 2, reliable=True), labels=(Label("rain", 3.0),), kind="concept")
    hits = {"silence": [(0, None), (2, 0.4)], "rain": [(2, 0.9)]}
    page = opened(browser, tmp_path, small(explanations=[unit, failing, other], concept_hits=hits))
    assert "No reliable explanation" in page.locator("[data-unit='1']").inner_text()
    card = page.locator("[data-unit='0']")
    assert f"Measured sound explains it: {words}" in card.inner_text()
    assert card.locator(".bars .name").all_inner_texts() == ["silencemeasured", "sighby sound"]
    assert card.locator(".bars .track span").first.evaluate("bar => bar.style.width") == "76%"
    assert "No reliable explanation" not in card.inner_text()
    picture = card.locator(".profile svg")
    assert picture.locator("rect").count() == BANDS
    assert "strongest: " in picture.get_attribute("aria-label")
    assert "measured sound 67 %" in page.locator(".layer").first.inner_text()
    card.locator(".bars button").first.click()
    assert page.locator("#status b").inner_text() == "Ranked by measured sound, then by vector score"
    assert page.locator(".card .hit").all_inner_texts() == [
        "explained by this measured quality",
        "vector score 0.400",
    ]
    page.fill("#query", "rain")
    assert page.locator("#status b").inner_text() == "Ranked by vector score"
