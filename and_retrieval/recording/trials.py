"""Trials of a network before it is recorded, and what is remembered of them.

They take some twenty short passes. Where the first look leaves no doubt and the target declares the times of its
steps, they take five where preprocessing pads clips to one length (eight clips, as four are shown together), else
seven. What they found is remembered in the cache folder, by weights, code and settings, and used again if the network
still answers noise as it did then, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from ..checkpoints.named_code import code_fingerprint
from ..config import RecordConfig
from ..errors import InputError
from ..files import cache_folder, forget_oldest, write_text
from ..network.dictionary import attached
from ..network.first_look import first_look
from ..network.layers import TRIAL_SECONDS, plan_layers
from ..network.plan import LayerPlan, SteadySteps
from ..network.probe import probed
from ..network.trial import check_independent, check_repeatable
from ..shards.plan import made_by
from ..store.documents import is_sealed, parsed, sealed
from ..targets import REGISTRY, changed_entries, entry_hashes, is_code, weights_hash
from ..types import Target
from .manifest import RecordedLayer
from .target import recorded_plans

TRIAL_BATCH = 4
"""Clips that are shown together, at most: two that differ, in turn. What happens only in larger batches goes unseen."""
LARGEST = 16 << 20  # bytes of all that is remembered
DEAF = hashlib.sha256().hexdigest()[:16]
"""The response of a network that cannot hear noise of any length that was tried."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tried:
    """What trials found out about a network.

    Attributes:
        layers: How its layers are read.
        weights, changing, response: See `RecordingManifest`.
        warnings: What the trials had to say.
    """

    layers: tuple[RecordedLayer, ...]
    weights: str
    changing: tuple[str, ...]
    response: str
    warnings: tuple[str, ...]

    def plans(self, target: Target) -> tuple[LayerPlan, ...]:
        """Plans that read the layers of the network."""
        return recorded_plans(self.layers, target, [layer.name for layer in self.layers])


def tried(
    target: Target, layers: Sequence[str], usual: float, config: RecordConfig, device: torch.device
) -> Tried:
    """What trials find out about a network, or found out when the same was tried before.

    Args:
        target: The network, on its device.
        layers: Names of the layers to record.
        usual: Length of most clips, seconds.
        config: Pooling and batch.
        device: Where the network is.

    Raises:
        InputError: No layer can be read, or the network's response to a clip depends on chance or on the other clips
            of the batch.
    """
    path = _place(target, layers, usual, config, device)
    known = None if path is None else _remembered(path)
    if known is not None:
        with suppress(InputError):
            if _response(target, known.plans(target), usual, device) == known.response:
                for warning in known.warnings:
                    _log.warning("%s", warning)
                return known
    fresh = _try(target, layers, usual, config, device)
    if path is not None and fresh.response != DEAF:
        with suppress(OSError):  # without the cache, only time is lost
            write_text(path, sealed(asdict(fresh)))
            forget_oldest(path.parent, LARGEST)
    return fresh


def _try(
    target: Target, names: Sequence[str], usual: float, config: RecordConfig, device: torch.device
) -> Tried:
    before = entry_hashes(target.module)
    lengths = (usual, *TRIAL_SECONDS)
    batch = min(config.batch, TRIAL_BATCH)
    with _warnings() as warnings:
        look = first_look(target, names, device, lengths, batch)
        check_repeatable(target, names, device, lengths, look)
        plans = plan_layers(target, names, config.pooling, device, (*TRIAL_SECONDS, usual), look)
        check_independent(target, plans, device, batch, lengths, look)
        changing = changed_entries(before, entry_hashes(target.module))
        if changing:
            _log.warning(
                "target %r: %s changed while it ran and cannot tell these weights from others: left out of their hash",
                target.name, ", ".join(changing),
            )  # fmt: skip
    return Tried(
        layers=tuple(map(_recorded, plans)),
        weights=weights_hash(target.module, changing),
        changing=changing,
        response=_response(target, plans, usual, device),
        warnings=tuple(warnings),
    )


def _response(target: Target, plans: Sequence[LayerPlan], usual: float, device: torch.device) -> str:
    """Hash of all layers' response to noise: the shortest of some usual lengths that the network can hear.

    Clips that are added to the index change it only where the network hears none but the length of most clips.
    """
    digest = hashlib.sha256()
    for seconds in (*TRIAL_SECONDS, usual):
        samples = max(1, round(seconds * target.sample_rate))
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, samples).astype(np.float32)
        with suppress(InputError):
            for values, peaks in probed(target, plans, [noise], device).values():
                digest.update(values.tobytes() + peaks.tobytes())
            break
    return digest.hexdigest()[:16]


def _recorded(plan: LayerPlan) -> RecordedLayer:
    steady = plan.step_seconds if isinstance(plan.step_seconds, SteadySteps) else None
    return RecordedLayer(
        name=plan.name,
        units=plan.units,
        pooling=plan.pooling,
        output=plan.shape,
        unit_axis=plan.unit_axis,
        time_axis=plan.time_axis,
        batch_axis=plan.batch_axis,
        overlap=plan.overlap,
        clips=0,
        calls=plan.calls,
        step=steady.step if steady else None,
        side=steady.side if steady else 0.0,
    )


def _place(
    target: Target, layers: Sequence[str], usual: float, config: RecordConfig, device: torch.device
) -> Path | None:
    """Where trials of this network are remembered; None where it was made in Python, by code that nobody knows."""
    code = code_fingerprint(target.name) if is_code(target.name) else ""
    if code is None or not (code or target.name in REGISTRY or target.name.startswith("hf:")):
        return None
    facts = {
        "target": target.name,
        "code": [code, made_by(), version("transformers"), version("torchaudio")],
        "weights": weights_hash(target.module),
        "dictionaries": [asdict(dictionary) for dictionary in attached(target)],
        "layers": list(layers),
        "pooling": [list(rule) for rule in config.pooling],
        "batch": config.batch,
        "usual": usual,
        "device": str(device),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return cache_folder() / "trials" / f"{key}.json"


def _remembered(path: Path) -> Tried | None:
    with suppress(OSError, InputError):
        text = path.read_bytes()
        if is_sealed(text):
            return parsed(text, Tried)
    return None


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Within the context, the list fills with what this package warns of."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    package = logging.getLogger(__name__.partition(".")[0])
    listener = Listener(logging.WARNING)
    package.addHandler(listener)
    try:
        yield heard
    finally:
        package.removeHandler(listener)
