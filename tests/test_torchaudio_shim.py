"""The shim in fresh interpreters: it costs nothing, and torchaudio's Python parts work behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def run(program: str) -> Any:
    """What a fresh interpreter prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_it_loads_no_torch_and_takes_no_time() -> None:
    result = run(
        "import json, sys, time; begin = time.perf_counter(); import and_retrieval.checkpoints.torchaudio_shim\n"
        "took = time.perf_counter() - begin\n"
        "print(json.dumps([took, [n for n in ('torch', 'torchaudio', 'numpy') if n in sys.modules]]))"
    )
    assert result[1] == []
    assert result[0] < 0.3


def test_the_hook_is_installed_once() -> None:
    result = run(
        "import sys, and_retrieval.checkpoints.torchaudio_shim as s; s.install(); s.install()\n"
        "print(sum(type(f).__name__ == '_Finder' for f in sys.meta_path))"
    )
    assert result == 1


PARTS = """
import json, math, and_retrieval.checkpoints.torchaudio_shim as shim
import torch, torchaudio
from torchaudio import functional, transforms
from torchaudio.compliance import kaldi

rate = 16_000
time = torch.arange(rate) / rate
tone = torch.sin(2 * math.pi * 1000 * time)

half = functional.resample(tone, rate, rate // 2)
spectrum = torch.fft.rfft(half).abs()

mel = transforms.MelSpectrogram(rate, n_fft=512, n_mels=40)(tone)
centres = functional.melscale_fbanks(257, 0, rate / 2, 40, rate).argmax(0) * rate / 512

bank = kaldi.fbank(tone[None], num_mel_bins=40, sample_frequency=rate)

b, a = torch.tensor([0.1, 0.0]), torch.tensor([1.0, -0.9])
step = functional.lfilter(torch.ones(200), a, b, clamp=False)

def forced_align(): pass
try:
    shim._failing(forced_align)()
except RuntimeError as error:
    complaint = str(error)

from sentence_transformers import SentenceTransformer

print(json.dumps({
    "resampled": [len(half), int(spectrum.argmax())],
    "mel": [list(mel.shape), float(centres[mel.mean(1).argmax()])],
    "fbank": [list(bank.shape), int(bank.mean(0).argmax())],
    "lfilter": [float(step[n]) for n in (0, 1, 10, 199)],
    "guard": callable(torchaudio._extension.fail_if_no_align),
    "complaint": complaint,
    "sentences": SentenceTransformer.__name__,
}))
"""


def test_the_parts_written_in_python_work_and_sentence_transformers_imports() -> None:
    result = run(PARTS)
    assert result["resampled"] == [8_000, 1_000]
    assert result["mel"][0] == [40, 63]
    assert abs(result["mel"][1] - 1_000) < 100
    assert result["fbank"][0] == [98, 40]
    assert 10 <= result["fbank"][1] <= 18
    for n, value in zip((0, 1, 10, 199), result["lfilter"], strict=True):
        assert abs(value - (1 - 0.9 ** (n + 1))) < 1e-5
    assert result["guard"]
    assert result["complaint"] == "torchaudio's forced_align needs its compiled extension, which did not load"
    assert result["sentences"] == "SentenceTransformer"
