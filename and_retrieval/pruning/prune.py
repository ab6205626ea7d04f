"""Prune: find a concept's units, mask them at several budgets, and measure what the network loses without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.named_code import check_noted
from ..choices import ABLATIONS, BUDGET, COUNT, RANDOM, SELECTORS, known_name
from ..concepts import ConceptBank, load_bank, merge_banks
from ..config import DEFAULT_ABLATION, DEFAULT_SELECTOR, DRAWS
from ..errors import InputError, StaleError, first_of
from ..explanation.space import concept_directions
from ..explanation.stored import is_explained, load_explained
from ..files import check_writable
from ..network.memory import freed_memory_kept
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..recording.target import recorded_plans
from ..store.documents import sealed
from ..targets import changed_entries, entry_hashes, is_code, load_target, weights_hash
from ..types import Floats, Skipped, Target
from ..vocabulary import plain, unknown_texts
from .ablation import constants_of
from .changes import ClipChange
from .concept_clips import (
    EFFECT_CLIPS,
    MatchedClips,
    matched_clips,
    one_batch,
    plain_output,
)
from .effect import LADDER, Choice, Effect, best_units, doubt_of, random_units, units_for
from .export import export_pruned, writable
from .matching import Vocabulary
from .measure import Measure
from .result import FILE, BudgetEffect, Pruned
from .selection import chosen_layers, layer_vectors, unit_scores, wanted_concepts
from .selectors import Wanted, find_selector

BACKGROUND = "audioset"
UNMEASURED_BUDGET = 0.06  # share of the units, used when no budget is given and no effect can be measured
SHOWN_LOST = 5  # classes
SHOWN_CONCEPTS = 8  # nearest to the pruned units


@freed_memory_kept()
def prune(
    recording: Recording,
    target: Target,
    concepts: str | Sequence[str],
    *,
    selector: str = DEFAULT_SELECTOR,
    ablate: str = DEFAULT_ABLATION,
    layers: Sequence[str] = (),
    budgets: Sequence[float] = (),
    background: ConceptBank | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    export: str | Path | None = None,
    progress: Progress = silent,
) -> Pruned:
    """Find the units of a concept, mask them, and measure the loss on held-out clips; the network is not changed.

    A held-out clip belongs to a concept if its label means the concept, or means a class of the target that the
    concept means; pruning should lower the network's confidence in that class. The rest are the held-out clips whose
    label means another class. Units are chosen on other clips, and at most 2,000 clips are measured.

    Args:
        recording: The recording to prune.
        target: The network it was recorded from, in eval mode.
        concepts: A text, or several texts to prune together: a unit's score is that of the concept it fits best.
        selector: A name of `choices.SELECTORS`; underscores in it become dashes.
        ablate: What pruned units put out, a name of `choices.ABLATIONS`: `zero`, or `mean`, their mean over the seen
            clips. Random units are treated alike.
        layers: Globs over the recorded layers; if empty, all layers except a last layer of class units.
        budgets: Numbers of units, or shares of them below 1; if empty, `effect.LADDER` is tried and its knee chosen.
        background: Concepts that compete with the wanted ones; by default `audioset` together with the bank that the
            recording was explained with, if it was.
        draws: Number of random choices of units to compare with.
        seed: Seed of these draws.
        export: A .safetensors file for the weights without the units at the knee, see `export.export_pruned`.
        progress: Called with the number of batches done and the number of all batches.

    Raises:
        InputError: No concept is given, or one is far from everything in the bank; a selector, ablation or layer is
            unknown; `draws` is below 1; a budget is not a number of units or exceeds the units there are; a layer
            cannot be masked; or the export cannot be written.
        StaleError: The target's weights are not those that were recorded.
    """
    check_writable(recording.folder.path)
    concepts = _distinct([concepts] if isinstance(concepts, str) else concepts)
    selector = known_name("selector", selector, SELECTORS)
    ablate = known_name("ablation", ablate, ABLATIONS)
    COUNT.check("draws", draws)
    for budget in budgets:
        BUDGET.check("budget", budget)
    source = _same_weights(recording, target)
    if export is not None:
        writable(export, source)  # fail before the long work
    names = chosen_layers(recording, len(target.class_names or ()) or None, layers)
    sizes = {layer.name: layer.units for layer in recording.manifest.layers if layer.name in names}
    search = _Search.of(recording, target, concepts, background or _background(recording))
    counts = _counts(budgets, sum(sizes.values()), measured=search.clips.unmeasured is None)
    rng = np.random.default_rng(seed)
    chosen = search.choices(selector, sizes, counts, rng)
    plans = recorded_plans(recording.manifest.layers, target, names)
    constants = constants_of(ablate, recording, target, plans)
    measure = Measure(recording, target, plans, constants, search.clips, progress)
    place, tried = 0, tuple(BudgetEffect.of(choice, sizes) for choice in chosen)
    changed: tuple[ClipChange, ...] = ()
    if search.clips.unmeasured is None:
        controls = [[random_units(choice, sizes, rng) for _ in range(draws)] for choice in chosen]
        known = search.choices("oracle", sizes, counts, rng) if search.has_oracle() else []
        place = measure.knee(chosen)
        tried, changed = measure.effects(tried, chosen, controls, known, place)
    result = search.result(concepts, selector, ablate, sizes, tried, place, source, measure.skipped)
    result = replace(result, changed=changed)
    if search.clips.unmeasured is None and (doubt := doubt_of(plain_output(recording, target))):
        result = replace(result, notes=(doubt,))
    if export is not None:
        batch = one_batch(recording, target)
        card = _card(result, recording)
        export_pruned(target, source, result.best.chosen, plans, batch, export, card, constants)
        result = replace(result, export=str(Path(export).expanduser()))
    document = sealed({**result.plain(), "recorded": recording.identity})
    recording.folder.write_text(FILE.format(result.slug), document)
    return result


def _counts(budgets: Sequence[float], total: int, measured: bool) -> list[int]:
    """Numbers of units to try, ascending: the budgets; without budgets `LADDER`, or one number if unmeasured."""
    wanted = budgets or (LADDER if measured else (UNMEASURED_BUDGET,))
    return sorted({units_for(budget, total) for budget in wanted})


@dataclass(frozen=True)
class _Search:
    """The concepts, matched to a recording's clips and scored against its units."""

    recording: Recording
    bank: ConceptBank
    clips: MatchedClips
    wanted: Wanted
    vectors: Mapping[str, Floats]

    @classmethod
    def of(cls, recording: Recording, target: Target, concepts: Sequence[str], bank: ConceptBank) -> _Search:
        """Match the concepts; raises InputError for a concept far from everything known."""
        index = recording.index
        labels = [label for clip in index.clips for label in clip.labels]
        names = [*bank.concepts, *labels, *(target.class_names or ())]
        vocabulary = Vocabulary.of(names, partial(concept_directions, index))
        for concept in concepts:
            vocabulary.check(concept, partial(unknown_texts, index))
        clips = matched_clips(recording, target, concepts, vocabulary)
        wanted = wanted_concepts(recording, concepts, bank, clips.labelled)
        return cls(recording, bank, clips, wanted, layer_vectors(recording))

    def choices(
        self, selector: str, sizes: Mapping[str, int], counts: Sequence[int], rng: np.random.Generator
    ) -> list[Choice]:
        """The units that a selector takes for every budget."""
        if selector == RANDOM:
            like = self.choices(DEFAULT_SELECTOR, sizes, counts, rng)
            return [random_units(choice, sizes, rng) for choice in like]
        scores = unit_scores(self.recording, self.vectors, self.wanted, find_selector(selector), list(sizes))
        if not any(np.isfinite(values).any() for values in scores.values()):
            raise InputError(
                f"selector {selector!r} cannot score any unit of {', '.join(sizes)}; choose another selector"
            )
        return [best_units(scores, count) for count in counts]

    def has_oracle(self) -> bool:
        """Whether the labels of the seen clips put some clips into and some outside every concept."""
        if self.wanted.labelled is None:
            return False
        labelled = self.wanted.labelled[self.recording.seen_rows]
        return bool(labelled.any(axis=0).all()) and not bool(labelled.all(axis=0).any())

    def result(
        self,
        concepts: tuple[str, ...],
        selector: str,
        ablate: str,
        sizes: Mapping[str, int],
        tried: tuple[BudgetEffect, ...],
        place: int,
        source: str,
        skipped: Mapping[int, Skipped],
    ) -> Pruned:
        """The result of pruning, before anything is exported."""
        best = tried[place]
        return Pruned(
            run=self.recording.name,
            concepts=concepts,
            selector=selector,
            ablate=ablate,
            layers=sizes,
            classes=tuple(match.name if match else None for match in self.clips.classes),
            labels=self.clips.labels,
            clips=_counted(self.recording, self.clips, skipped),
            budgets=tried,
            chosen=place,
            unmeasured=self.clips.unmeasured,
            lost=_lost(best.effect),
            removed=self.nearest_concepts(best.chosen),
            export=None,
            source=source,
            skipped=tuple(dict.fromkeys(skipped.values())),
        )

    def nearest_concepts(self, chosen: Mapping[str, Sequence[int]]) -> tuple[tuple[str, int], ...]:
        """Concepts of the bank nearest to the units' neuron vectors: (concept, number of units), most units first."""
        texts = concept_directions(self.recording.index, self.bank.concepts)
        vectors = np.concatenate([self.vectors[layer][list(units)] for layer, units in chosen.items()])
        responded = vectors[np.abs(vectors).sum(axis=1) > 0]
        nearest = Counter(self.bank.concepts[place] for place in (responded @ texts.T).argmax(axis=1))
        return tuple(nearest.most_common(SHOWN_CONCEPTS))


