"""The facade: what users of the package call, each stage as a function or a method of `Run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .clips.index import ClipIndex
from .concepts import DEFAULT_BANK, ConceptBank
from .config import RecordConfig
from .explanation.explain import explain
from .explanation.stored import Explained, load_explained
from .progress import Announce, no_progress
from .pruning.prune import prune
from .pruning.result import Pruned
from .recording.record import record as record_network
from .recording.recording import Recording
from .recording.target import load_recorded_target
from .report.write import write_report
from .search.query import Query
from .search.search import Filters, search_neurons
from .types import Target


@dataclass(frozen=True)
class Run(Recording):
    """A recording with the stages that follow as methods: the user's NAME/RUN."""

    def explain(self, *banks: str | ConceptBank, **settings: Any) -> Explained:
        """`explanation.explain.explain` of this run, by default over the bank `audioset`."""
        return explain(self, banks or (DEFAULT_BANK,), **settings)

    def explanations(self) -> Explained:
        """What `explain` said of the units, a sequence in layer and unit order.

        Raises:
            InputError: `explain` was not run yet.
            StaleError: The network was recorded again since.
        """
        return load_explained(self)

    def search(self, query: Query | str | Sequence[str], k: int = 10, **filters: Any) -> list[dict[str, Any]]:
        """The units that match a query best, see `search.search.search_neurons`; keywords are those of `Filters`."""
        return search_neurons(self, query, k, Filters(**filters))

    def prune(
        self, *concepts: str, device: str = "cpu", trust_remote_code: bool = False, **settings: Any
    ) -> Pruned:
        """`pruning.prune.prune` of this run's network, which is loaded again; several concepts go together."""
        target = load_recorded_target(self, device, trust_remote_code)
        return prune(self, target, concepts, device=device, **settings)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, see `report.write.write_report`."""
        return write_report(self, Path(out) if out else None)


def record(
    target: Target,
    index: ClipIndex,
    layers: Sequence[str] = (),
    config: RecordConfig | None = None,
    run: str | None = None,
    announce: Announce = no_progress,
) -> Run:
    """Show the network every clip of the index once, see `recording.record.record`; gives the run."""
    recording = record_network(target, index, layers, config, run, announce)
    return Run(recording.stored, recording.index)
