"""Which local model says more truly what a unit stands for: both on the class units of a trained network.

The units are those of the last layer of the small CNN of `bench.small_cnn`, so unit i stands for class i. Their
sentences are written as `and-retrieval explain` writes them, for every unit, whether its label holds or not, from
two kinds of descriptions of the clips: their own captions, or, as where clips carry none, the concepts of AudioSet
nearest to their sound. `bench summaries` has made-up units beside these, on which the prompts were tuned.

Per writer, shares of all units: `written` (usable at the first try, every content word from the evidence),
`repaired` (when asked again), `composed` (of the evidence's words, by rule), `abstained`; `names_class`, the
sentence has a word of the class name; `nearest`, it is nearest to its own class among all. `cosine_own` is the mean
cosine in MiniLM's space between a sentence and "Responds to the sound of CLASS.", `cosine_other` that with the other
classes. Beside the models stand `composed by rule`; `strongest caption`, `best label` and `another class`, which are
"Responds to the sound of" the strongest clip's description, of the unit's first label and of a class drawn at
random: what a sentence scores that names a wrong class.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from and_retrieval.checkpoints.bundled import locate
from and_retrieval.concepts import load_bank
from and_retrieval.config import LabelConfig, SummaryConfig
from and_retrieval.embed.minilm import sentence_vectors
from and_retrieval.explanation.acoustics import in_words
from and_retrieval.explanation.label_tests import sound_tests
from and_retrieval.explanation.labels import describe_clips, layer_labels
from and_retrieval.explanation.strongest_clips import measured_acoustics
from and_retrieval.explanation.summaries import with_summaries
from and_retrieval.language.brief import UnitBrief, contrast
from and_retrieval.language.compose import compose
from and_retrieval.language.llm import load_llm
from and_retrieval.language.prompt import OPENING
from and_retrieval.language.words import FUNCTION_WORDS, GENERIC_WORDS, stem
from and_retrieval.progress import silent
from and_retrieval.types import Explanation, Floats, Kept, Label, Shown, Summary
from bench import Announce, Figures, markdown
from bench.class_units import ClassUnits, add_home_arguments, class_units, network_sentence, settings
from bench.ranking import descriptions
from bench.source import add_clip_arguments
from bench.summaries import ORIGINS, origins

MODELS = ("gemma3", "smollm2")
BANK = "audioset"
RANDOM = "another class"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, where the network and the index are kept."""
    add_clip_arguments(parser)
    parser.add_argument("--k", type=int, help="top clips (default: as many as the unit mainly responds to)")
    add_home_arguments(parser)