def _same_weights(recording: Recording, target: Target) -> str:
    """Hash of the target's weights, which must be those that were recorded."""
    known = recording.manifest
    loaded: str = weights_hash(target.module, known.changing)
    if loaded != known.weights:
        drawn = _drawn_at_load(recording, target)
        remedy = (
            f"{first_of(drawn, 3)} differ each time the target is loaded; load them from a file, or set "
            f"torch.manual_seed in its function, then {recording.remedy}"
            if drawn
            else recording.remedy
        )
        raise StaleError(
            f"{recording.name} was recorded from weights {known.weights}, target {target.name!r} has {loaded}; {remedy}"
        )
    return loaded


def _drawn_at_load(recording: Recording, target: Target) -> tuple[str, ...]:
    """Entries of the state dict that differ when the target is loaded once more; none where it cannot be."""
    try:
        if is_code(target.name):
            check_noted(target.name, recording.name, "name it again")
        again = load_target(target.name)
    except Exception:
        return ()
    entries = [
        {name: digest for name, digest in entry_hashes(module).items() if ".dictionary." not in f".{name}"}
        for module in (target.module, again.module)
    ]
    return tuple(name for name in changed_entries(*entries) if name not in recording.manifest.changing)


def _distinct(concepts: Sequence[str]) -> tuple[str, ...]:
    distinct = tuple({plain(concept): concept.strip() for concept in concepts}.values())
    if not distinct or not all(distinct):
        raise InputError("name the concept to prune in a few words")
    return distinct


