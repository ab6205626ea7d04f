"""A run: one network recorded on one clip index, with what was said about its units."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from ..clips.index import ClipIndex
from ..errors import InputError, StaleError
from ..store import EXPLANATIONS, Folder
from ..types import Explanation, Floats, Label, LayerEvidence, Meaning, Shown, Summary, UnitFaithfulness
from .evidence import SEEN, load_activations, load_evidence
from .unit_index import UnitIndex, load_unit_index

SETTINGS = "explain.json"
QUALITIES_FILE = "qualities.safetensors"


@dataclass(frozen=True)
class Recording:
    """A recorded run and the index its clip rows refer to."""

    folder: Folder
    index: ClipIndex

    @classmethod
    def open(cls, folder: Folder, index: ClipIndex) -> Self:
        """The run stored in `folder`.

        Raises:
            StaleError: It was recorded on other clips or with another embedder.
        """
        facts = folder.manifest()
        if facts["index_digest"] != index.digest(facts["index_clips"]):
            raise StaleError(
                f"run {folder.path.name!r} was recorded on other clips or another embedder than index "
                f"{index.name!r} has now; {cls(folder, index).remedy}"
            )
        return cls(folder, index)

    @property
    def name(self) -> str:
        """NAME/RUN, as verbs take it."""
        return f"{self.index.name}/{self.folder.path.name}"

    @property
    def remedy(self) -> str:
        """What to do when the run no longer fits, as a command."""
        return (
            f"record it again: and-retrieval record {self.index.name} --target {self.facts['target']} "
            f"--run {self.folder.path.name}"
        )

    @property
    def recorded(self) -> str:
        """What tells this recording from an earlier one under the same name."""
        return recording(self.facts)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the manifest says: target, layers, settings, counts."""
        return self.folder.manifest()

    @cached_property
    def layers(self) -> tuple[LayerEvidence, ...]:
        """The evidence, layer by layer."""
        return load_evidence(self.folder)

    @cached_property
    def neurons(self) -> UnitIndex:
        """The neuron index."""
        return load_unit_index(self.folder)

    def qualities(self) -> Floats:
        """Measured qualities of all clips, float32 [clips, qualities], in the order of `clips.qualities.QUALITIES`."""
        qualities: Floats = load_file(self.folder.file(QUALITIES_FILE))["qualities"]
        return qualities

    def seen_rows(self) -> list[int]:
        """Rows of the clips that may serve as evidence, in the order of the `seen` activations."""
        held = set(self.facts["held_out_rows"])
        return [row for row in range(self.facts["index_clips"]) if row not in held]

    def seen_activations(self, layer: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float16]]:
        """Activations of a layer on the clips that may serve as evidence and could be read, and these clips' rows.

        Returns:
            int [clips], and float16 [clips, units], memory-mapped where all could be read.
        """
        activations = load_activations(self.folder, layer, SEEN)
        read = np.isfinite(activations).all(axis=1)
        rows = np.array(self.seen_rows(), np.intp)[read]
        return rows, activations if read.all() else activations[read]

    def explained(self) -> bool:
        """Whether `explain` has been run."""
        return (self.folder.path / EXPLANATIONS).is_file()

    def settings(self) -> dict[str, Any]:
        """How the explanations were made: concepts, score, language model."""
        self._require_explained()
        path = self.folder.path / SETTINGS
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            content["recorded"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} is missing or damaged; make it again: and-retrieval explain {self.name}"
            ) from None
        return content

    def explanations(self) -> tuple[Explanation, ...]:
        """All explanations, in layer and unit order.

        Raises:
            InputError: `explain` was not run yet, or the file is damaged.
            StaleError: The run was recorded again since.
        """
        self._require_explained()
        if self.settings()["recorded"] != self.recorded:
            raise StaleError(f"{self.name} was recorded again since: and-retrieval explain {self.name}")
        path = self.folder.path / EXPLANATIONS
        state = path.stat()
        try:
            return _read_explanations(path, state.st_mtime_ns, state.st_size)
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; make it again: and-retrieval explain {self.name}") from None

    def write_explanations(self, explanations: Iterable[Explanation], settings: Mapping[str, Any]) -> None:
        """Keep explanations (one JSON object a line) and the settings that made them."""
        settings = {**settings, "recorded": self.recorded}
        text = "".join(json.dumps(_plain(e), ensure_ascii=False) + "\n" for e in explanations)
        self.folder.write_text(EXPLANATIONS, text)
        self.folder.write_text(SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def _require_explained(self) -> None:
        if not self.explained():
            raise InputError(f"{self.name} is not explained yet: and-retrieval explain {self.name}")


def recording(facts: Mapping[str, Any]) -> str:
    """See `Recording.recorded`; of a run's manifest."""
    return str(facts["files"]["evidence.safetensors"]["sha256"])


def unit_rows(layers: Iterable[LayerEvidence]) -> Iterator[tuple[LayerEvidence, int]]:
    """Every (layer, unit), in the order of the neuron index and of the explanations."""
    for layer in layers:
        for unit in range(layer.units):
            yield layer, unit


@lru_cache(maxsize=2)
def _read_explanations(path: Path, changed: int, size: int) -> tuple[Explanation, ...]:  # noqa: ARG001
    """The file's explanations; read once as long as it is not `changed`, so that searches after the first are fast."""
    with path.open(encoding="utf-8") as stream:
        return tuple(_parsed(json.loads(line)) for line in stream)


def _plain(explanation: Explanation) -> dict[str, Any]:
    return {
        "layer": explanation.layer,
        "unit": explanation.unit,
        "labels": [asdict(label) for label in explanation.labels],
        **_plain_summary(explanation.summary),
        "faithfulness": _plain_test(explanation.faithfulness),
        "caption_faithfulness": _plain_test(explanation.caption_faithfulness),
        "acoustics": explanation.acoustics,
        "open_concepts": list(explanation.open_concepts),
        "polysemanticity": explanation.polysemanticity,
        "meanings": [
            {
                "labels": [asdict(label) for label in meaning.labels],
                **_plain_summary(meaning.summary),
                "clips": list(meaning.clips),
                "faithfulness": _plain_test(meaning.faithfulness),
            }
            for meaning in explanation.meanings
        ],
        "top": [asdict(shown) for shown in explanation.top],
        "low": [asdict(shown) for shown in explanation.low],
    }


def _plain_summary(summary: Summary) -> dict[str, Any]:
    return {
        "summary": summary.text,
        "summary_origin": summary.origin,
        "abstained": summary.abstained,
        "reason": summary.reason,
        **({"raw": summary.raw} if summary.raw is not None else {}),
    }


def _plain_test(test: UnitFaithfulness | None) -> dict[str, Any] | None:
    return asdict(test) if test else None


def _parsed(line: dict[str, Any]) -> Explanation:
    return Explanation(
        layer=line["layer"],
        unit=line["unit"],
        labels=_parsed_labels(line),
        summary=_parsed_summary(line),
        top=tuple(Shown(**shown) for shown in line["top"]),
        low=tuple(Shown(**shown) for shown in line["low"]),
        faithfulness=_parsed_test(line["faithfulness"]),
        acoustics=line["acoustics"],
        caption_faithfulness=_parsed_test(line.get("caption_faithfulness")),
        meanings=tuple(
            Meaning(
                _parsed_labels(meaning),
                _parsed_summary(meaning),
                tuple(meaning["clips"]),
                _parsed_test(meaning["faithfulness"]),
            )
            for meaning in line.get("meanings", ())
        ),
        polysemanticity=line.get("polysemanticity"),
        open_concepts=tuple(line.get("open_concepts", ())),
    )


def _parsed_labels(line: dict[str, Any]) -> tuple[Label, ...]:
    return tuple(Label(**label) for label in line["labels"])


def _parsed_summary(line: dict[str, Any]) -> Summary:
    return Summary(
        line["summary"], line["abstained"], line["reason"], line.get("raw"), line.get("summary_origin")
    )


def _parsed_test(test: dict[str, Any] | None) -> UnitFaithfulness | None:
    return UnitFaithfulness(**test) if test else None
