"""Prune: find a concept's units, mask them at several budgets, and measure what the network loses with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..concepts import ConceptBank, load_bank, merge_banks
from ..errors import InputError, StaleError
from ..explanation.stored import is_explained, load_explained
from ..network.plan import LayerPlan
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..recording.target import recorded_plans
from ..targets import changed_entries, entry_hashes, load_target, weights_hash
from ..types import Floats, Target
from .concept_clips import (
    EFFECT_CLIPS,
    KNEE_CLIPS,
    MatchedClips,
    matched_clips,
    one_batch,
    plain_output,
    run_logits,
)
from .effect import LADDER, Choice, Effect, best_units, doubt_of, effect, knee, random_units, units_for
from .export import export_pruned, writable
from .matching import Vocabulary, plain
from .result import FILE, BudgetEffect, Pruned
from .selection import chosen_layers, layer_vectors, unit_scores, wanted_concepts
from .selectors import RANDOM, Wanted, find_selector

BACKGROUND = "audioset"
DEFAULT_SELECTOR = "selective"
UNMEASURED_BUDGET = 0.06  # of the units, where no budget is given and no effect can be measured
SHOWN_LOST = 5  # classes
SHOWN_CONCEPTS = 8  # of the units removed


def prune(
    run: Recording,
    target: Target,
    concepts: str | Sequence[str],
    *,
    selector: str = DEFAULT_SELECTOR,
    layers: Sequence[str] = (),
    budgets: Sequence[float] = (),
    background: ConceptBank | None = None,
    draws: int = 5,
    seed: int = 0,
    device: str = "cpu",
    export: str | Path | None = None,
    progress: Progress = silent,
) -> Pruned:
    """Find the units of a concept, mask them, measure on held-out clips what is lost; the network stays as it is.

    A concept's clips are the held-out ones whose label means it or a class of the target that it means; their
    confidence in that class is to fall. The rest are held-out clips whose label means another class. Clips are never
    the ones the units were chosen with, and 2,000 at most.

    Args:
        run: What was recorded.
        target: The network it was recorded from, in eval mode on `device`.
        concepts: A text, or several that are to go together: a unit counts with the one it answers to most.
        selector: A name of `selectors.SELECTORS`, or `random`.
        layers: Globs over the recorded layers; empty takes all but a last layer of class units.
        budgets: Numbers of units, or shares of them below 1; empty tries `prune.LADDER` and chooses by its knee.
        background: Concepts that are held against the wanted ones; by default the bank of the run's explanations,
            else `audioset`.
        draws: Of random units, to compare with.
        seed: Of the draws.
        device: Where the network is.
        export: A .safetensors file for the weights without the units at the knee, see `export.export_pruned`.
        progress: Called with batches of clips done and in all.

    Raises:
        InputError: No concept, one far from everything in the bank, an unknown selector or layer, a budget over the
            number of units, a layer that cannot be masked, or an export that cannot be written.
        StaleError: The target's weights are not those that were recorded.
    """
    concepts = _distinct([concepts] if isinstance(concepts, str) else concepts)
    source = _same_weights(run, target)
    if export is not None:
        writable(export, source)  # before the work
    names = chosen_layers(run, len(target.class_names or ()) or None, layers)
    sizes = {layer.name: layer.units for layer in run.manifest.layers if layer.name in names}
    search = _Search.of(run, target, concepts, background or _background(run))
    counts = _counts(budgets, sum(sizes.values()), measured=search.clips.unmeasured is None)
    rng = np.random.default_rng(seed)
    chosen = search.choices(selector, sizes, counts, rng)
    plans = recorded_plans(run.manifest.layers, target, names)
    place, tried = 0, tuple(BudgetEffect.of(choice, sizes) for choice in chosen)
    if search.clips.unmeasured is None:
        controls = [[random_units(choice, sizes, rng) for _ in range(draws)] for choice in chosen]
        known = search.choices("oracle", sizes, counts, rng) if search.has_oracle() else []
        measure = _Measure(run, target, plans, search.clips, device, progress)
        place = measure.knee(chosen)
        tried = tuple(measure.effects(tried, chosen, controls, known))
    result = search.result(concepts, selector, sizes, tried, place, source)
    if search.clips.unmeasured is None and (doubt := doubt_of(plain_output(run, target, device))):
        result = replace(result, notes=(doubt,))
    if export is not None:
        batch = one_batch(run, target)
        card = _card(result, run)
        export_pruned(target, source, result.best.chosen, plans, batch, export, card, device)
        result = replace(result, export=str(Path(export).expanduser()))
    text = json.dumps({**result.plain(), "recorded": run.identity}, indent=2, ensure_ascii=False)
    run.folder.write_text(FILE.format(result.slug), text + "\n")
    return result


def _counts(budgets: Sequence[float], total: int, measured: bool) -> list[int]:
    """Numbers of units to try, ascending: the budgets, else a ladder, else one where no effect can be measured."""
    wanted = budgets or (LADDER if measured else (UNMEASURED_BUDGET,))
    return sorted({units_for(budget, total) for budget in wanted})


@dataclass(frozen=True)
class _Search:
    """The concepts, held against a run: its clips, its units."""

    run: Recording
    bank: ConceptBank
    clips: MatchedClips
    wanted: Wanted
    vectors: Mapping[str, Floats]

    @classmethod
    def of(cls, run: Recording, target: Target, concepts: Sequence[str], bank: ConceptBank) -> _Search:
        """Raises InputError for a concept far from everything known."""
        labels = [clip.label for clip in run.index.clips if clip.label]
        vocabulary = Vocabulary.of(
            [*bank.concepts, *labels, *(target.class_names or ())], run.index.text_vectors
        )
        for concept in concepts:
            vocabulary.check(concept)
        clips = matched_clips(run, target, concepts, vocabulary)
        wanted = wanted_concepts(run, concepts, bank, clips.labelled)
        return cls(run, bank, clips, wanted, layer_vectors(run))

    def choices(
        self, selector: str, sizes: Mapping[str, int], counts: Sequence[int], rng: np.random.Generator
    ) -> list[Choice]:
        """The units that a selector takes for every budget."""
        if selector == RANDOM:
            like = self.choices(DEFAULT_SELECTOR, sizes, counts, rng)
            return [random_units(choice, sizes, rng) for choice in like]
        scores = unit_scores(self.run, self.vectors, self.wanted, find_selector(selector), list(sizes))
        if not any(np.isfinite(values).any() for values in scores.values()):
            raise InputError(
                f"selector {selector!r} knows nothing of any unit of {', '.join(sizes)}; choose another"
            )
        return [best_units(scores, count) for count in counts]

    def has_oracle(self) -> bool:
        """Whether seen clips of every concept, and of others, carry labels."""
        own = None if self.wanted.labelled is None else self.wanted.labelled[self.run.seen_rows]
        return own is not None and bool(own.any(axis=0).all()) and not bool(own.all(axis=0).any())

    def result(
        self,
        concepts: tuple[str, ...],
        selector: str,
        sizes: Mapping[str, int],
        tried: tuple[BudgetEffect, ...],
        place: int,
        source: str,
    ) -> Pruned:
        """What was found, before anything is exported."""
        best = tried[place]
        return Pruned(
            run=self.run.name,
            concepts=concepts,
            selector=selector.replace("-", "_"),
            layers=sizes,
            classes=tuple(match.name if match else None for match in self.clips.classes),
            labels=self.clips.labels,
            clips=_counted(self.run, self.clips),
            budgets=tried,
            chosen=place,
            unmeasured=self.clips.unmeasured,
            lost=_lost(best.effect),
            removed=self.nearest_concepts(best.chosen),
            export=None,
            source=source,
        )

    def nearest_concepts(self, chosen: Mapping[str, Sequence[int]]) -> tuple[tuple[str, int], ...]:
        """The concepts of the bank nearest to the units' neuron vectors, with the number of units, most first."""
        texts = self.run.index.text_vectors(self.bank.concepts)
        taken = np.concatenate([self.vectors[layer][list(units)] for layer, units in chosen.items()])
        responded = taken[np.abs(taken).sum(axis=1) > 0]
        nearest = Counter(self.bank.concepts[place] for place in (responded @ texts.T).argmax(axis=1))
        return tuple(nearest.most_common(SHOWN_CONCEPTS))


