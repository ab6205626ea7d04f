"""Recording: clips are heard as they were indexed, all of them, through a network of any depth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from embedders import FakeEmbedder
from sounds import WriteSound, tone
from targets.deep import SAMPLE_RATE, load

from and_retrieval import ClipIndex, Run, record
from and_retrieval.config import ClipConfig, RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.network.layers import plan_layers
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.record import device_of_workers, run_name
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.target import recorded_plans
from and_retrieval.targets import weights_hash

LEVELS = (0.5, 1e-3, 1e-6, 1e-7)
HERE = Path(__file__).parent


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Tones from loud to hardly there, two files of each in folds of their own."""
    for number in range(2 * len(LEVELS)):
        sound = tone(300 + 100 * number, 0.4, SAMPLE_RATE, LEVELS[number // 2])
        write_sound(f"sounds/{number}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    table = tmp_path / "sounds/clips.csv"
    table.write_text("path,fold\n" + "".join(f"{number}.wav,{number // 2}\n" for number in range(8)))
    return table


class TestSilence:
    def test_faint_clips_of_an_index_are_heard(self, sounds: Path, home: Path) -> None:
        index = ClipIndex.build(sounds, FakeEmbedder(), home / "faint", ClipConfig(silence=1e-9))
        assert len(index.clips) == 8
        run = record(
            load(2), ClipIndex.open(home / "faint", FakeEmbedder()), config=RecordConfig(hold_out="0")
        )
        assert run.manifest.skipped == ()
        assert run.manifest.cut == index.cut
        assert run.layers[0].statistics.count == 8
        rows, heard = run.seen_activations("layers.0")
        np.testing.assert_array_equal(rows, range(8))
        kept = run.layers[0].top
        level = dict(zip(kept.rows[0].tolist(), kept.values[0].tolist(), strict=False))
        for row, clip in enumerate(index.clips):
            amplitude = LEVELS[int(clip.path[0]) // 2]
            assert level[row] == pytest.approx(amplitude / 2**0.5, rel=0.01)
        assert np.isfinite(heard).all()
        assert np.isfinite(run.qualities[:, 0]).all()

    def test_clips_below_the_limit_of_the_index_are_not(self, sounds: Path, home: Path) -> None:
        index = ClipIndex.build(sounds, FakeEmbedder(), home / "x", ClipConfig(silence=1e-9))
        strict = replace(index, cut=ClipConfig(silence=1e-2))
        run = record(load(2), strict, config=RecordConfig(hold_out="0"))
        assert {Path(miss.path).name for miss in run.manifest.skipped} == {f"{n}.wav" for n in range(2, 8)}
        assert {miss.reason for miss in run.manifest.skipped} == {"silent"}
        assert run.manifest.read_clips == 2
        np.testing.assert_array_equal(
            np.isfinite(run.activations("layers.0", SEEN)[:, 0]), [True] * 2 + [False] * 6
        )


def test_sixty_layers_need_no_more_than_a_few_open_files(sounds: Path, home: Path) -> None:
    ClipIndex.build(sounds, FakeEmbedder(), home / "s", ClipConfig(silence=1e-9))
    program = f"""
import json, resource, sys
sys.path.insert(0, {str(HERE)!r})
from embedders import FakeEmbedder
from targets.deep import load
from and_retrieval import ClipIndex, ConceptBank, Run, record
from and_retrieval.config import OpenConceptConfig, RecordConfig, SummaryConfig
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
index = ClipIndex.open({str(home / "s")!r}, FakeEmbedder())
record(load(60), index, config=RecordConfig(hold_out="fold:0"))
run = Run.open(index.folder.run("deep"), index)
parts = [run.activations(layer.name, part) for layer in run.layers for part in ("seen", "held_out")]
told = run.explain(
    ConceptBank("b", ("loud", "faint")),
    summaries=SummaryConfig(llm="none"), opened=OpenConceptConfig(wanted="no"),
)
print(json.dumps([len(run.layers), len(told), [list(part.shape) for part in parts], float(parts[-1].min())]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    layers, units, parts, least = json.loads(done.stdout)
    assert (layers, units) == (60, 60)
    assert parts == [[6, 1], [2, 1]] * 60
    assert least == pytest.approx(0.5 / 2**0.5, rel=0.01)


def test_a_network_is_recorded_where_it_is(sounds: Path, home: Path) -> None:
    index = ClipIndex.build(sounds, FakeEmbedder(), home / "s")
    target = load(3)
    assert target.device.type == "cpu"
    assert record(target, index).manifest.settings.device == "cpu"  # a GPU of the machine changes nothing
    with pytest.raises(
        InputError, match=r"'deep' is on cpu, but the settings say meta: load it there \(load_target"
    ):
        record(target, index, config=RecordConfig(device="meta"))


@pytest.mark.parametrize(
    ("named", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]
)
def test_workers_take_any_gpu_unless_one_is_named(named: str, expected: str) -> None:
    network_is_on = torch.device("cpu") if named == "cpu" else torch.device("cuda", 0)
    assert device_of_workers(named, network_is_on) == expected


class TestWhatIsKept:
    def test_the_manifest_says_how_it_was_made(self, sounds: Path, home: Path) -> None:
        index = ClipIndex.build(sounds, FakeEmbedder(), home / "s", ClipConfig(window=0.2))
        target = load(3)
        config = RecordConfig(
            top_k=2, pooling=(("layers.1", "max"),), hold_out="fold:1", batch=2, device="cpu"
        )
        run = record(target, index, ("last", "layers.1"), config, "mine")
        made = run.manifest
        assert run.name == "s/mine"
        assert (made.target, made.weights) == ("deep", weights_hash(target.module))
        assert made.aliases == {"last": "layers.2"}  # of layers that were recorded
        assert (made.index_clips, made.index_digest) == (len(index.clips), index.digest())
        assert made.cut == ClipConfig(window=0.2)
        assert made.settings == replace(config, layers=("layers.1", "layers.2"))
        assert [(layer.name, layer.units, layer.pooling) for layer in made.layers] == [
            ("layers.1", 1, "max"),
            ("layers.2", 1, "mean"),
        ]
        assert sorted([*run.seen_rows, *run.held_out_rows]) == list(range(len(index.clips)))
        assert {index.clips[row].fold for row in run.held_out_rows} == {"1"}
        assert {layer.clips for layer in made.layers} == {len(run.seen_rows)}
        assert run.activations("layers.1", HELD_OUT).shape == (len(run.held_out_rows), 1)
        assert run.matching_layers(["last"]) == ("layers.2",)

    def test_plans_come_back_as_they_were(self, sounds: Path, home: Path) -> None:
        target = replace(
            load(3), step_seconds={"*.2": lambda duration, steps: np.linspace(0, duration, steps)}
        )
        run = record(target, ClipIndex.build(sounds, FakeEmbedder(), home / "s"))
        names = ["layers.0", "layers.2"]
        assert recorded_plans(run.manifest.layers, target, names) == plan_layers(target, names)

    def test_a_recording_that_breaks_off_leaves_the_one_before(
        self, sounds: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = ClipIndex.build(sounds, FakeEmbedder(), home / "s")
        run = record(load(2), index)
        before = files(run)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        for what in ("and_retrieval.recording.shard.gather", "and_retrieval.recording.merge.save_evidence"):
            monkeypatch.setattr(what, full)
            with pytest.raises(OSError, match="No space"):
                record(load(3), index)
            monkeypatch.undo()
            assert before.items() <= files(run).items()
        monkeypatch.setattr("os.posix_fallocate", full)
        with pytest.raises(InputError, match="no room for"):
            record(load(3), index)
        monkeypatch.undo()
        assert before.items() <= files(run).items()
        assert [layer.units for layer in Run.open(run.folder, index).layers] == [1, 1]
        record(load(2), index)
        assert files(run) == before
        assert {path.name for path in run.folder.path.iterdir()} == set(before)  # nothing of those is left


def files(run: Recording) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder.path.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("yamnet", "yamnet"), ("hf:org/some-net", "some-net"), ("hf:org/net@v1", "net"), ("hf:/a/b c", "b-c"),
        ("torch:/x/net.pt2", "net"), ("a/b.py:load", "b-load"), ("///", "run"),
    ],
)  # fmt: skip
def test_a_run_is_named_after_its_target(target: str, name: str) -> None:
    assert run_name(target) == name
