"""and_retrieval: explains acoustic neural networks, offline.

    from and_retrieval import ClipIndex, load_embedder, load_target, record

    index = ClipIndex.build("sounds/", embedder=load_embedder("embedded"), path="index/sounds")
    run = record(load_target("yamnet"), index, layers=["classifier"])
    run.explain()
    run.search("a crying baby", k=5)

Names are loaded at their first use, so importing the package is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clips.index import ClipIndex
    from .comparison.compare import compare
    from .concepts import ConceptBank, load_bank
    from .embed import load_embedder
    from .errors import AndRetrievalError
    from .explanation.explain import explain
    from .network.dictionary import attach, load_dictionary
    from .pruning.export import load_pruned
    from .report.write import write_report
    from .run import Run, record
    from .search.query import Query
    from .search.search import search_clips, search_neurons
    from .targets import load_target
    from .targets.heads import with_heads
    from .types import Clip, Embedder, Explanation, ProbeSet, Target

__version__ = "0.1.0"

_HOMES = {
    "AndRetrievalError": "errors",
    "Clip": "types",
    "ClipIndex": "clips.index",
    "ConceptBank": "concepts",
    "Embedder": "types",
    "Explanation": "types",
    "ProbeSet": "types",
    "Query": "search.query",
    "Run": "run",
    "Target": "types",
    "attach": "network.dictionary",
    "compare": "comparison.compare",
    "explain": "explanation.explain",
    "load_bank": "concepts",
    "load_dictionary": "network.dictionary",
    "load_embedder": "embed",
    "load_pruned": "pruning.export",
    "load_target": "targets",
    "record": "run",
    "search_clips": "search.search",
    "search_neurons": "search.search",
    "with_heads": "targets.heads",
    "write_report": "report.write",
}

__all__ = [
    "AndRetrievalError",
    "Clip",
    "ClipIndex",
    "ConceptBank",
    "Embedder",
    "Explanation",
    "ProbeSet",
    "Query",
    "Run",
    "Target",
    "attach",
    "compare",
    "explain",
    "load_bank",
    "load_dictionary",
    "load_embedder",
    "load_pruned",
    "load_target",
    "record",
    "search_clips",
    "search_neurons",
    "with_heads",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
