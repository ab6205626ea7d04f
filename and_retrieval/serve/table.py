"""A run's units as columns in memory, so that a table of them can be filtered, sorted and paged in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..explanation import columns
from ..explanation.stored import Explained
from ..faiss_index import Mask, Rows
from ..numerics import Doubles
from ..recording.recording import Recording
from ..search.search import unit_facts
from ..types import Explanation

RELIABILITY = ("holds", "untested", "fails")
"""Verdicts, the clearest first."""
KINDS = ("concept", "acoustic", "both", "none")
"""What explains a unit; `none` where nothing reliable does."""
SORTS = ("clear", "unit", "score", "faithfulness", "polysemanticity")
"""Orders of the table: the clearest first (the verdict, then the label's score), layer and unit, or a figure."""
FREQUENT = 8  # labels listed for a layer

_LISTED = (
    "layer", "unit", "labels", "faithfulness", "reliable", "kind", "acoustics", "preferences", "tuning",
    "polysemanticity", "summary", "open_concepts",
)  # fmt: skip
"""Fields of `Explanation` that a row shows."""


@dataclass(frozen=True)
class UnitTable:
    """The units of a run, in layer and unit order.

    Attributes:
        layers: (name, units) in order.
        layer: int [units], place of each unit's layer.
        explained: What is said of the units, without clips; None if the run is not explained.
        acoustics: Layer -> R² by measured qualities, see `LayerAcoustics`.
    """

    layers: tuple[tuple[str, int], ...]
    layer: npt.NDArray[np.int32]
    explained: pa.Table | None
    acoustics: dict[str, Any]

    @classmethod
    def of(cls, recording: Recording, explained: Explained | None) -> UnitTable:
        """The table of a run."""
        layers = tuple((layer.name, layer.units) for layer in recording.manifest.layers)
        layer = np.repeat(np.arange(len(layers), dtype=np.int32), [units for _, units in layers])
        columns = None
        if explained is not None:
            columns = pa.table({name: explained.column(name).combine_chunks() for name in _LISTED})
        return cls(layers, layer, columns, dict(explained.manifest.acoustics) if explained else {})

    def __len__(self) -> int:
        return len(self.layer)

    @cached_property
    def starts(self) -> npt.NDArray[np.intp]:
        """First row of every layer, int [layers + 1]."""
        return np.concatenate([[0], np.cumsum([units for _, units in self.layers], dtype=np.intp)])

    @cached_property
    def reliability(self) -> npt.NDArray[np.int8]:
        """Place of each unit's verdict in `RELIABILITY`, int8 [units]."""
        return self._codes("reliable", RELIABILITY, RELIABILITY.index("untested"))

    @cached_property
    def kind(self) -> npt.NDArray[np.int8]:
        """Place of what explains each unit in `KINDS`, int8 [units]."""
        return self._codes("kind", KINDS, KINDS.index("none"))

    @cached_property
    def figures(self) -> dict[str, Doubles]:
        """float64 [units] by name: `score` of the first label, `faithfulness` (correlation), `polysemanticity`."""
        missing = np.full(len(self), np.nan)
        if self.explained is None:
            return {"score": missing, "faithfulness": missing, "polysemanticity": missing}
        return {
            "score": self._of_first_label("score", missing),
            "faithfulness": _numbers(pc.struct_field(self._column("faithfulness"), "correlation")),
            "polysemanticity": _numbers(self._column("polysemanticity")),
        }

    @cached_property
    def concepts(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """First labels: the concepts, and each unit's place among them, int [units]; -1 where there is none."""
        if self.explained is None:
            return [], np.full(len(self), -1)
        labels = self._column("labels")
        first, has = self._first_labels
        texts = labels.values.field("concept").take(pa.array(first[has])).dictionary_encode()
        places = np.full(len(self), -1)
        places[has] = texts.indices.to_numpy()
        return texts.dictionary.to_pylist(), places

    def chosen(
        self,
        layers: Sequence[str] = (),
        reliable: Sequence[str] = (),
        kind: Sequence[str] = (),
        words: str = "",
    ) -> Mask:
        """The units that pass filters, bool [units]; an empty filter lets all pass.

        Args:
            layers: Names of layers.
            reliable: Of `RELIABILITY`.
            kind: Of `KINDS`.
            words: Each of these words is part of a label, of the sentence, or of the open concepts.
        """
        mask = np.ones(len(self), bool)
        if layers:
            mask &= np.isin(self.layer, [i for i, (name, _) in enumerate(self.layers) if name in layers])
        if reliable:
            mask &= np.isin(self.reliability, [RELIABILITY.index(name) for name in reliable])
        if kind:
            mask &= np.isin(self.kind, [KINDS.index(name) for name in kind])
        for word in words.split():
            mask &= self._mentions(word)
        return mask

    def ordered(self, mask: Mask, sort: str) -> Rows:
        """Rows of the units of a mask in an order of `SORTS`; a minus before its name turns it round."""
        order = self._order(sort.removeprefix("-"))
        rows = order[mask[order]]
        return rows[::-1] if sort.startswith("-") else rows

    def explanations(self, rows: Sequence[int]) -> list[Explanation]:
        """What is said of some units, without clips."""
        assert self.explained is not None
        taken = self.explained.take(pa.array(rows, pa.int64()))
        return columns.records(taken, Explanation)

    def rows(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Some units as the table shows them."""
        explanations: Sequence[Explanation | None]
        explanations = self.explanations(rows) if self.explained is not None else [None] * len(rows)
        return [self._shown(int(row), unit) for row, unit in zip(rows, explanations, strict=True)]

    def facts(self, unit: Explanation | None) -> dict[str, Any]:
        """What the table shows besides what search results say: the test's correlation, and the strongest tuning."""
        tuning = next((curve for curve in unit.tuning if curve.centres), None) if unit else None
        test = unit.faithfulness if unit else None
        drawn = tuning and {
            "quality": tuning.quality,
            "shape": tuning.shape,
            "best": tuning.best,
            "means": [float(f"{mean:.3g}") for mean in tuning.means],
        }
        return {
            "verdict": unit.reliable if unit else "untested",
            "faithfulness": test.correlation if test else None,
            "tuning": drawn,
        }

    def place(self, row: int) -> tuple[str, int]:
        """(layer, unit) of a row."""
        layer = int(self.layer[row])
        return self.layers[layer][0], row - int(self.starts[layer])

    def overview(self) -> list[dict[str, Any]]:
        """Per layer its counts, shares and most frequent labels."""
        return [self._layer(place) for place in range(len(self.layers))]

    def _layer(self, place: int) -> dict[str, Any]:
        name, units = self.layers[place]
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        texts, first = self.concepts
        counts = np.bincount(first[part][first[part] >= 0], minlength=len(texts))
        frequent = np.lexsort((np.arange(len(counts)), -counts))[:FREQUENT]
        r2 = self.acoustics.get(name)
        return {
            "layer": name,
            "units": units,
            "kinds": _counted(self.kind[part], KINDS),
            "reliable": _counted(self.reliability[part], RELIABILITY),
            **{figure: _median(self.figures[figure][part]) for figure in ("faithfulness", "polysemanticity")},
            "acoustics": {"r2": r2.r2, "shuffled": r2.shuffled} if r2 else None,
            "frequent": [{"concept": texts[i], "units": int(counts[i])} for i in frequent if counts[i]],
        }

    def _shown(self, row: int, unit: Explanation | None) -> dict[str, Any]:
        layer, number = self.place(row)
        empty = dict.fromkeys(("score", "z", "needed", "listens"))
        return {"layer": layer, "unit": number, **empty, **unit_facts(unit), **self.facts(unit)}

    def _order(self, sort: str) -> Rows:
        if sort not in self._orders:
            rows = np.arange(len(self))
            keys: tuple[npt.NDArray[Any], ...] = (rows,)
            if sort == "clear":
                keys = (rows, _last_if_missing(self.figures["score"]), self.reliability)
            elif sort in self.figures:
                keys = (rows, _last_if_missing(self.figures[sort]))
            self._orders[sort] = np.lexsort(keys)
        return self._orders[sort]

    @cached_property
    def _orders(self) -> dict[str, Rows]:
        return {}

    def _column(self, name: str) -> pa.Array:
        assert self.explained is not None
        column = self.explained.column(name)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def _codes(self, name: str, names: Sequence[str], otherwise: int) -> npt.NDArray[np.int8]:
        if self.explained is None:
            return np.full(len(self), otherwise, np.int8)
        codes = pc.index_in(self._column(name), value_set=pa.array(names)).fill_null(otherwise)
        return np.asarray(codes.to_numpy(zero_copy_only=False), np.int8)

    @cached_property
    def _first_labels(self) -> tuple[npt.NDArray[np.int64], Mask]:
        """Where each unit's labels begin in the flat column, and whether it has any."""
        offsets = self._column("labels").offsets.to_numpy()
        return offsets[:-1].astype(np.int64), np.diff(offsets) > 0

    def _of_first_label(self, field: str, missing: Doubles) -> Doubles:
        first, has = self._first_labels
        values = missing.copy()
        values[has] = _numbers(self._column("labels").values.field(field).take(pa.array(first[has])))
        return values

    def _mentions(self, word: str) -> Mask:
        """Whether a word is part of what is said of each unit, bool [units]."""
        if self.explained is None:
            return np.zeros(len(self), bool)
        of_labels, of_concepts, of_sentences = (_holding(texts, word) for texts in self._texts)
        return np.asarray(
            _any(self._column("labels"), of_labels)
            | _any(self._column("open_concepts"), of_concepts)
            | of_sentences
        )

    @cached_property
    def _texts(self) -> tuple[pa.DictionaryArray, pa.DictionaryArray, pa.DictionaryArray]:
        """All labels, all open concepts, and the units' sentences; a text that many units have is looked at once."""
        return (
            self._column("labels").values.field("concept").dictionary_encode(),
            self._column("open_concepts").values.dictionary_encode(),
            pc.struct_field(self._column("summary"), "text").dictionary_encode(),
        )


def _holding(texts: pa.DictionaryArray, word: str) -> Mask:
    """Which texts hold a word, in either case, bool [texts]; a missing text holds none."""
    holds = pc.match_substring(texts.dictionary, word, ignore_case=True).to_numpy(zero_copy_only=False)
    places = texts.indices.fill_null(len(holds)).to_numpy(zero_copy_only=False)
    return np.asarray(np.append(holds, False)[places], bool)


def _any(lists: pa.Array, flags: Mask) -> Mask:
    """Whether any of a list's values has its flag set, bool [lists]."""
    flagged = np.concatenate([[0], np.cumsum(flags)])
    offsets = lists.offsets.to_numpy()
    return np.asarray(flagged[offsets[1:]] > flagged[offsets[:-1]])


def _numbers(values: pa.Array) -> Doubles:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def _last_if_missing(values: Doubles) -> Doubles:
    """Keys that sort the largest value first and missing ones last."""
    return np.where(np.isfinite(values), -values, np.inf)


def _counted(codes: npt.NDArray[np.int8], names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _median(values: Doubles) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 4) if len(known) else None