@dataclass(frozen=True)
class _Measure:
    """The network's answers to the run's clips under masks, as effects on the concept's clips and the rest."""

    run: Recording
    target: Target
    plans: Sequence[LayerPlan]
    clips: MatchedClips
    device: str
    progress: Progress

    def effects(
        self,
        tried: Sequence[BudgetEffect],
        chosen: Sequence[Choice],
        controls: Sequence[Sequence[Choice]],
        known: Sequence[Choice],
    ) -> list[BudgetEffect]:
        """Every budget's effect on the held-out clips, beside the controls' and the oracle's."""
        masks = [*chosen, *(draw for draws in controls for draw in draws), *known]
        found = iter(self._effects(self.clips.sample(self.run.held_out_rows, EFFECT_CLIPS), masks))
        own = [next(found) for _ in chosen]
        at_random = [[next(found) for _ in draws] for draws in controls]
        by_oracle: list[Effect | None] = [*found] or [None] * len(chosen)
        return [
            one.measured(*figures)
            for one, figures in zip(tried, zip(own, at_random, by_oracle, strict=True), strict=True)
        ]

    def knee(self, chosen: Sequence[Choice]) -> int:
        """Place of the budget at the knee, on clips that were seen; on held-out ones where no seen clip will do."""
        if len(chosen) == 1:
            return 0
        rows = self.clips.sample(self.run.seen_rows, KNEE_CLIPS)
        own = self.clips.is_target[rows]
        if not own.any() or own.all():
            rows = self.clips.sample(self.run.held_out_rows, EFFECT_CLIPS)
        return knee([found.gap for found in self._effects(rows, chosen)])

    def _effects(self, rows: Sequence[int], masks: Sequence[Choice]) -> list[Effect]:
        units = [{layer: numbers.tolist() for layer, numbers in mask.items()} for mask in masks]
        logits, order = run_logits(self.run, self.target, self.plans, rows, units, self.device, self.progress)
        truth, own = self.clips.truth[order], self.clips.is_target[order]
        return [effect(logits[0], after, truth, own, self.clips.known) for after in logits[1:]]


