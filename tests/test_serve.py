"""The server's API: it says what the verbs say, takes nothing from elsewhere, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Answer
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from served import OTHER, PORT, RATE, RUN, TARGET, Visitor, late_tone, recorded_home, visiting
from sounds import noise
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run, explain, load_target, record
from and_retrieval.config import SummaryConfig
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.network.mask import masked
from and_retrieval.numerics import softmax
from and_retrieval.pruning.export import load_pruned
from and_retrieval.recording.target import recorded_plans
from and_retrieval.serve import guard, jobs, notes, served, working
from and_retrieval.serve.jobs import Jobs
from and_retrieval.serve.layout import EMBEDDED, inside, placed
from and_retrieval.store import Folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_home(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def visitor(built: Path) -> Iterator[Visitor]:
    with visiting(built) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def run(built: Path) -> Run:
    index = ClipIndex.open(built / "s")
    return Run.open(index.folder.run("net"), index)


def wav(sound: Any, rate: int = RATE) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, sound, rate, format="WAV")
    return memory.getvalue()


def names(answer: dict[str, Any]) -> list[str]:
    return [f"{unit['layer']}:{unit['unit']}" for unit in answer["results"]]


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


# ---------- who may ask ----------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1:1",
        "127.0.0.1.evil.example",
        "",
        f"localhost:{PORT}@evil",
    ],
)
def test_another_host_is_refused(visitor: Visitor, host: str) -> None:
    for path in ("/", "/api/runs", "/clip/s/0.mp3", "/page/main.js"):
        assert visitor.client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1"]
)
def test_another_origin_is_refused(visitor: Visitor, origin: str) -> None:
    assert visitor.client.get("/api/runs", headers={"origin": origin}).status_code == 403
    order = {"run": RUN, "concepts": ["dog"]}
    assert (
        visitor.client.post("/api/prune", json=order, headers=visitor.token | {"origin": origin}).status_code
        == 403
    )


def test_its_own_page_may_ask(visitor: Visitor) -> None:
    for host in (f"127.0.0.1:{PORT}", f"localhost:{PORT}"):
        answer = visitor.client.get("/api/runs", headers={"host": host, "origin": f"http://{host}"})
        assert answer.status_code == 200


def test_whatever_computes_or_changes_needs_the_token(visitor: Visitor) -> None:
    routes = [route for route in working.routes.routes if isinstance(route, APIRoute)]
    assert len(routes) > 10
    for route in routes:
        path = route.path.replace("{unit:path}", "relu:0").replace("{job}", "x")
        for method in route.methods:
            for given_token in (None, b"Bearer wrong", "Bearer \xe9".encode("latin-1"), b"Basic x"):
                headers = {b"authorization": given_token} if given_token else {}
                answer = visitor.client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert "printed" in answer.json()["error"]


def test_only_reading_routes_need_none(visitor: Visitor) -> None:
    changing = {"POST", "PUT", "DELETE", "PATCH"}
    open_routes = [route for route in visitor.client.app.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    for route in open_routes:
        if route.path not in {one.path for one in working.routes.routes}:  # type: ignore[attr-defined]
            assert not route.methods & changing, route.path


def test_every_answer_has_the_security_headers(visitor: Visitor) -> None:
    for path in ("/", "/docs", "/page/main.js", "/api/runs", "/nothing", "/clip/s/0.png", "/api/units"):
        headers = visitor.client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_pages_load_nothing_from_elsewhere(visitor: Visitor) -> None:
    from and_retrieval.serve.app import PAGES

    for path in PAGES.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    assert visitor.client.get("/docs").status_code == 200


# ---------- sounds that are sent ----------


def left_over(visitor: Visitor) -> list[Path]:
    return list(visitor.served.folder.glob("sound-*"))


def test_a_sound_is_heard_where_it_sounds(visitor: Visitor) -> None:
    told = visitor.hear("/api/hear", wav(late_tone()), run=RUN).json()
    first = told["fires"][0]
    numbers = UNITS_OF["smoke alarm"]
    assert {(unit["layer"], unit["unit"]) for unit in told["fires"][:3]} == {
        ("relu", numbers[0]), ("relu", numbers[1]), ("head", list(UNITS_OF).index("smoke alarm")),
    }  # fmt: skip
    curve = np.array(first["curve"] if first["layer"] == "relu" else told["fires"][1]["curve"])
    times = np.array(told["seconds"])
    assert curve[times > 3.1].min() > 2
    assert curve[times < 2.9].max() < 0
    relu = [unit for unit in told["fires"] if unit["layer"] == "relu" and unit["unit"] in numbers]
    assert all(unit["peak"] > 3 for unit in relu)
    late = told["here"][-1]
    assert {unit["unit"] for unit in late if unit["layer"] == "relu"} >= set(numbers)
    assert told["answer"][0]["class"] == "smoke alarm"
    assert told["duration"] == 4.0
    assert left_over(visitor) == []


def test_a_long_sound_is_heard_window_by_window(visitor: Visitor) -> None:
    told = visitor.hear("/api/hear", wav(late_tone(25.0, 21.0)), run=RUN).json()
    relu = next(unit for unit in told["fires"] if unit["layer"] == "relu")
    assert relu["unit"] in UNITS_OF["smoke alarm"]
    assert 21 <= relu["peak"] <= 25


def test_units_and_clips_like_a_sound(visitor: Visitor, run: Run) -> None:
    path = run.index.clips[0].file
    sound = Path(path).read_bytes()
    searched = run.search("x", k=1)[0]  # its fields
    units = visitor.hear("/api/units", sound, run=RUN, limit=3).json()
    assert set(searched) <= set(units["results"][0])
    clips = visitor.hear("/api/clips", sound, index="s", limit=3).json()
    assert clips["results"][0]["row"] == 0
    assert clips["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert left_over(visitor) == []


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (b"", "no sound was sent"),
        (b"not a sound at all" * 50, "cannot be read|no sound that can be read"),
        (wav(noise(0.5)[:3000])[:40], "read"),
        (wav(np.zeros(605 * 1000, np.float32), 1000), "at most 600 s"),
    ],
    ids=["empty", "text", "header only", "ten minutes and more"],
)
def test_what_cannot_be_heard_is_said_in_a_line(visitor: Visitor, sound: bytes, reason: str) -> None:
    answer = visitor.hear("/api/hear", sound, run=RUN)
    assert answer.status_code == 400
    assert re.search(reason, answer.json()["error"])
    assert left_over(visitor) == []


def test_a_large_upload_is_refused_before_it_is_read(visitor: Visitor) -> None:
    headers = visitor.token | {"content-type": "audio/wav", "content-length": str(1 << 30)}
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=b"x", headers=headers)
    assert answer.status_code == 413
    assert "128 MiB" in answer.json()["error"]


def test_an_upload_of_unstated_length_is_cut_off(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "UPLOAD_BYTES", 100_000)
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 10_000

    headers = visitor.token | {"content-type": "audio/wav"}
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=parts(), headers=headers)
    assert answer.status_code == 413
    assert left_over(visitor) == []


def test_bodies_that_are_no_sound_are_short(visitor: Visitor) -> None:
    order = {"run": RUN, "concepts": ["x" * 100_000]}
    assert visitor.post("/api/prune", order).status_code == 413
    answer = visitor.client.post("/api/hear", params={"run": RUN}, content=b"x", headers=visitor.token)
    assert answer.status_code == 415


def test_only_so_many_sounds_at_a_time(visitor: Visitor) -> None:
    with visitor.served.upload(), visitor.served.upload():
        answer = visitor.hear("/api/hear", wav(noise(0.5)), run=RUN)
        assert answer.status_code == 429
    assert served.UPLOADS == 2
    assert visitor.hear("/api/hear", wav(noise(0.5)), run=RUN).status_code == 200


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


# ---------- jobs ----------


def watched(visitor: Visitor, job: str) -> list[dict[str, Any]]:
    with visitor.client.stream("GET", f"/api/jobs/{job}/events", headers=visitor.token) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]


def test_pruning_reports_progress_and_gives_what_the_verb_gives(
    visitor: Visitor, in_built: Path, answer: Answer, tmp_path: Path
) -> None:
    order = {"run": RUN, "concepts": ["heartbeat"], "budget": [1, 2], "draws": 2, "export": True}
    started = visitor.post("/api/prune", order)
    assert started.status_code == 202
    job = started.json()["job"]
    events = watched(visitor, job)
    assert events[-1]["state"] == "done"
    assert events[-1]["done"] == events[-1]["total"] > 0
    result = events[-1]["result"]
    told = answer("prune", RUN, "heartbeat", "--budget", "1", "--budget", "2", "--draws", "2")
    assert {name: result[name] for name in result} == {name: told[name] for name in result}
    assert result["budgets"][result["chosen"]]["chosen"] == {"relu": list(UNITS_OF["heartbeat"])}
    weights = visitor.client.get(f"/api/jobs/{job}/export", headers=visitor.token)
    path = tmp_path / "without.safetensors"
    path.write_bytes(weights.content)
    path.with_suffix(".json").write_bytes(
        visitor.client.get(f"/api/jobs/{job}/card", headers=visitor.token).content
    )
    load_pruned(load_target(TARGET), path)


def test_a_job_can_be_cancelled_and_failures_are_lines(visitor: Visitor) -> None:
    first = visitor.post("/api/prune", {"run": RUN, "concepts": ["smoke alarm"], "draws": 20}).json()["job"]
    second = visitor.post("/api/prune", {"run": RUN, "concepts": ["dial tone"], "draws": 20}).json()["job"]
    visitor.client.delete(f"/api/jobs/{second}", headers=visitor.token)
    assert watched(visitor, second)[-1]["state"] == "cancelled"
    assert watched(visitor, first)[-1]["state"] == "done"
    failed = visitor.post("/api/prune", {"run": RUN, "concepts": ["heartbeat"], "budget": [99]}).json()["job"]
    assert "at most 8" in watched(visitor, failed)[-1]["error"]
    assert visitor.post("/api/prune", {"run": RUN, "concepts": ["x"], "selector": "no"}).status_code == 400
    assert visitor.client.get("/api/jobs/nothing", headers=visitor.token).status_code == 404


def test_jobs_are_bounded_stop_when_told_and_are_dropped() -> None:
    queue = Jobs()
    hold = threading.Event()

    def work(job: jobs.Job, progress: Any) -> dict[str, Any]:
        hold.wait(10)
        progress(1, 2)
        return {"done": True}

    started = [queue.start(work) for _ in range(jobs.WAITING + 1)]
    with pytest.raises(guard.RefusedError, match="running or waiting"):
        queue.start(work)
    queue.cancel(started[0].id)
    hold.set()
    for job in started:
        deadline = time.monotonic() + 10
        while job.state not in jobs.FINISHED and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [job.state for job in started] == ["cancelled", "done", "done", "done"]
    for _ in range(jobs.KEPT + 3):
        last = queue.start(work)
        while last.state not in jobs.FINISHED:
            time.sleep(0.005)
    with pytest.raises(guard.RefusedError, match="no such job"):
        queue.get(started[0].id)
    queue.close()


# ---------- notes ----------


def test_a_star_a_label_and_a_note_are_kept(built: Path) -> None:
    with visiting(built) as visitor:
        path = "/api/notes/relu:3"
        said = {"star": True, "label": "  thumps\nin a chest ", "note": "sure"}
        put = visitor.client.put(path, params={"run": RUN}, json=said, headers=visitor.token)
        kept = {"star": True, "label": "thumps in a chest", "note": "sure", "earlier": False}
        assert put.json() == {"unit": "relu:3", "note": kept}
    with visiting(built) as visitor:  # another day
        assert visitor.get("/api/notes", run=RUN)["units"] == {"relu:3": kept}
        assert visitor.get("/api/units/relu:3", run=RUN)["note"] == kept
        starred = visitor.get("/api/units", run=RUN, starred=True)
        assert names(starred) == ["relu:3"]
        assert starred["results"][0]["note"] == kept
        nothing = {"star": False, "label": "", "note": ""}
        visitor.client.put(path, params={"run": RUN}, json=nothing, headers=visitor.token)
        assert visitor.get("/api/notes", run=RUN)["units"] == {}
        for wrong, status in ((said | {"note": "x" * 5000}, 422), (said | {"more": 1}, 422)):
            put = visitor.client.put(path, params={"run": RUN}, json=wrong, headers=visitor.token)
            assert put.status_code == status
        other = visitor.client.put(
            "/api/notes/relu:99", params={"run": RUN}, json=said, headers=visitor.token
        )
        assert other.status_code == 404


def test_notes_written_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "recording")

    def write(number: int) -> None:
        notes.write_note(folder, f"relu:{number}", notes.UnitNote("r", label=str(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert {unit: note.label for unit, note in notes.read_notes(folder).items()} == {
        f"relu:{number}": str(number) for number in range(40)
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 9, "units": {}}', '{"format": 1, "units": {"a:0": {"x": 1}}}']
)
def test_damaged_notes_are_said_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / notes.FILE
    path.write_text(text)
    with pytest.raises(notes.InputError, match="notes"):
        notes.write_note(Folder(tmp_path, "recording"), "relu:0", notes.UnitNote("r", star=True))
    assert path.read_text() == text


# ---------- map ----------


def test_the_map_is_made_once_and_stored(
    visitor: Visitor, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = visitor.get("/api/map", run=RUN)
    assert len(told["x"]) == len(told["y"]) == len(told["layer"]) == 12
    at = np.array([told["x"], told["y"]], float)
    assert np.nanmax(np.abs(at)) == pytest.approx(1)
    monkeypatch.setattr("and_retrieval.serve.layout.placed", None)
    with visiting(built) as other:
        assert other.get("/api/map", run=RUN) == told


def test_a_loop_on_the_map_filters_units(visitor: Visitor) -> None:
    told = visitor.get("/api/map", run=RUN)
    within = visitor.get("/api/units", run=RUN, lasso="-2,-2;0.1,-2;0.1,2;-2,2", limit=100)
    assert within["total"] == sum(x is not None and x < 0.1 for x in told["x"])
    for wrong in ("1,2", "a,b;c,d;e,f", "1,2;3,4;" * 900, "1,2;3,4"):
        answer = visitor.client.get("/api/units", params={"run": RUN, "lasso": wrong})
        assert answer.status_code == 422


def test_alike_units_lie_near_each_other_whether_placed_or_set_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(4, 32))
    group = np.arange(240) % 4
    vectors = kinds[group] + 0.2 * rng.normal(size=(240, 32))
    vectors[7] = 0
    vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    assert EMBEDDED == 4_000
    monkeypatch.setattr("and_retrieval.serve.layout.EMBEDDED", 120)
    at = placed(vectors)
    assert np.isnan(at[7]).all()
    assert np.array_equal(at, placed(vectors), equal_nan=True)
    far = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(far, np.inf)
    known = np.delete(np.arange(240), 7)
    nearest = np.nanargmin(np.nan_to_num(far, nan=np.inf), axis=1)
    assert (group[nearest[known]] == group[known]).mean() > 0.97


@given(st.lists(st.tuples(*[st.floats(-1, 1, width=16)] * 2), min_size=1, max_size=20))
def test_what_lies_in_a_square(points: list[tuple[float, float]]) -> None:
    square = [(-0.503, -0.503), (0.503, -0.503), (0.503, 0.503), (-0.503, 0.503)]
    at = np.array(points, np.float32)
    assert inside(at, square).tolist() == (np.abs(at) < 0.503).all(axis=1).tolist()


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
