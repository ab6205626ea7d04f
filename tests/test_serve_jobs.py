"""Jobs of the server."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer
from served import RUN, TARGET, Visitor
from targets.two_per_class import UNITS_OF

from and_retrieval import load_target
from and_retrieval.pruning.export import load_pruned
from and_retrieval.serve import guard, jobs
from and_retrieval.serve.jobs import Jobs


@pytest.fixture(scope="module")
def built(served_home: Path) -> Path:
    """The home that `in_built` lets commands find."""
    return served_home


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
    for path in ("", "/events", "/export", "/card"):
        assert visitor.client.get(f"/api/jobs/nothing{path}", headers=visitor.token).status_code == 404
    assert visitor.client.get(f"/api/jobs/{failed}/export", headers=visitor.token).status_code == 404


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
    started[0].stop.set()
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