def _background(recording: Recording) -> ConceptBank:
    """The default bank, merged with the bank that the recording was explained with, if it was."""
    default = load_bank(BACKGROUND)
    if not is_explained(recording):
        return default
    explanation = load_explained(recording).manifest
    return merge_banks([default, ConceptBank(explanation.bank, explanation.concepts)])


def _counted(recording: Recording, clips: MatchedClips, skipped: Mapping[int, Skipped]) -> tuple[int, int]:
    rows = [row for row in clips.sample(recording.held_out_rows, EFFECT_CLIPS) if row not in skipped]
    is_target = clips.is_target[rows]
    return int(is_target.sum()), int((~is_target).sum())


def _lost(measured: Effect | None) -> tuple[tuple[str, float], ...]:
    rest = sorted((c for c in measured.classes if not c.target), key=lambda c: c.delta) if measured else []
    return tuple((c.name, round(c.delta, 6)) for c in rest[:SHOWN_LOST] if c.delta < 0)


def _card(result: Pruned, recording: Recording) -> dict[str, Any]:
    return {
        "concepts": list(result.concepts),
        "selector": result.selector,
        "ablate": result.ablate,
        "target": recording.manifest.target,
        "run": recording.name,
        "not_hashed": list(recording.manifest.changing),
        "layers": result.layers,
        "effect": result.best.plain() if result.best.effect else None,
        "unmeasured": result.unmeasured,
        "lost": result.lost,
        "removed": result.removed,
        "versions": {name: version(name) for name in ("and-retrieval", "torch", "numpy")},
    }
