"""The facade for users of the package: every stage as a function or a method of `Run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .choices import PORT
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
from .report.notebook import Results, Unit, run_html
from .report.write import write_report
from .search.query import Query
from .search.search import Filters, search_neurons
from .store import Home
from .types import Target

if TYPE_CHECKING:
    from .serve.server import PageServer


@dataclass(frozen=True)
class Run(Recording):
    """The user's NAME/RUN: a recording, with the later stages as methods."""

    def explain(self, *banks: str | ConceptBank, **settings: Any) -> Explained:
        """`explanation.explain.explain` of this run, by default over the bank `audioset`."""
        return explain(self, banks or (DEFAULT_BANK,), **settings)

    def explanations(self) -> Explained:
        """The explanations that `explain` made, a sequence in the order of layers and units.

        Raises:
            InputError: The run is not explained yet.
            StaleError: The network was recorded again after that.
        """
        return load_explained(self)

    def search(self, query: Query | str | Sequence[str], k: int = 10, **filters: Any) -> Results:
        """The units that match a query best, see `search.search.search_neurons`; keywords are those of `Filters`."""
        return Results(search_neurons(self, query, k, Filters(**filters)), self)

    def unit(self, name: str) -> Unit:
        """One unit, LAYER:UNIT, with what is said of it; a notebook shows it with its strongest clips.

        Raises:
            InputError: There is no such unit, or the run is not explained yet.
        """
        row = self.unit_index.row(name)
        return Unit(self, load_explained(self).at([row], clips=True)[0])

    def serve(self, port: int = PORT) -> PageServer:
        """Serve the page of this run's home on this machine, beside the caller; a notebook shows its address.

        Args:
            port: 0 for any that is free.

        Raises:
            InputError: The port is in use.
        """
        from .serve.server import PageServer

        home = Home(self.index.folder.path.parent)
        return PageServer.listen(home, self.name, port, self.index.embedder_spec, self.index.device).start()

    def _repr_html_(self) -> str:
        return run_html(self)

    def prune(
        self,
        *concepts: str,
        device: str = "cpu",
        trust_remote_code: bool = False,
        target: str | None = None,
        **settings: Any,
    ) -> Pruned:
        """Load the run's network and prune it, see `pruning.prune.prune`; several concepts are pruned together.

        `device` is where the network is to run; `target` names it again, see `recording.target.load_recorded_target`.
        """
        network = load_recorded_target(self, device, trust_remote_code, target)
        return prune(self, network, concepts, **settings)

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
    workers: int | str = 1,
    trust_remote_code: bool = False,
    to: str | None = None,
) -> Run:
    """Play every clip of the index to the network once, see `recording.record.record`; returns the run."""
    recording = record_network(target, index, layers, config, run, announce, workers, trust_remote_code, to)
    return Run(recording.stored, recording.index, recording.shards)
