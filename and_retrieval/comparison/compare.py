"""Two runs side by side: their layers in figures, their units matched, and what of it is more than chance.

Findings are sentences made of the numbers, and only where 95 % intervals over units lie apart. The paper asks two
things of networks: whether units lean on basic acoustic qualities or on whole concepts, and whether training with
labels narrows units where self-supervised training leaves them polysemantic (arXiv 2406.16990, section 5). The second
is asked of any two runs here; how they were trained is not known to this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..embed import shared_networks
from ..errors import InputError
from ..explanation.manifest import ExplanationManifest
from ..explanation.stored import load_explained
from ..recording.recording import Recording
from .findings import Pair, contrasts, layer_pairs, leanings, movement
from .match import Matched, match_units
from .profile import LayerProfile, profile

CAVEATS = (
    "Intervals cover 95 % over units; units of one network are not independent, so the true ones are wider.",
    "Intervals of single comparisons: among many layers some lie apart by chance.",
    "Figures hold for these clips and these concepts.",
)
SAME_EARS = (
    "The embedder hears with {0}: units of {0} go with concepts more than another embedder would show."
)
NO_SAME_CLIPS = "the runs were not recorded and tested on the same clips"
LABELLING = ("score", "evidence", "k")
NO_SAME_CONCEPTS = f"the runs were explained with other concepts, {', '.join(LABELLING)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        a, b: NAME/RUN.
        target_a, target_b: What was recorded.
        layers_a, layers_b: Their layers in figures.
        pairs: Layers held against each other.
        matched: None where the clips differ.
        findings: Sentences that the numbers bear out.
        left_out: What was not compared, and why.
        caveats: What to bear in mind.
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
    """Hold two explained runs against each other.

    Args:
        a, b: Runs on indexes of the same embedder, best on the same clips and explained with the same concepts.
        seed: Of random pairs and shuffles.

    Raises:
        InputError: The embedders differ, or a run is not explained yet.
        StaleError: A run was recorded again since it was explained.
    """
    if a.index.embedder_fingerprint != b.index.embedder_fingerprint:
        raise InputError(
            f"{a.name} and {b.name} are on indexes of different embedders ({a.index.embedder_name}, "
            f"{b.index.embedder_name}), whose vectors do not compare; record both on one index"
        )
    explained = load_explained(a), load_explained(b)
    same_clips = _evidence_clips(a) == _evidence_clips(b)
    same_concepts = _labelling(explained[0].manifest) == _labelling(explained[1].manifest)
    concepts = tuple(dict.fromkeys(concept for run in explained for concept in run.manifest.concepts))
    texts = a.index.text_vectors(concepts)
    layers_a, layers_b = (profile(run, run.recording.index.vectors() @ texts.T) for run in explained)
    pairs = layer_pairs(layers_a, layers_b, same_concepts)
    matched = match_units(*explained, same_concepts, seed) if same_clips else None
    left_out = _left_out(same_clips, same_concepts, layers_a + layers_b)
    findings = (*leanings(a.name, layers_a), *(leanings(b.name, layers_b) if b.name != a.name else ()))
    if same_clips:
        names = (a.name, b.name)
        findings += (*contrasts(names, layers_a, layers_b, pairs, same_concepts), *movement(matched))
    targets = a.manifest.target, b.manifest.target
    own_ears = tuple(SAME_EARS.format(name) for name in shared_networks(a.index.embedder) if name in targets)
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
        (*own_ears, *CAVEATS),
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON-able figures, without the labels that were counted."""
    plain = asdict(comparison)
    for layer in (*plain["layers_a"], *plain["layers_b"]):
        del layer["counted"]
    return plain


def _evidence_clips(run: Recording) -> tuple[Any, ...]:
    return run.manifest.index_digest, run.manifest.index_clips, run.manifest.held_out_rows


def _labelling(made: ExplanationManifest) -> tuple[Any, ...]:
    return sorted(made.concepts), [getattr(made.labelling, name) for name in LABELLING]


def _left_out(same_clips: bool, same_concepts: bool, layers: Iterable[LayerProfile]) -> tuple[str, ...]:
    found = []
    if not same_clips:
        found.append(f"matched units and all claims about one run against the other: {NO_SAME_CLIPS}")
    if not same_concepts:
        found.append(f"claims about labels, numbers of concepts, and which units moved: {NO_SAME_CONCEPTS}")
    if any(layer.correlation is None for layer in layers):
        found.append("faithfulness of some layers: too few held-out clips or tested units")
    if any(layer.polysemanticity is None for layer in layers):
        found.append("polysemanticity of some layers: too few top clips or units")
    if any(layer.leaning is None for layer in layers):
        found.append("acoustics against concepts in some layers: too few clips or units")
    return tuple(found)
