"""What indexing, recording and explaining cost with 1 to 16 times the clips and the units, as a plot.

Each size runs in a process of its own: seconds of processor time, and the peak of memory after every stage. Clips are
noise of 0.25 s, the network is one convolution. Beside the plot, the suite gives the exponent of time in size (1 is
linear), and the memory of the largest size over that of the smallest.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.progress import Progress

CLIPS, UNITS = 250, 250
TIMES = (1, 2, 4, 8, 16)
PLOT = Path(__file__).parent / "results" / "cost.png"
STAGES = ("index", "record", "explain")

Figures = dict[str, Any]

ONE_SIZE = """
import json, resource, sys, tempfile, time
from pathlib import Path
import numpy as np, soundfile, torch
from and_retrieval import record
from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import SummaryConfig
from and_retrieval.embed import load_embedder
from and_retrieval.types import Target

clips, units = map(int, sys.argv[1:])
torch.set_num_threads(1)
torch.manual_seed(0)
rng = np.random.default_rng(0)
module = torch.nn.Sequential(torch.nn.Conv1d(1, units, 256, 256), torch.nn.ReLU()).eval()
target = Target(module, 16000, lambda sounds: torch.from_numpy(np.stack(sounds))[:, None], name="noise")
figures = {}

def stage(name, work):
    begin = time.process_time()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures[name] = {"seconds": time.process_time() - begin, "megabytes": peak}
    return result

with tempfile.TemporaryDirectory() as folder:
    sounds = Path(folder, "sounds")
    sounds.mkdir()
    for number in range(clips):
        sound = rng.normal(0, 0.1, 4000).astype(np.float32) * np.sin(np.arange(4000) * rng.uniform(0.01, 3))
        soundfile.write(sounds / f"{number}.wav", sound, 16000)
    embedder = load_embedder("embedded")
    embedder.embed_audio([sound])
    index = stage("index", lambda: ClipIndex.build(sounds, embedder, Path(folder, "home", "noise")))
    run = stage("record", lambda: record(target, index, ("0",)))
    stage("explain", lambda: run.explain("esc50", summaries=SummaryConfig(llm="none")))
print(json.dumps(figures))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"fewest clips (default: {CLIPS})")
    parser.add_argument("--units", type=int, default=UNITS, help=f"fewest units (default: {UNITS})")
    parser.add_argument("--times", type=int, nargs="+", default=TIMES, help="multiples (default: 1 2 4 8 16)")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the picture (default: results/cost.png)")


def run(
    clips: int = CLIPS,
    units: int = UNITS,
    times: tuple[int, ...] = TIMES,
    plot: Path = PLOT,
    announce: Callable[[str, str], Progress] | None = None,
) -> Figures:
    """Seconds and megabytes of every stage by multiples of clips and of units, and the figures that sum them up."""
    sizes = {"clips": {n: (n * clips, units) for n in times}, "units": {n: (clips, n * units) for n in times}}
    progress = announce("measuring", "sizes") if announce else lambda *_: None
    measured: dict[str, dict[int, Figures]] = {}
    for along, by_multiple in sizes.items():
        measured[along] = {}
        for multiple, size in by_multiple.items():
            measured[along][multiple] = _one_size(*size)
            progress(sum(map(len, measured.values())), 2 * len(times))
    draw(measured, (clips, units), plot)
    return {
        "settings": {"clips": clips, "units": units, "times": list(times)},
        "data": "noise",
        "measured": measured,
        "along": {along: _summed_up(of) for along, of in measured.items()},
    }


def table(figures: Figures) -> str:
    """One row a stage: exponent of time and growth of memory, along clips and along units."""
    lines = [
        "| stage | along | seconds, least and most | exponent of time | MB, least and most |",
        "|---|---|---|---|---|",
    ]
    for along, stages in figures["along"].items():
        for stage, row in stages.items():
            seconds, megabytes = (
                " - ".join(f"{x:.3g}" for x in row[key]) for key in ("seconds", "megabytes")
            )
            lines.append(f"| {stage} | {along} | {seconds} | {row['exponent']:.2f} | {megabytes} |")
    return "\n".join(lines)


def draw(measured: Mapping[str, Mapping[int, Figures]], least: tuple[int, int], path: Path) -> None:
    """Seconds and megabytes against multiples, one column for clips and one for units."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(8, 6), sharex=True, sharey="row", layout="constrained")
    for column, (along, count) in enumerate(zip(measured, least, strict=True)):
        for stage in STAGES:
            multiples = list(measured[along])
            for row, kind in enumerate(("seconds", "megabytes")):
                values = [measured[along][n][stage][kind] for n in multiples]
                axes[row, column].plot(multiples, values, marker="o", label=stage)
        axes[0, column].set(xscale="log", yscale="log", title=f"{along}, times {count}")
        axes[1, column].set(xlabel=f"multiple of {along}", ylim=(0, None))
    axes[0, 0].set_ylabel("processor time, s")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _one_size(clips: int, units: int) -> Figures:
    line = [sys.executable, "-c", ONE_SIZE, str(clips), str(units)]
    done = subprocess.run(line, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _summed_up(of: Mapping[int, Figures]) -> dict[str, Figures]:
    """Per stage least and most seconds and megabytes, and the slope of log time in log size over the larger half."""
    multiples = sorted(of)
    upper = multiples[len(multiples) // 2 :] if len(multiples) > 2 else multiples
    result = {}
    for stage in STAGES:
        seconds = [of[n][stage]["seconds"] for n in multiples]
        slope = np.polyfit(
            [math.log(n) for n in upper], [math.log(of[n][stage]["seconds"]) for n in upper], 1
        )[0]
        megabytes = [of[n][stage]["megabytes"] for n in multiples]
        result[stage] = {
            "seconds": [min(seconds), max(seconds)],
            "exponent": float(slope),
            "megabytes": [min(megabytes), max(megabytes)],
        }
    return result
