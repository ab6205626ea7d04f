"""Freed memory stays with the process while a network runs, and is given back afterwards."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from and_retrieval.network import memory

PASSES = """
import resource
import sys
from contextlib import nullcontext
import torch
from and_retrieval.network.memory import freed_memory_kept

NUMBERS = int(sys.argv[1])
PAGES = 4 * NUMBERS // resource.getpagesize()

def fetched(context):
    with context:
        for _ in range(10):  # the C library does not join the small pieces around the first few
            torch.ones(NUMBERS)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(NUMBERS)
        return round((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / PAGES)

def stays():
    return int(open("/proc/self/statm").read().split()[1]) - start > 0.8 * PAGES

start = int(open("/proc/self/statm").read().split()[1])
print(fetched(nullcontext()), stays())
with freed_memory_kept():
    print(fetched(freed_memory_kept()), fetched(nullcontext()), stays())
print(stays())
"""


OLD = """
from and_retrieval.network import memory

call = memory._call
memory._call = lambda name, *values: 0 if name == "mallopt" and values[1] > 32 << 20 and values[0] == -3 else (
    call(name, *values)
)
"""
"""Before version 2.35 the GNU C library refuses to keep pieces of more than 32 MiB."""
NUMBERS = 12_000_000  # 46 MiB

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves"
)


def answers(settings: Mapping[str, str], numbers: int = NUMBERS, script: str = PASSES) -> list[str]:
    """How many of five equal tensors the system had to give, and whether memory for one stays, again and again."""
    run = [sys.executable, "-c", script, str(numbers)]
    return subprocess.run(
        run, capture_output=True, text=True, check=True, env={**os.environ, **settings}
    ).stdout.splitlines()


@on_glibc
def test_passes_do_not_fetch_their_memory_again() -> None:
    assert answers({}) == ["5 False", "0 0 True", "False"]
    assert answers({"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=permissive"}) == ["5 False", "0 0 True", "False"]


@on_glibc
@pytest.mark.parametrize(
    "settings",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}],
    ids=str,
)
def test_settings_of_the_user_stay(settings: dict[str, str]) -> None:
    assert answers(settings) == ["5 False", "5 5 False", "False"]


@on_glibc
def test_an_old_library_keeps_what_it_may() -> None:
    assert answers({}, 7_000_000, OLD + PASSES)[1] == "0 0 True"  # 27 MiB
    assert answers({}, NUMBERS, OLD + PASSES)[1] == "5 5 False"


@pytest.mark.parametrize(
    "settings", [{}, {"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.check=1"}]
)
def test_which_calls_are_made(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    accepts: list[int] = []

    def call(name: str, *values: int) -> int:
        calls.append((name, *map(str, values)))
        return int(values[-1] in accepts)

    for name in (*memory.SETTINGS, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory, "_call", call)
    with memory.freed_memory_kept():
        pass
    refused = [("mallopt", "-3", str(1 << 30)), ("mallopt", "-3", str(32 << 20))]
    # Where neither is accepted, the other threshold alone would make it slower.
    assert calls == ([] if settings else [*refused, refused[1], ("malloc_trim", "0")])
    calls.clear()
    accepts.append(32 << 20)
    memory.keep_freed_memory()
    assert calls == ([] if settings else [*refused, ("mallopt", "-1", str(1 << 30))])