def _same_weights(run: Recording, target: Target) -> str:
    """Hash of the target's weights, which must be those that were recorded."""
    known = run.manifest
    loaded: str = weights_hash(target.module, known.changing)
    if loaded != known.weights:
        drawn = _drawn_at_load(run, target)
        remedy = (
            f"{_listed(drawn)} differ each time the target is loaded; load them from a file, or set torch.manual_seed "
            f"in its function, then {run.remedy}"
            if drawn
            else run.remedy
        )
        raise StaleError(
            f"{run.name} was recorded from weights {known.weights}, target {target.name!r} has {loaded}; {remedy}"
        )
    return loaded


def _drawn_at_load(run: Recording, target: Target) -> tuple[str, ...]:
    """Entries of the state dict that differ when the target is loaded once more; none where it cannot be."""
    try:
        again = load_target(run.manifest.target)
    except Exception:
        return ()
    entries = [
        {name: digest for name, digest in entry_hashes(module).items() if ".dictionary." not in f".{name}"}
        for module in (target.module, again.module)
    ]
    return tuple(name for name in changed_entries(*entries) if name not in run.manifest.changing)


def _listed(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _distinct(concepts: Sequence[str]) -> tuple[str, ...]:
    distinct = tuple({plain(concept): concept.strip() for concept in concepts}.values())
    if not distinct or not all(distinct):
        raise InputError("name the concept to remove in a few words")
    return distinct


def _background(run: Recording) -> ConceptBank:
    """The bank of the run's explanations, and the default one."""
    default = load_bank(BACKGROUND)
    if not is_explained(run):
        return default
    made = load_explained(run).manifest
    return merge_banks([default, ConceptBank(made.bank, made.concepts)])


def _counted(run: Recording, clips: MatchedClips) -> tuple[int, int]:
    own = clips.is_target[clips.sample(run.held_out_rows, EFFECT_CLIPS)]
    return int(own.sum()), int((~own).sum())


def _lost(found: Effect | None) -> tuple[tuple[str, float], ...]:
    rest = sorted((c for c in found.classes if not c.target), key=lambda c: c.delta) if found else []
    return tuple((c.name, round(c.delta, 6)) for c in rest[:SHOWN_LOST] if c.delta < 0)


def _card(result: Pruned, run: Recording) -> dict[str, Any]:
    one = result.best
    return {
        "concepts": list(result.concepts),
        "selector": result.selector,
        "target": run.manifest.target,
        "run": run.name,
        "not_hashed": list(run.manifest.changing),
        "layers": result.layers,
        "effect": one.plain() if one.effect else None,
        "unmeasured": result.unmeasured,
        "lost": result.lost,
        "removed": result.removed,
        "versions": {name: version(name) for name in ("and-retrieval", "torch", "numpy")},
    }
