"""Pruning YAMNet from the page to its end: progress, a reload, cancelling, listening, and a checked download."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import Server, serving, shot, visited
from command_line import Answer

from and_retrieval import ClipIndex, explain, load_embedder, load_target, record, soundbank
from and_retrieval.config import SummaryConfig
from and_retrieval.pruning.export import load_pruned

pytestmark = pytest.mark.slow

RUN = "bank/yamnet"
LAYER = "layer14.pointwise_conv.relu"
CONCEPTS = ("smoke alarm", "white noise", "heartbeat", "dial tone", "siren", "rain")


@pytest.fixture(scope="module")
def yamnet_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with YAMNet on rendered sounds, explained."""
    folder = tmp_path_factory.mktemp("yamnet")
    source = soundbank.render(folder / "sounds", concepts=list(CONCEPTS))
    index = ClipIndex.build(source, load_embedder(), folder / "home" / "bank")
    run = record(load_target("yamnet"), index, [LAYER, "classifier"], run="yamnet")
    explain(run, summaries=SummaryConfig(llm="none"))
    return folder / "home"


@pytest.fixture(scope="module")
def yamnet(yamnet_home: Path, heeded_signals: None) -> Iterator[Server]:
    with serving(yamnet_home, RUN) as server:
        yield server


def ordered(page: Any, server: Server, concept: str) -> None:
    """Order to prune a concept."""
    page.goto(f"{server.url}/?run={RUN}&view=prune")
    page.get_by_label("Concepts").fill(concept)
    page.get_by_role("button", name="Prune").click()


def moves(page: Any) -> None:
    """Wait until the bar of a job has moved twice."""
    page.wait_for_function("() => document.querySelector('progress')?.value > 0", timeout=120_000)
    first = page.locator("progress").evaluate("(bar) => bar.value")
    page.wait_for_function(f"() => document.querySelector('progress')?.value > {first}", timeout=120_000)


def test_a_job_is_watched_reloaded_and_cancelled(browser: Any, yamnet: Server) -> None:
    with visited(browser, yamnet) as page:
        ordered(page, yamnet, "siren")
        moves(page)
        shot(page, "laptop-light-pruning")
        assert "job=" in page.url
        page.reload()
        moves(page)
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled; nothing was written.").wait_for(timeout=60_000)
        assert page.get_by_role("button", name="Download the weights").count() == 0
        assert not list((yamnet.home / "bank/runs/yamnet").glob("prune-siren*"))


def test_what_is_downloaded_is_what_the_command_line_writes(
    browser: Any, yamnet: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    files = {}
    with visited(browser, yamnet) as page:
        ordered(page, yamnet, "smoke alarm")
        page.get_by_role("heading", name=re.compile("smoke alarm: [0-9]+ units? at the knee")).wait_for(
            timeout=300_000
        )
        shot(page, "laptop-light-pruned")
        changes = page.locator(".changes .clip")
        assert changes.count() > 1
        first = changes.first
        assert "first answer" in first.text_content()
        first.get_by_role("button", name=re.compile("^Play")).click()
        page.wait_for_selector(".changes .clip.playing")
        for button, suffix in (("Download the weights", ".safetensors"), ("Download the card", ".json")):
            with page.expect_download() as waiting:
                page.get_by_role("button", name=button).click()
            files[suffix] = tmp_path / f"page{suffix}"
            waiting.value.save_as(files[suffix])
    monkeypatch.setenv("AND_RETRIEVAL_HOME", str(yamnet.home))
    told = answer("prune", RUN, "smoke alarm", "--export", str(tmp_path / "typed.safetensors"))
    assert files[".safetensors"].read_bytes() == (tmp_path / "typed.safetensors").read_bytes()
    card, typed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("page", "typed"))
    assert card == typed
    target = load_target("yamnet")
    pruned = load_pruned(target, files[".safetensors"])
    units = told["budgets"][told["chosen"]]["chosen"][LAYER]
    put_out: list[torch.Tensor] = []
    hook = pruned.module.get_submodule(LAYER).register_forward_hook(lambda _m, _i, out: put_out.append(out))
    index = ClipIndex.open(yamnet.home / "bank")
    with torch.inference_mode():
        pruned.module(pruned.preprocess([index.read(0, pruned.sample_rate)]))
    hook.remove()
    silent = put_out[0].movedim(1, -1).reshape(-1, put_out[0].shape[1]).abs().amax(dim=0) == 0
    assert silent[units].all()
    assert not silent.all()
