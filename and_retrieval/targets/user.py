'''Targets that a user brings: a function in a Python file, or in an importable module.

The function takes no arguments and returns a `Target`. Copy this into `my_target.py`, put your network
and its preprocessing in, and name it with `--target my_target.py:load`:

```python
import math

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

RATE, FRAME, HOP, MELS = 16000, 400, 160, 64


def mel_filters() -> torch.Tensor:
    """Triangles evenly spaced in mel, [mels, bins]."""
    mel = torch.linspace(0, 2595 * math.log10(1 + RATE / 2 / 700), MELS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, FRAME // 2 + 1)
    rising = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(waveforms: list[np.ndarray]) -> torch.Tensor:
    """n equally long waveforms at RATE -> [n, 1, mels, frames], what the network is called with."""
    audio = torch.from_numpy(np.stack(waveforms))
    spectrum = torch.stft(audio, FRAME, HOP, window=torch.hann_window(FRAME), return_complex=True)
    return torch.log(mel_filters() @ spectrum.abs() + 1e-3)[:, None]


def load() -> Target:
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3),
    )
    # Yours: network.load_state_dict(safetensors.torch.load_file("my_network.safetensors"))
    return Target(
        module=network,
        sample_rate=RATE,
        preprocess=log_mel,
        class_names=("dog", "rain", "siren"),
        logits=lambda output: output,
        layers=("0", "4", "9"),
    )
```
'''

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..checkpoints import torchaudio_shim  # noqa: F401  (a user's network may import torchaudio)
from ..choices import POOLINGS
from ..errors import AndRetrievalError, InputError, unknown_name
from ..types import Target

FORMS = "'path/to/file.py:function' or 'package.module:function'"
LONGEST_MESSAGE = 300


def call_function(spec: str) -> Any:
    """What the function named by `spec` returns.

    A file is executed afresh at every call; its folder (for the form `package.module:function`: the
    current folder) is importable only until the function has returned.

    Args:
        spec: `path/to/file.py:function` or `package.module:function`.

    Raises:
        InputError: File, module or function is missing, or the user's code failed; the message carries
            the line it failed on.
    """
    where, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    if not name or not where:
        raise InputError(f"target {spec!r} names no function: write {FORMS}")
    path = Path(where).expanduser()
    is_file = where.endswith(".py")
    if is_file and not path.is_file():
        raise InputError(f"target {spec!r}: no file {where}; write {FORMS}")
    with _importable(path.resolve().parent if is_file else Path.cwd(), first=is_file):
        module = _run_file(path.resolve(), spec) if is_file else _import(where, spec)
        function = _function(module, name, where)
        with _explained(spec, module.__file__):
            return function()


def checked_target(made: Any, spec: str) -> Target:
    """`made`, if it is a `Target` that can be used.

    Raises:
        InputError: It is something else, or one of its fields cannot be used.
    """
    if not isinstance(made, Target):
        raise InputError(
            f"target {spec!r} returned {_type_name(made)}, not a Target: "
            "return and_retrieval.types.Target(module=..., sample_rate=..., preprocess=...)"
        )
    if not isinstance(made.module, nn.Module):
        raise InputError(f"target {spec!r}: module is {_type_name(made.module)}, not a torch.nn.Module")
    if any(is_lazy(p) for p in (*made.module.parameters(), *made.module.buffers())):
        raise InputError(
            f"target {spec!r} has lazy layers without weights: call the network once before returning it"
        )
    if isinstance(made.sample_rate, bool) or not isinstance(made.sample_rate, int) or made.sample_rate <= 0:
        raise InputError(
            f"target {spec!r}: sample_rate is {made.sample_rate!r}, not a rate in Hz such as 16000"
        )
    if not callable(made.preprocess):
        raise InputError(
            f"target {spec!r}: preprocess is {_type_name(made.preprocess)}, not a function of waveforms"
        )
    if not all(isinstance(rules, Mapping) for rules in (made.pooling, made.time_axis, made.unit_axis)):
        raise InputError(
            f"target {spec!r}: pooling, time_axis and unit_axis are dicts with layer globs as keys"
        )
    for pooling in made.pooling.values():
        if pooling not in POOLINGS:
            raise unknown_name("pooling", str(pooling), POOLINGS, f"in target {spec!r}")
    return made


def _run_file(path: Path, spec: str) -> ModuleType:
    name = f"and_retrieval_target_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise InputError(f"target {spec!r}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up while it runs
    try:
        with _explained(spec, str(path)):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(name: str, spec: str) -> ModuleType:
    try:
        with _explained(spec, None):
            return importlib.import_module(name)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
            raise InputError(f"target {spec!r}: no module named {cause.name!r}; write {FORMS}") from cause
        raise


def _function(module: ModuleType, name: str, where: str) -> Callable[[], Any]:
    function = getattr(module, name, None)
    if function is None:
        own = [
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise unknown_name(f"function of {where}", name, own, "it takes no arguments and returns a Target")
    if not callable(function):
        raise InputError(f"{where}:{name} is {_type_name(function)}, not a function that returns a Target")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InputError(f"{where}:{name} must be callable without arguments: {error}") from error
    return function  # type: ignore[no-any-return]


@contextmanager
def _importable(folder: Path, first: bool) -> Iterator[None]:
    """`folder` on the import path, before everything else or behind it."""
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            # Behind everything else, the entry to take off again is the last of its kind.
            at = sys.path.index(entry) if first else len(sys.path) - 1 - sys.path[::-1].index(entry)
            del sys.path[at]


@contextmanager
def _explained(spec: str, file: str | None) -> Iterator[None]:
    """Turns what the user's code raises into one line that says where it happened."""
    try:
        yield
    except AndRetrievalError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"target {spec!r} failed at {_summary(error, file)}") from error


def _summary(error: BaseException, file: str | None) -> str:
    """`file:line: message` of the deepest line in the user's file, else of the deepest line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    message = " ".join(str(error).split())[:LONGEST_MESSAGE]
    return f"{last.filename}:{last.lineno}: {type(error).__name__}: {message}"


def _type_name(value: Any) -> str:
    return type(value).__name__
