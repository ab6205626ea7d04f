"""Compares two runs: puts their layers in figures, matches their units, and says which differences exceed chance.

Findings are sentences built from the figures. A difference is a finding only if the 95 % intervals over units do not
overlap. The paper asks two questions about networks: whether units respond to basic acoustic qualities or to whole
concepts, and whether training with labels narrows units while self-supervised training leaves them polysemantic
(arXiv 2406.16990, section 5). This module asks the second question of any two runs; it does not know how the networks
were trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..embed import shared_networks
from ..errors import InputError
from ..explanation.manifest import ExplanationManifest
from ..explanation.space import clip_directions, concept_directions
from ..explanation.stored import load_explained
from ..recording.recording import Recording
from .findings import Pair, contrasts, layer_pairs, leanings, movement
from .match import Matched, match_units
from .profile import LayerProfile, profile

CAVEATS = (
    "Intervals cover 95 % over units; units of one network are not independent, so the true intervals are wider.",
    "Each interval is for a single comparison: among many layers, some differ by chance.",
    "Figures hold for these clips and these concepts only.",
)
SAME_EARS = (
    "The embedder is built on {0}: it ties units of {0} to concepts more closely than another embedder would."
)
NO_SAME_CLIPS = "the runs were not recorded and tested on the same clips"
LABELLING = ("score", "evidence", "k")
NO_SAME_CONCEPTS = f"the runs were explained with other concepts, {', '.join(LABELLING)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two runs.

    Attributes:
        a, b: NAME/RUN.
        target_a, target_b: Names of the recorded networks.
        layers_a, layers_b: Figures of their layers.
        pairs: Layers compared with each other.
        matched: Units of the runs matched to each other; None if the clips differ.
        findings: Sentences that the figures support.
        left_out: What was not compared, and why.
        caveats: What limits the findings.
    """

    a: str
    b: str
    target_a: str
    target_b: str
    layers_a: tuple[LayerProfile, ...]
    layers_b: tuple[LayerProfile, ...]
    pairs: tuple[Pair, ...]
    matched: Matched | None
    findings: tuple[str, ...]
    left_out: tuple[str, ...]
    caveats: tuple[str, ...]


def compare(a: Recording, b: Recording, seed: int = 0) -> Comparison:
    """Compare two explained runs.

    Args:
        a: A run.
        b: A run on an index of the same embedder; most is compared if clips and concepts are the same, too.
        seed: Seed of random pairs and shuffles.

    Raises:
        InputError: The embedders differ, or a run is not explained yet.
        StaleError: A run was recorded again since it was explained.
    """
    if a.index.embedder_fingerprint != b.index.embedder_fingerprint:
        raise InputError(
            f"{a.name} and {b.name} are on indexes of different embedders ({a.index.embedder_name}, "
            f"{b.index.embedder_name}), so their vectors cannot be compared; record both on one index"
        )
    explained = load_explained(a), load_explained(b)
    same_clips = _recorded_clips(a) == _recorded_clips(b)
    same_concepts = _labelling(explained[0].manifest) == _labelling(explained[1].manifest)
    concepts = tuple(
        dict.fromkeys(concept for explained_run in explained for concept in explained_run.manifest.concepts)
    )
    texts = concept_directions(a.index, concepts)
    layers_a, layers_b = (
        profile(explained_run, clip_directions(explained_run.recording.index) @ texts.T)
        for explained_run in explained
    )
    pairs = layer_pairs(layers_a, layers_b, same_concepts)
    matched = match_units(*explained, same_concepts, seed) if same_clips else None
    left_out = _left_out(same_clips, same_concepts, layers_a + layers_b)
    findings = (*leanings(a.name, layers_a), *(leanings(b.name, layers_b) if b.name != a.name else ()))
    if same_clips:
        names = (a.name, b.name)
        findings += (*contrasts(names, layers_a, layers_b, pairs, same_concepts), *movement(matched))
    targets = a.manifest.target, b.manifest.target
    same_ears = tuple(SAME_EARS.format(name) for name in shared_networks(a.index.embedder) if name in targets)
    return Comparison(
        a.name,
        b.name,
        *targets,
        layers_a,
        layers_b,
        pairs,
        matched,
        findings,
        left_out,
        (*same_ears, *CAVEATS),
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON-able figures, without the counted labels."""
    plain = asdict(comparison)
    for layer in (*plain["layers_a"], *plain["layers_b"]):
        del layer["counted"]
    return plain


def _recorded_clips(recording: Recording) -> tuple[Any, ...]:
    return recording.manifest.index_digest, recording.manifest.index_clips, recording.manifest.held_out_rows


def _labelling(manifest: ExplanationManifest) -> tuple[Any, ...]:
    return sorted(manifest.concepts), [getattr(manifest.labelling, name) for name in LABELLING]


def _left_out(same_clips: bool, same_concepts: bool, layers: Iterable[LayerProfile]) -> tuple[str, ...]:
    left_out = []
    if not same_clips:
        left_out.append(f"matched units and all claims about one run against the other: {NO_SAME_CLIPS}")
    if not same_concepts:
        left_out.append(
            f"claims about labels, numbers of concepts, and which units moved: {NO_SAME_CONCEPTS}"
        )
    if any(layer.correlation is None for layer in layers):
        left_out.append("faithfulness of some layers: too few held-out clips or tested units")
    if any(layer.polysemanticity is None for layer in layers):
        left_out.append("polysemanticity of some layers: too few top clips or units")
    if any(layer.leaning is None for layer in layers):
        left_out.append("acoustics against concepts in some layers: too few clips or units")
    return tuple(left_out)
