"""How fast the page's server answers, over a run as it is and over many made-up units.

The made-up run has `--units` units in `LAYERS` layers: each is one of the run's own, with its explanation, its
activations times a factor drawn from 0.5 to 2, its clips and its neuron vector with a tenth of noise. It is stored like
any run and opened by the server from there; and once more in an index of `--clips` clips, see `many_clips`. Requests go
through HTTP on this machine to a server in the same process; milliseconds are from request to whole answer, over
`ROUNDS` requests after one that is not counted. `processor` is the mean time that client and server kept the processor
busy, which other programs on the machine do not change much. Texts of searches are the names of a bank, each asked
once, so that embedding the text counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from itertools import count
from typing import Any
from urllib.parse import urlencode

import numpy as np
from safetensors.numpy import save_file

from and_retrieval import faiss_index
from and_retrieval.benchmark.tables import markdown
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import load_bank
from and_retrieval.explanation.stored import Explained, ExplanationWriter, load_explained
from and_retrieval.neighbours import STORES
from and_retrieval.recording.activations import FILE as ACTIVATIONS
from and_retrieval.recording.activations import HELD_OUT, SEEN, new_activations
from and_retrieval.recording.evidence import LayerTape, read_tape, save_evidence, tape_of
from and_retrieval.recording.manifest import EVIDENCE, QUALITIES_FILE
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import FILE as UNIT_INDEX
from and_retrieval.recording.unit_index import LISTS
from and_retrieval.serve.server import PageServer
from and_retrieval.shards.tensors import open_tensors
from and_retrieval.store import Home, Writer
from and_retrieval.types import Floats
from bench import Announce, Figures
from bench.many_clips import among_many_clips

LAYERS = 10
NOISE = 0.1
ROUNDS = 50
MADE_UP = "made-up"
"""Name of the made-up run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An explained run, and how many units are made up."""
    parser.add_argument("run", metavar="NAME/RUN", help="explained run")
    parser.add_argument("--units", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--clips", type=int, default=50_000, help="default: 50,000")
    parser.add_argument("--home", metavar="DIR", help="folder of the index and the run (default: ./index)")


def run(run: str, units: int, clips: int, home: str | None, announce: Announce) -> Figures:
    """Median and 95th percentile of every kind of request, over the run and over the made-up one."""
    place = Home.find(home)
    name, _, of = run.partition("/")
    index = ClipIndex.open(place.require_index(name).path)
    recording = Recording.open(place.require_run(name, of), index)
    explained = load_explained(recording)
    made_up(explained, units, announce)
    many = among_many_clips(place, f"{name}/{MADE_UP}", clips)
    server = PageServer.listen(place, run, port=0).start()
    try:
        figures = {
            f"{len(explained):,} units": _measured(server, run),
            f"{units:,} units": _measured(server, f"{name}/{MADE_UP}"),
            f"{units:,} units, {clips:,} clips": _measured(server, many),
        }
    finally:
        server.stop()
    return {
        "settings": {"units": units, "clips": clips, "layers": LAYERS, "rounds": ROUNDS},
        "data": index.digest(),
        "clips": len(index.clips),
        **figures,
    }


def table(figures: Figures) -> str:
    """One row a kind of request."""
    runs = {name: of for name, of in figures.items() if " units" in name}
    kinds = next(iter(runs.values()))
    rows = [
        {
            "request": kind,
            **{f"{name}, {part}": of[kind][part] for name, of in runs.items() for part in of[kind]},
        }
        for kind in kinds
    ]
    return markdown(rows)


def _measured(server: PageServer, run: str) -> dict[str, dict[str, float]]:
    """Kind of request -> p50 and p95, and the processor's time, in milliseconds."""
    # Texts that nobody has asked for: the server keeps the vectors of those it has read.
    names = (f"{concept} in {run}" for concept in load_bank("audioset").concepts)
    rng = np.random.default_rng(0)
    name = run.partition("/")[0]
    connection = HTTPConnection("127.0.0.1", server.port, timeout=120)

    def ask(path: str, **parameters: Any) -> bytes:
        connection.request("GET", f"{path}?{urlencode(parameters, doseq=True)}" if parameters else path)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 206):
            raise RuntimeError(f"{path}: {answer.status} {content[:200]!r}")
        return content

    ask("/api/units", run=run, q="warm")
    overview = json.loads(ask("/api/overview", run=run))["layers"]
    layers, total = [layer["layer"] for layer in overview], sum(layer["units"] for layer in overview)
    fewest = min(layer["units"] for layer in overview)
    clips = count()
    kinds: dict[str, Callable[[], bytes]] = {
        "table, first page": lambda: ask("/api/units", run=run),
        "table, any page, sorted by faithfulness": lambda: ask(
            "/api/units", run=run, sort="faithfulness", offset=int(rng.integers(0, max(1, total - 100)))
        ),
        "table, filtered by words and kind": lambda: ask(
            "/api/units", run=run, words=next(names), kind="concept"
        ),
        "search by a text": lambda: ask("/api/units", run=run, q=next(names)),
        "search by a text, reliable units of a layer": lambda: ask(
            "/api/units", run=run, q=next(names), reliable="holds", layer=layers[0]
        ),
        "unit": lambda: ask(f"/api/units/{rng.choice(layers)}:{rng.integers(0, fewest)}", run=run),
        "search of clips by a text": lambda: ask("/api/clips", index=name, q=next(names), limit=60),
        "map": lambda: ask("/api/map", run=run),
        "overview": lambda: ask("/api/overview", run=run),
        "clip's sound, first time": lambda: ask(f"/clip/{name}/{next(clips)}.mp3"),
        "clip's sound, again": lambda: ask(f"/clip/{name}/1.mp3"),
    }
    return {kind: _timed(request) for kind, request in kinds.items()}


