"""Fingerprints, errors that name their remedy, and progress on a terminal."""

from __future__ import annotations

import dataclasses
import io
import sys
from types import SimpleNamespace

import pytest

from and_retrieval import progress
from and_retrieval.config import ClipConfig, LabelConfig, RecordConfig, SummaryConfig, fingerprint
from and_retrieval.errors import AndRetrievalError, InputError, MissingExtraError, unknown_name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


OTHERS: dict[str, object] = {
    "silence": 0.5,
    "k": 7,
    "hold_out": "fold:1",
    "pooling": (("x", "max"),),
    "score": "cos",
    "evidence": "both",
    "rank": "llm",
    "units": 3,
    "shard_seconds": 7.0,
    "store": "lance",
}
"""Another value of the settings that cannot be anything."""


@pytest.mark.parametrize("config", [ClipConfig(), RecordConfig(), LabelConfig(), SummaryConfig()])
def test_a_fingerprint_changes_with_every_setting(config: object) -> None:
    assert dataclasses.is_dataclass(config)
    assert fingerprint(config) == fingerprint(type(config)())
    seen = {fingerprint(config)}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        other = value + 1 if isinstance(value, int | float) else ("x",) if isinstance(value, tuple) else "x"
        other = OTHERS.get(field.name, other)
        seen.add(fingerprint(dataclasses.replace(config, **{field.name: other})))
    assert len(seen) == 1 + len(dataclasses.fields(config))
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in seen)


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint(ClipConfig(), ["ü", 1, None], {"b": 1, "a": 2}) == "a2675cdc66a6e18f"
    assert fingerprint({"a": 2, "b": 1}) == fingerprint({"b": 1, "a": 2})
    assert fingerprint("a", "b") != fingerprint("b", "a")


def test_unknown_names_are_answered_with_close_ones_or_all() -> None:
    error = unknown_name("bank", "audioste", ["esc50", "audioset"], "see --help")
    assert isinstance(error, InputError)
    assert str(error) == "unknown bank 'audioste'; did you mean audioset?; see --help"
    assert str(unknown_name("bank", "zzz", iter(["esc50", "audioset"]))) == (
        "unknown bank 'zzz'; known: audioset, esc50"
    )
    assert str(unknown_name("run", "x", [])) == "unknown run 'x'; known: none"


def test_a_missing_extra_is_an_error_for_the_user() -> None:
    assert isinstance(MissingExtraError("x", "clap"), AndRetrievalError)
    assert "pip install 'and-retrieval[clap]'" in str(MissingExtraError("x", "clap"))


class TestProgress:
    def test_is_silent_without_a_terminal_or_when_quiet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert progress.terminal_progress("embedding", "clips") is progress.silent
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert progress.terminal_progress("embedding", "clips", quiet=True) is progress.silent
        progress.silent(1, 2)
        assert sys.stderr.getvalue() == ""

    def test_shows_count_rate_and_time_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr("time.time", lambda: now[0])
        monkeypatch.setattr("tqdm.std.time", lambda: now[0])
        draw = progress.terminal_progress("embedding", "clips")
        assert sys.stderr.getvalue() == ""
        now[0] = 104.0
        draw(40, 100)
        now[0] = 104.1
        draw(41, 100)  # too soon to draw again
        now[0] = 110.0
        draw(100, 100)
        shown = [line.split("|")[-1].strip() for line in sys.stderr.getvalue().split("\r")]
        assert list(dict.fromkeys(shown))[2:] == [
            "40/100 [00:04<00:06, 10.00 clips/s]",
            "100/100 [00:10<00:00, 10.00 clips/s]",
        ]
        assert sys.stderr.getvalue().endswith("\n")
        assert "embedding" in sys.stderr.getvalue()

    def test_of_no_work_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", Terminal())
        progress.terminal_progress("embedding", "clips")(0, 0)
        assert "0 clips" in sys.stderr.getvalue()
        assert sys.stderr.getvalue().endswith("\n")

    def test_a_notebook_sees_bars_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        for config, shown in (({"IPKernelApp": {}}, True), ({"TerminalIPythonApp": {}}, False)):
            shell = SimpleNamespace(config=config)
            ipython = SimpleNamespace(get_ipython=lambda shell=shell: shell)
            monkeypatch.setitem(sys.modules, "IPython", ipython)
            assert (progress.terminal_progress("embedding", "clips") is not progress.silent) is shown
        assert progress.terminal_progress("embedding", "clips", quiet=True) is progress.silent