def run(
    source: str, embedder: str, k: int | None, home: str | None, seed: int, announce: Announce
) -> Figures:
    """Figures of every writer for both kinds of descriptions, and seconds of processor time per unit.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    units = class_units(source, embedder, home, seed, announce)
    bank = load_bank(BANK)
    clips = describe_clips(units.index, bank)
    labels = layer_labels(units.run, units.last, clips, bank, LabelConfig(k=k))
    tested = sound_tests(units.run, units.last.name, clips.audio, bank.concepts, labels)
    labelled = labelled_units(units, labels)
    figures: Figures = {}
    for described, phrases in descriptions(units.index).items():
        texts: dict[str, list[str | None]] = baselines(labelled, phrases)
        made, seconds = {}, {}
        for model in MODELS:
            begin = time.process_time()
            made[model] = written(units, labelled, phrases, model)
            seconds[model] = round((time.process_time() - begin) / len(labels), 3)
            texts[model] = [summary.text for summary in made[model]]
        figures[described] = {
            writer: (origins(made[writer]) if writer in made else {}) | judge(sentences, units.names)
            for writer, sentences in texts.items()
        }
        figures[described][RANDOM] = at_random(units.names)
        for model in MODELS:
            figures[described][model]["seconds_per_unit"] = seconds[model]
    return {
        "settings": {**settings(units), "concepts": bank.name, "k": k, "models": MODELS},
        "data": units.data,
        "network": units.network(),
        "units": len(labels),
        "reliable": float(np.mean([test is not None and test.reliable for test in tested])),
        "described": figures,
    }


def labelled_units(units: ClassUnits, labels: Sequence[tuple[Label, ...]]) -> list[Explanation]:
    """The class units with their clips, labels and acoustics, and no test that would keep them from a sentence."""
    preferences, _ = measured_acoustics(units.run, units.last.name)

    def shown(kept: Kept, unit: int) -> tuple[Shown, ...]:
        clips = zip(kept.rows[unit].tolist(), kept.values[unit].tolist(), strict=True)
        return tuple(Shown(row, 0.0, value) for row, value in clips if row >= 0)

    return [
        Explanation(
            units.last.name,
            unit,
            shown(units.last.top, unit),
            shown(units.last.low, unit),
            labels[unit],
            acoustics=in_words(preferences[unit]),
        )
        for unit in range(len(labels))
    ]


def written(
    units: ClassUnits, labelled: Sequence[Explanation], phrases: Sequence[str], model: str
) -> list[Summary]:
    """The sentences that a model writes about all units, as `explain` lets it."""
    llm = load_llm(locate(model), model)
    summarized = with_summaries(
        labelled, phrases, llm, SummaryConfig(llm=model), units.embedder.embed_text, silent
    )
    return [unit.summary for unit in summarized]


def baselines(labelled: Sequence[Explanation], phrases: Sequence[str]) -> dict[str, list[str | None]]:
    """Sentences that no model writes."""
    most = SummaryConfig().clips
    briefs = [
        UnitBrief(
            tuple(label.concept for label in unit.labels),
            tuple(phrases[clip.row] for clip in unit.top[:most]),
            tuple(phrases[clip.row] for clip in unit.low[:most]),
        )
        for unit in labelled
    ]
    return {
        "best label": [f"{OPENING} the sound of {brief.labels[0].lower()}." for brief in briefs],
        "strongest caption": [f"{OPENING} the sound of {brief.top[0]}." for brief in briefs],
        "composed by rule": [compose(contrast(brief)) for brief in briefs],
    }


def judge(texts: Sequence[str | None], names: Sequence[str]) -> dict[str, float]:
    """The figures of the module's docstring for one sentence per class."""
    cosines = _cosines([text or "" for text in texts], names)
    usable = np.array([text is not None for text in texts])
    own_cosine = cosines.diagonal()
    other_cosine = (cosines.sum(axis=1) - own_cosine) / max(len(names) - 1, 1)
    named = [_named(text or "", name) for text, name in zip(texts, names, strict=True)]
    return {
        "names_class": float(np.mean(named)),
        "nearest": float((usable & (cosines.argmax(axis=1) == np.arange(len(names)))).mean()),
        "cosine_own": float(own_cosine[usable].mean()) if usable.any() else 0.0,
        "cosine_other": float(other_cosine[usable].mean()) if usable.any() else 0.0,
    }


def at_random(names: Sequence[str]) -> dict[str, float]:
    """What the name of another class scores, on average over all others."""
    cosines = _cosines([f"{OPENING} the sound of {name}." for name in names], names)
    elsewhere = ~np.eye(len(names), dtype=bool)
    named = [[_named(one, name) for one in names] for name in names]
    return {
        "names_class": float(np.array(named)[elsewhere].mean()),
        "nearest": 1 / len(names),
        "cosine_own": float(cosines[elsewhere].mean()),
        "cosine_other": float(cosines[elsewhere].mean()),
    }


def _cosines(texts: Sequence[str], names: Sequence[str]) -> Floats:
    anchors = sentence_vectors([f"{OPENING} the sound of {name}." for name in names])
    return np.asarray(sentence_vectors(list(texts)) @ anchors.T, np.float32)


def _named(text: str, name: str) -> bool:
    """Whether a text has a telling word of a name, by its stem."""
    stems = {stem(word.strip(".,")) for word in text.split()}
    return any(stem(word) in stems for word in name.split() if word not in (*FUNCTION_WORDS, *GENERIC_WORDS))


def table(figures: Figures) -> str:
    """One row per kind of descriptions and writer."""
    told_of = (
        f"{figures['units']} units; the label of {figures['reliable']:.3f} of them holds on held-out clips, "
        "the others would abstain."
    )
    writers = ("best label", "strongest caption", "composed by rule", *MODELS)
    rows = [
        {"descriptions": described, "written by": writer}
        | {key: part[writer].get(key) for key in (*ORIGINS, *part[writer], "seconds_per_unit")}
        for described, part in figures["described"].items()
        for writer in (RANDOM, *writers)
    ]
    return f"{network_sentence(figures['network'])} {told_of}\n\n{markdown(rows)}"
