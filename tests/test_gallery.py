"""The networks of docs/gallery.md, as a reader would copy them, recorded with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from readme_examples import readme_example
from sounds import WriteSound, tone

from and_retrieval.clips.index import ClipIndex

EXPECTED = {
    "crepe": {"classifier": 360},
    "xvector": {
        **{f"frames.{n}.0": 512 for n in range(4)},
        "frames.4.0": 1500,
        "segment6": 512,
        "segment7": 512,
    },
    "torchaudio": {
        f"encoder.transformer.layers.{n}.feed_forward.intermediate_dense": 3072 for n in range(12)
    },
    "cnn14": {
        **{f"conv_block{n}.conv2": 2 ** (5 + n) for n in range(1, 7)},
        "fc1": 2048,
        "fc_audioset": 527,
    },
}
"""Name of the example -> the layers it records by itself, and their units."""


@pytest.mark.parametrize(
    "name",
    ["crepe", "xvector", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torchaudio", "cnn14"))],
)
def test_can_be_recorded_as_it_stands(
    name: str, home: Path, tmp_path: Path, write_sound: WriteSound, answer: Answer
) -> None:
    (tmp_path / "network.py").write_text(readme_example(name))
    for number in range(3):
        sound = tone(220.0 * 2**number, 1.2, 32_000) + np.float32(0.01)
        folder = write_sound(f"sounds/{number}.wav", sound, 32_000).parent
    ClipIndex.build(folder, FakeEmbedder(), home / "s")
    options = ("--batch", "2", "--top-k", "2", "--hold-out", "0", "--run", "r")
    summary = answer("record", "s", "--target", f"{tmp_path / 'network.py'}:load", *options)
    assert {layer["name"]: layer["units"] for layer in summary["layers"]} == EXPECTED[name]
