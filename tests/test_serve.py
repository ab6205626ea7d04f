"""The server's API says what the verbs say, of runs, units, clips and the network."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from served import OTHER, RATE, RUN, TARGET, Visitor, names, recorded_home, visiting
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run, explain, load_target, record
from and_retrieval.config import SummaryConfig
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.network.mask import masked
from and_retrieval.numerics import softmax
from and_retrieval.recording.target import recorded_plans
from and_retrieval.serve import unit as unit_module


@pytest.fixture(scope="module")
def built(served_home: Path) -> Path:
    """The home that `in_built` lets commands find."""
    return served_home


@pytest.fixture(scope="module")
def run(built: Path) -> Run:
    index = ClipIndex.open(built / "s")
    return Run.open(index.folder.run("net"), index)


def same(served: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    """Whether results of the server are those of a verb.

    Texts embedded in another batch differ in the last digit, and the order of units that are equal otherwise with it.
    """
    assert len(served) == len(told)

    def place(result: dict[str, Any]) -> tuple[Any, ...]:
        return -round(result["score"], 4), result.get("layer"), result.get("unit"), result.get("row")

    for one, other in zip(sorted(served, key=place), sorted(told, key=place), strict=True):
        for name, value in other.items():
            assert one[name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), name


# ---------- what it says ----------


def test_it_says_what_the_verbs_say(visitor: Visitor, in_built: Path, answer: Answer) -> None:
    told = answer("runs")
    told.pop("seconds")
    assert visitor.get("/api/runs") == told
    for query in (["smoke alarm"], ["smoke alarm", "white noise"]):
        searched = answer("search", RUN, *query, "-k", "12")
        page = visitor.get("/api/units", run=RUN, q=query, limit=12)
        assert {name: page[name] for name in ("query", "for", "nothing")} == {
            name: searched[name] for name in ("query", "for", "nothing")
        }
        same(page["results"], searched["results"])
    clips = answer("search", "s", "smoke alarm", "--minus", "dial tone", "-k", "4")
    page = visitor.get("/api/clips", index="s", q="smoke alarm", minus="dial tone", limit=4)
    same(page["results"], clips["results"])
    compared = answer("compare", RUN, OTHER)
    assert visitor.get("/api/compare", a=RUN, b=OTHER).items() <= compared.items()


def test_a_query_that_nothing_matches_says_so(visitor: Visitor) -> None:
    page = visitor.get("/api/units", run=RUN, q="zxqv")
    assert page["nothing"] is True
    assert "does not know" in page["reason"]


def test_pages_together_are_the_whole_table(visitor: Visitor, run: Run) -> None:
    whole = names(visitor.get("/api/units", run=RUN, limit=100, sort="unit"))
    assert whole == [f"{unit.layer}:{unit.unit}" for unit in run.explanations()]
    for sort in ("clear", "score", "-faithfulness", "polysemanticity"):
        every = names(visitor.get("/api/units", run=RUN, limit=100, sort=sort))
        pages = [
            names(visitor.get("/api/units", run=RUN, offset=i, limit=5, sort=sort)) for i in range(0, 15, 5)
        ]
        assert list(chain.from_iterable(pages)) == every
        assert sorted(every) == sorted(whole)
    found = names(visitor.get("/api/units", run=RUN, q="heartbeat", limit=100))
    pages = [
        names(visitor.get("/api/units", run=RUN, q="heartbeat", offset=i, limit=5)) for i in range(0, 15, 5)
    ]
    assert list(chain.from_iterable(pages)) == found
    assert visitor.get("/api/units", run=RUN, offset=10_000)["results"] == []


def test_filters_let_through_what_they_say(visitor: Visitor, run: Run) -> None:
    units = list(run.explanations())

    def expect(chosen: Any, **filters: Any) -> None:
        page = visitor.get("/api/units", run=RUN, limit=100, sort="unit", **filters)
        assert names(page) == [f"{unit.layer}:{unit.unit}" for unit in units if chosen(unit)]
        assert page["total"] == len(page["results"])

    expect(lambda unit: unit.layer == "head", layer="head")
    expect(lambda unit: unit.reliable == "holds", reliable="holds")
    expect(lambda unit: unit.reliable in ("fails", "untested"), reliable=["fails", "untested"])
    expect(lambda unit: unit.kind == "acoustic", kind="acoustic")
    expect(lambda unit: unit.kind is None, kind="none")
    word = units[0].labels[0].concept.split()[0].upper()
    expect(lambda unit: any(word.lower() in label.concept.lower() for label in unit.labels), words=word)
    expect(lambda _: True, layer="", reliable="", kind="", words="", q="", minus="", like="")
    expect(lambda _: False, layer="nowhere")
    within = visitor.get("/api/units", run=RUN, q="smoke alarm", layer="head", limit=100)
    assert {unit["layer"] for unit in within["results"]} == {"head"}
    assert within["total"] == 4


def test_units_like_a_unit_leave_it_out(visitor: Visitor) -> None:
    found = names(visitor.get("/api/units", run=RUN, like="relu:4"))
    assert set(found[:2]) == {"relu:5", "head:2"}  # its twin, and the class of both
    assert "relu:4" not in found


def test_a_unit_has_its_exported_line(visitor: Visitor, run: Run) -> None:
    for line in unit_lines(run.explanations()):
        page = visitor.get(f"/api/units/{line['layer']}:{line['unit']}", run=RUN)
        for clip in (*page["top"], *page["low"]):
            assert clip.pop("seconds") > 0
        assert {name: page[name] for name in line} == json.loads(json.dumps(line))


def test_what_fires_together_and_the_histogram_are_those_of_the_activations(
    visitor: Visitor, run: Run
) -> None:
    page = visitor.get("/api/units/relu:2", run=RUN)
    every = np.concatenate([run.activations(layer, "seen") for layer in ("relu", "head")], axis=1)
    expected = np.nan_to_num(np.corrcoef(every.T)[2])
    assert page["together"][0]["layer"] == "relu"
    for other in page["together"]:
        place = other["unit"] + (8 if other["layer"] == "head" else 0)
        assert other["score"] == pytest.approx(expected[place], abs=1e-3)
    assert page["activations"]["seen"] == np.histogram(every[:, 2], 40, _span(page))[0].tolist()
    assert sum(page["activations"]["held_out"]) == len(run.held_out_rows)
    for clip in page["quantiles"]:
        assert clip["activation"] == pytest.approx(float(every[list(run.seen_rows).index(clip["row"]), 2]))


def _span(page: dict[str, Any]) -> tuple[float, float]:
    return page["activations"]["low"], page["activations"]["high"]


def test_the_overview_counts_units(visitor: Visitor, run: Run) -> None:
    told = visitor.get("/api/overview", run=RUN)
    units = list(run.explanations())
    for layer in told["layers"]:
        of = [unit for unit in units if unit.layer == layer["layer"]]
        assert layer["units"] == len(of) == sum(layer["kinds"].values()) == sum(layer["reliable"].values())
        assert layer["reliable"]["holds"] == sum(unit.reliable == "holds" for unit in of)
        assert layer["kinds"]["none"] == sum(unit.kind is None for unit in of)
        first = [unit.labels[0].concept for unit in of if unit.labels]
        assert all(entry["units"] == first.count(entry["concept"]) for entry in layer["frequent"])


# ---------- clips ----------


def test_a_clip_is_served_in_ranges(visitor: Visitor) -> None:
    path = "/clip/s/1.mp3"
    whole = visitor.client.get(path)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/mpeg")
    sound, rate = soundfile.read(io.BytesIO(whole.content))
    clip = visitor.get("/api/clips", index="s", offset=1, limit=1)["results"][0]
    assert len(sound) / rate == pytest.approx(clip["seconds"], abs=0.1)
    part = visitor.client.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert visitor.client.get(path, headers={"Range": "bytes=-7"}).content == whole.content[-7:]
    assert visitor.client.get(path, headers={"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    tag = whole.headers["etag"]
    assert visitor.client.get(path, headers={"If-None-Match": tag}).status_code == 304
    kept = visitor.client.get(path, headers={"Range": "bytes=0-9", "If-Range": tag})
    assert kept.status_code == 206
    changed = visitor.client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_a_clip_has_a_spectrogram(visitor: Visitor) -> None:
    picture = Image.open(io.BytesIO(visitor.client.get("/clip/s/0.png").content))
    assert picture.size[1] == 64
    assert len(np.unique(np.asarray(picture))) > 5


@pytest.mark.parametrize(
    "path",
    [
        "/clip/../../etc/passwd.mp3", "/clip/..%2f..%2fetc/0.mp3", "/clip/%2e%2e/0.mp3", "/clip/s/../0.mp3",
        "/clip/s/0.wav", "/clip/s/-1.mp3", "/clip/s/10000.mp3", "/clip/s/1e3.mp3", "/clip/s%00/0.mp3", "/clip/no/0.mp3",
        "/clip/s/99999999999999999999999.mp3", "/page/../page.css", "/page/%2e%2e/report.css", "/page/..%2freport.html",
        "/page//etc/passwd", "/api/units/relu:0/../../x", "/clip/s\\..\\..\\x/0.mp3",
    ],
)  # fmt: skip
def test_nothing_outside_is_served(visitor: Visitor, path: str) -> None:
    answer = visitor.client.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "place", ["../s/net", "s/../s/net", "s/runs/net", "/etc/passwd", "s", "", "s/", "s/no", "x/net"]
)
def test_a_run_is_named_not_a_path(visitor: Visitor, place: str) -> None:
    answer = visitor.client.get("/api/units", params={"run": place})
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


# ---------- the network ----------


def test_activation_over_time_is_what_the_network_puts_out(visitor: Visitor, run: Run) -> None:
    import torch

    unit = UNITS_OF["smoke alarm"][0]
    page = visitor.get(f"/api/units/relu:{unit}", run=RUN)
    row = page["top"][0]["row"]
    told = visitor.get("/api/activations", run=RUN, unit=f"relu:{unit}", row=row)
    target = load_target(TARGET)
    put_out: list[Any] = []
    hook = target.module.get_submodule("relu").register_forward_hook(lambda _m, _i, out: put_out.append(out))
    with torch.inference_mode():
        target.module(target.preprocess([run.index.read(row, RATE)]))
    hook.remove()
    expected = put_out[0][0, unit].numpy()
    thin = max(1, -(-len(expected) // 500))
    assert told["values"] == pytest.approx(expected[::thin].tolist(), rel=1e-3)
    step = run.index.clips[row].duration / len(expected)
    assert told["seconds"][:2] == pytest.approx([step / 2, step * (thin + 0.5)], abs=1e-3)
    assert np.mean(expected) == pytest.approx(page["top"][0]["activation"], rel=1e-3)


def test_scaling_by_nothing_changes_nothing_and_by_zero_masks(visitor: Visitor, run: Run) -> None:
    import torch

    units = [f"relu:{unit}" for unit in UNITS_OF["heartbeat"]]
    row = next(i for i, clip in enumerate(run.index.clips) if clip.label == "heartbeat")
    order = {"run": RUN, "units": units, "row": row}
    same = visitor.post("/api/scale", order | {"factor": 1}).json()
    assert all(one["before"] == one["after"] for one in same["classes"])
    off = {one["class"]: one for one in visitor.post("/api/scale", order | {"factor": 0}).json()["classes"]}
    target = load_target(TARGET)
    plans = recorded_plans(run.manifest.layers, target, ["relu"])
    with torch.inference_mode(), masked(target, {"relu": UNITS_OF["heartbeat"]}, plans):
        logits = target.module(target.preprocess([run.index.read(row, RATE)]))
    expected = softmax(logits.numpy())[0]
    assert target.class_names
    for name, probability in zip(target.class_names, expected, strict=True):
        assert off[name]["after"] == pytest.approx(float(probability), abs=1e-4)
    assert off["heartbeat"]["before"] > 0.9
    more = {one["class"]: one for one in visitor.post("/api/scale", order | {"factor": 3}).json()["classes"]}
    assert more["heartbeat"]["after"] >= off["heartbeat"]["before"]
    assert visitor.post("/api/scale", order | {"factor": 4}).status_code == 422
    assert visitor.post("/api/scale", order | {"factor": 0, "units": ["relu:99"]}).status_code == 404


# ---------- all at once, and anything at all ----------


def test_fifty_tabs_at_once(visitor: Visitor) -> None:
    def tab(number: int) -> int:
        path = ("/api/units", "/api/overview", "/api/units/relu:1", "/api/map", "/api/activations")[
            number % 5
        ]
        parameters: dict[str, Any] = {"run": RUN, "q": "dog"} if path == "/api/units" else {"run": RUN}
        parameters |= {"unit": "relu:1", "row": 0} if path == "/api/activations" else {}
        return visitor.client.get(path, params=parameters, headers=visitor.token).status_code

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(tab, range(50))) == {200}


TEXTS = st.text(max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "run": st.sampled_from([RUN, OTHER]) | TEXTS,
            "q": st.lists(TEXTS, max_size=3),
            "minus": TEXTS,
            "like": st.sampled_from(["relu:1", "relu:99", "head:0"]) | TEXTS,
            "layer": st.sampled_from(["relu", "head"]) | TEXTS,
            "reliable": st.sampled_from(["holds", "fails"]) | TEXTS,
            "kind": TEXTS,
            "sort": st.sampled_from(["score", "-unit"]) | TEXTS,
            "offset": st.integers(-5, 10**9) | TEXTS,
            "limit": st.integers(-5, 600) | TEXTS,
            "words": TEXTS,
            "lasso": TEXTS,
            "starred": TEXTS,
        },
    )
)
def test_whatever_is_asked_there_is_an_answer(visitor: Visitor, parameters: dict[str, Any]) -> None:
    answer = visitor.client.get("/api/units", params=parameters)
    assert answer.status_code in (200, 400, 404, 422)
    told = answer.json()
    assert ("results" in told) == (answer.status_code == 200)
    assert answer.status_code == 200 or "\n" not in told["error"]


def test_a_run_that_is_recorded_anew_is_noticed(tmp_path: Path) -> None:
    home = recorded_home(tmp_path)
    with visiting(home) as visitor:
        before = visitor.get("/api/units", run=RUN, limit=1)
        assert before["total"] == 12
        index = ClipIndex.open(home / "s")
        again = record(load_target(TARGET), index, ["relu"], run="net")
        after = visitor.get("/api/units", run=RUN, limit=1)
        assert after["total"] == 8
        assert after["recorded"] != before["recorded"]
        assert "recorded again" in visitor.get("/api/overview", run=RUN)["problem"]
        assert visitor.get("/api/units/relu:1", run=RUN)["explained"] is False
        explain(again, summaries=SummaryConfig(llm="none"))
        assert visitor.get("/api/overview", run=RUN)["explained"] is True
        assert visitor.get("/api/units/relu:1", run=RUN)["labels"]


def test_the_temporary_folder_goes_with_the_server(built: Path) -> None:
    with visiting(built) as visitor:
        folder = visitor.served.folder
        visitor.client.get("/clip/s/0.mp3")
        assert list(folder.glob("*.mp3"))
    assert not folder.exists()


@pytest.mark.parametrize("compared", [4_000, 30])
def test_units_that_fire_together(visitor: Visitor, compared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "COMPARED", compared)
    recording = visitor.served.run(RUN).recording
    names_of = [f"{layer.name}:{unit}" for layer in recording.layers for unit in range(layer.units)]
    kept = [recording.activations(layer.name, "seen") for layer in recording.layers]
    values = np.concatenate(kept, axis=1).astype(np.float64)
    if compared < len(values):
        values = values[np.linspace(0, len(values) - 1, compared).astype(int)]
    with np.errstate(invalid="ignore"):  # of a unit that never changes
        fit = np.nan_to_num(np.corrcoef(values.T)[names_of.index("relu:4")])
    expected = sorted(((fit[i], name) for i, name in enumerate(names_of) if name != "relu:4"), reverse=True)
    together = visitor.get("/api/units/relu:4", run=RUN)["together"]
    assert [unit["score"] for unit in together] == pytest.approx(
        [score for score, _ in expected[: unit_module.NEAREST] if score > 0], abs=2e-4
    )
    assert f"{together[0]['layer']}:{together[0]['unit']}" == "relu:5"  # its twin
