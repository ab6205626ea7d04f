"""The indexes and runs that the server holds open; what was recorded or explained again meanwhile is opened again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from ..checkpoints.devices import resolve_device
from ..clips.index import ClipIndex
from ..errors import InputError, StaleError
from ..explanation.manifest import explanation_folder
from ..explanation.stored import Explained, is_explained, load_explained
from ..faiss_index import Mask
from ..network.plan import LayerPlan
from ..recording.recording import Recording
from ..recording.target import load_recorded_target, recorded_plans
from ..search.thresholds import index_thresholds, run_thresholds
from ..store import Folder, Home
from ..targets import weights_hash
from ..types import Embedder, Target
from .table import UnitTable

KEPT = 8  # runs, and indexes, held open at a time

T = TypeVar("T")
Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Network:
    """A run's network, loaded; whoever calls it holds the lock, because hooks are set on it meanwhile."""

    target: Target
    plans: tuple[LayerPlan, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class OpenRun:
    """A run that is held open.

    Attributes:
        recording: The run.
        explained: What is said of its units; None if it is not explained, or was recorded again since.
        problem: Why its explanations cannot be used, or None.
        device: Where its network runs.
    """

    recording: Recording
    explained: Explained | None
    problem: str | None
    device: str = "cpu"
    _loading: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @cached_property
    def table(self) -> UnitTable:
        """Its units as columns."""
        return UnitTable.of(self.recording, self.explained)

    def mask_of(self, units: Iterable[str]) -> Mask:
        """Which of its units are among LAYER:UNIT, bool [units]; those that it does not have now are left out."""
        table, mask = self.table, np.zeros(len(self.table), bool)
        place = {name: (int(table.starts[i]), size) for i, (name, size) in enumerate(table.layers)}
        for unit in units:
            layer, _, number = unit.rpartition(":")
            start, size = place.get(layer, (0, 0))
            if number.isdecimal() and int(number) < size:
                mask[start + int(number)] = True
        return mask

    def require_explained(self) -> Explained:
        """What is said of its units.

        Raises:
            InputError: It is not explained, or its explanations cannot be used.
        """
        return self.explained if self.explained is not None else load_explained(self.recording)

    @cached_property
    def _network(self) -> Network:
        target = load_recorded_target(self.recording, self.device)
        manifest = self.recording.manifest
        if weights_hash(target.module, manifest.changing) != manifest.weights:
            raise StaleError(
                f"target {target.name!r} has other weights than {self.recording.name} was recorded from; "
                f"{self.recording.remedy}"
            )
        names = [layer.name for layer in manifest.layers]
        return Network(target, recorded_plans(manifest.layers, target, names))

    def network(self) -> Network:
        """Its network, loaded at the first call.

        Raises:
            InputError: It cannot be loaded any more.
            StaleError: Its weights are not those that were recorded.
        """
        with self._loading:
            return self._network


class OpenRuns:
    """Opens indexes and runs of a home by name, and keeps the last few."""

    def __init__(self, home: Home, embedder: str | None = None, device: str = "cpu") -> None:
        self.home = home
        self._embedder = embedder
        self._device = str(resolve_device(device))
        self._embedders: dict[str, Embedder] = {}
        self._indexes: OrderedDict[str, tuple[Stamp, ClipIndex]] = OrderedDict()
        self._runs: OrderedDict[str, tuple[Stamp, OpenRun]] = OrderedDict()
        self._lock = threading.RLock()

    def index(self, name: str) -> ClipIndex:
        """The index of that name as it is on disk now.

        Raises:
            InputError: There is no such index, or it is damaged.
        """
        folder = self.home.require_index(name)
        with self._lock:
            return _kept(self._indexes, name, _stamp(folder), lambda: self._opened_index(folder))

    def run(self, where: str) -> OpenRun:
        """The run NAME/RUN as it is on disk now.

        Raises:
            InputError: There is no such run, or it is damaged.
            StaleError: It was recorded on other clips than its index has.
        """
        folder, name = self.home.named_run(where), where.partition("/")[0]
        stamp = _stamp(self.home.index(name), folder, explanation_folder(folder))
        with self._lock:
            index = self.index(name)
            return _kept(self._runs, where, stamp, lambda: self._opened_run(folder, index))

    def warm(self, where: str, announce: Callable[[str], None]) -> None:
        """Open a run and load what a search of its units and clips needs, announcing each step in words."""
        announce("the run")
        run = self.run(where)
        announce("its units")
        run.recording.layers  # noqa: B018 (read now, not when it is asked for)
        run.table  # noqa: B018
        announce("the embedder")
        index = run.recording.index
        self._embedders[index.embedder_fingerprint] = index.embedder
        announce("the search")
        index_thresholds(index)
        run_thresholds(run.recording)

    def _opened_index(self, folder: Folder) -> ClipIndex:
        index = ClipIndex.open(folder.path, self._embedder, self._device)
        known = self._embedders.get(index.embedder_fingerprint)
        return index.with_embedder(known) if known is not None else index

    def _opened_run(self, folder: Folder, index: ClipIndex) -> OpenRun:
        recording = Recording.open(folder, index)
        problem = None
        explained = None
        try:
            explained = load_explained(recording) if is_explained(recording) else None
        except (StaleError, InputError) as error:
            problem = str(error)
        return OpenRun(recording, explained, problem, self._device)


def _kept(known: OrderedDict[str, tuple[Stamp, T]], name: str, stamp: Stamp, make: Callable[[], T]) -> T:
    """What is kept under a name, made again if its stamp is another one."""
    if name in known and known[name][0] == stamp:
        known.move_to_end(name)
        return known[name][1]
    known.pop(name, None)
    made = make()
    known[name] = (stamp, made)
    while len(known) > KEPT:
        known.popitem(last=False)
    return made


def _stamp(*folders: Folder) -> Stamp:
    """Time and size of the manifests: other ones after anything was committed."""
    stamps: list[tuple[int, int] | None] = []
    for folder in folders:
        try:
            stat = folder.manifest_path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)
