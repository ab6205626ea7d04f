"""Freed memory stays with the process while a network runs, and is given back afterwards."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

PASSES = """
import resource
from contextlib import nullcontext
import torch
from and_retrieval.network.memory import freed_memory_kept

NUMBERS = 12_000_000
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


def answers(settings: Mapping[str, str]) -> list[str]:
    """How many of five equal tensors the system had to give, and whether memory for one stays, again and again."""
    run = [sys.executable, "-c", PASSES]
    return subprocess.run(
        run, capture_output=True, text=True, check=True, env={**os.environ, **settings}
    ).stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_passes_do_not_fetch_their_memory_again() -> None:
    assert answers({}) == ["5 False", "0 0 True", "False"]
    assert answers({"MALLOC_TRIM_THRESHOLD_": "131072"}) == ["5 False", "5 5 False", "False"]