def _timed(request: Callable[[], bytes]) -> dict[str, float]:
    request()
    taken = []
    busy = time.process_time()
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        request()
        taken.append(1000 * (time.perf_counter() - begin))
    busy = 1000 * (time.process_time() - busy) / ROUNDS
    p50, p95 = np.quantile(taken, [0.5, 0.95])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "processor": round(busy, 1)}


def made_up(explained: Explained, units: int, announce: Announce) -> None:
    """Store a run of so many units beside an explained one, see the module; one that is there already stays."""
    recording = explained.recording
    folder = recording.index.folder.run(MADE_UP)
    sizes = [len(part) for part in np.array_split(np.arange(units), LAYERS)]
    if (
        folder.exists()
        and sum(layer.units for layer in folder.open(type(recording.manifest)).manifest.layers) == units
    ):
        return
    rng = np.random.default_rng(0)
    recorded_units = [(layer, unit) for layer in recording.layers for unit in range(layer.units)]
    drawn = [rng.integers(0, len(recorded_units), size) for size in sizes]
    progress = announce("making up", "layers")
    scratch = folder.scratch(ACTIVATIONS)
    try:
        activations = new_activations(scratch, sizes, len(recording.seen_rows), len(recording.held_out_rows))
        whole = {part: _whole(recording, part) for part in (SEEN, HELD_OUT)}
        for number, chosen in enumerate(drawn):
            factor = rng.uniform(0.5, 2, len(chosen)).astype(np.float32)
            for part, values in whole.items():
                activations.layer(number, part)[:] = values[:, chosen] * factor
            progress(number + 1, LAYERS)
        del activations
        vectors = faiss_index.stored(recording.unit_index.faiss)[np.concatenate(drawn)]
        vectors += NOISE * rng.standard_normal(vectors.shape, np.float32) / np.sqrt(vectors.shape[1])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        unit_index = faiss_index.build(vectors)
        lists = {LISTS + STORES["faiss"].file: lambda path: STORES["faiss"].write(vectors, path)}
        tensors = open_tensors(recording.stored.file(EVIDENCE))
        real = [read_tape(tensors, number) for number in range(len(recording.layers))]
        tapes = [_tape(real, chosen) for chosen in drawn]
        files: dict[str, Writer | Any] = {
            **(lists if units >= faiss_index.APPROXIMATE_FROM else {}),
            EVIDENCE: lambda path: save_evidence(tapes, path),
            ACTIVATIONS: scratch,
            UNIT_INDEX: lambda path: faiss_index.save(unit_index, path),
            QUALITIES_FILE: lambda path: save_file(
                {"qualities": recording.qualities, "bands": recording.bands}, path
            ),
        }
        like = recording.manifest.layers[0]
        layers = tuple(replace(like, name=f"layer{i}", units=size) for i, size in enumerate(sizes))
        folder.commit(files, replace(recording.manifest, layers=layers, aliases={}))
    finally:
        scratch.unlink(missing_ok=True)
    _say(Recording.open(folder, recording.index), explained, drawn)


def _whole(recording: Recording, part: Any) -> Floats:
    return np.concatenate([recording.activations(layer.name, part) for layer in recording.layers], axis=1)


def _tape(tapes: Sequence[LayerTape], chosen: Any) -> LayerTape:
    """What units drawn from all of a run's leave, as one layer."""
    arrays = [tape.arrays() for tape in tapes]
    joined = {
        name: values if len(values) == 1 else np.concatenate([of[name] for of in arrays])[chosen]
        for name, values in arrays[0].items()
    }
    return tape_of(joined)


def _say(recording: Recording, explained: Explained, drawn: Any) -> None:
    """Store the explanations of the units that were drawn."""
    real = tuple(explained)
    with ExplanationWriter(recording) as writer:
        for i, chosen in enumerate(drawn):
            writer.add(
                [replace(real[one], layer=f"layer{i}", unit=unit) for unit, one in enumerate(chosen.tolist())]
            )
        phrases = [explained.phrases.get(row, "") for row in range(len(recording.index.clips))]
        writer.commit(phrases, replace(explained.manifest, recorded=recording.identity))
