"""Which local model writes the better sentences: both on the same made-up units, judged by MiniLM.

Twenty classes of sound (the ten of ESC-10 and ten others, none of them in the prompt's worked examples),
four units each: `clean` (five times the class's caption), `noisy` (four captions of the class and one of
another), `hard` (three and two; the best label and the strongest clip are of other classes) and `mixed`
(two classes by turns; naming either is right). Labels are AudioSet's, weak clips are those of other
classes. A fifth is counted apart: `names` has no captions but what stands for them where clips have none,
lists of labels, four of the class and one of another, and every clip, weak or strong, also has the label
"Echo". The prompts were tuned on the first ten classes; the figures of the other ten are what counts.

Per model: `usable`, the share not abstained; that is `written` (usable at the first try, every content word
from the evidence), `repaired` (at the second) and `composed` (of the evidence's words, without the model)
together; `abstained`, the rest;
`names_class`, the share of all units whose sentence names the class by a whole word's stem, `names_all` both
classes of mixed ones too; `names_background`, the share that says "echo"; `cosine_own` and `cosine_other`,
the mean cosine in MiniLM's space between sentence and own caption, and that of a random other class, over
usable sentences; `nearest`, the share of all units whose sentence is nearest to its own class's caption
among the twenty. Three that are no models: `first_label` is "Responds to the sound of" the best label,
`first_caption` the same with the strongest clip's caption, `composed` what stands in for a model's sentence
that cannot be used.
`python -m bench.summaries` prints the result as JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.checkpoints.bundled import locate
from and_retrieval.config import SummaryConfig, fingerprint
from and_retrieval.embed.minilm import sentence_vectors
from and_retrieval.language.brief import UnitBrief, contrast
from and_retrieval.language.compose import compose
from and_retrieval.language.llm import load_llm
from and_retrieval.language.prompt import OPENING, build_prompt, build_repair_prompt
from and_retrieval.language.summarize import summarize
from and_retrieval.language.words import stem
from and_retrieval.types import Summary

from . import markdown

MODELS = ("gemma3", "smollm2")
ESC10 = Path(__file__).resolve().parents[2] / "shared" / "esc10" / "clips.csv"

# name: (captions, the usual one first), AudioSet labels, words that name the class
SOUNDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "baby_cry": (
        ("a baby crying", "an infant wailing in a crib", "a newborn sobbing"),
        ("Baby cry, infant cry", "Crying, sobbing", "Whimper"),
        "baby infant newborn cry",
    ),
    "violin": (
        ("a violin playing", "a fiddle tune", "a slow violin melody"),
        ("Violin, fiddle", "Bowed string instrument", "Music"),
        "violin fiddle",
    ),
    "chainsaw": (
        ("a chainsaw running", "a chainsaw cutting a tree", "someone sawing wood with a motor saw"),
        ("Chainsaw", "Lawn mower", "Power tool"),
        "chainsaw saw",
    ),
    "cat": (
        ("a cat meowing", "a kitten crying for food", "a cat purring"),
        ("Cat", "Meow", "Purr"),
        "cat kitten meow",
    ),
    "clock_tick": (
        ("a clock ticking", "a wall clock in a quiet room", "a steady tick"),
        ("Tick-tock", "Clock", "Tick"),
        "clock tick",
    ),
    "siren": (
        ("a siren wailing", "an ambulance passing with its siren on", "a police car siren"),
        ("Siren", "Ambulance (siren)", "Emergency vehicle"),
        "siren ambulance",
    ),
    "dog_bark": (
        ("a dog barking", "a big dog barking in a yard", "a puppy yapping"),
        ("Dog", "Bark", "Bow-wow"),
        "dog bark puppy",
    ),
    "vacuum": (
        ("a vacuum cleaner running", "someone vacuuming the carpet", "a vacuum cleaner humming"),
        ("Vacuum cleaner", "Domestic sounds, home sounds", "Mechanical fan"),
        "vacuum",
    ),
    "fire_crackling": (
        ("a crackling fire", "logs burning in a fireplace", "a camp fire"),
        ("Fire", "Crackle", "Wood"),
        "fire crackling",
    ),
    "glass": (
        ("glass breaking", "a window shattering", "a bottle smashed on the floor"),
        ("Glass", "Shatter", "Breaking"),
        "glass shatter",
    ),
    "helicopter": (
        ("a helicopter flying", "a helicopter hovering overhead", "rotor blades beating"),
        ("Helicopter", "Aircraft", "Vehicle"),
        "helicopter rotor",
    ),
    "frog": (
        ("frogs croaking", "a frog by a pond", "many frogs at night"),
        ("Frog", "Croak", "Wild animals"),
        "frog croak",
    ),
    "person_sneeze": (
        ("a person sneezing", "a man sneezing twice", "a loud sneeze"),
        ("Sneeze", "Cough", "Sniff"),
        "sneeze",
    ),
    "thunder": (
        ("thunder rolling", "a clap of thunder", "a thunderstorm far away"),
        ("Thunder", "Thunderstorm", "Explosion"),
        "thunder thunderstorm",
    ),
    "rain": (
        ("rain falling", "heavy rain on a roof", "rain dripping from leaves"),
        ("Rain", "Raindrop", "Rain on surface"),
        "rain raindrop",
    ),
    "guitar": (
        ("an acoustic guitar", "someone strumming a guitar", "a guitar solo"),
        ("Guitar", "Plucked string instrument", "Strum"),
        "guitar strum",
    ),
    "rooster": (
        ("a rooster crowing", "a cock crowing at dawn", "a rooster in a farmyard"),
        ("Chicken, rooster", "Crowing, cock-a-doodle-doo", "Fowl"),
        "rooster cock crow",
    ),
    "phone": (
        ("a telephone ringing", "an old telephone bell", "a phone ringing in an office"),
        ("Telephone bell ringing", "Telephone", "Ringtone"),
        "telephone phone",
    ),
    "sea_waves": (
        ("sea waves", "waves breaking on a beach", "the ocean surf"),
        ("Waves, surf", "Ocean", "Water"),
        "sea wave ocean surf",
    ),
    "water_pouring": (
        ("water pouring into a glass", "someone filling a bath", "a tap running"),
        ("Pour", "Water tap, faucet", "Fill (with liquid)"),
        "water pour tap bath",
    ),
}
TUNED_ON = frozenset(list(SOUNDS)[:10])
KINDS = ("clean", "noisy", "hard", "mixed")
UNCAPTIONED = "names"
BACKGROUND = "Echo"
ORIGINS = ("written", "repaired", "composed", "abstained")
PROBE = UnitBrief(("a", "b", "c"), ("d", "e", "f", "d"), ("g",))
"""A brief whose prompts tell which prompts the figures are of."""


@dataclass(frozen=True)
class Unit:
    """A made-up unit: its kind, the classes it answers to, and what the model is told."""

    kind: str
    classes: tuple[str, ...]
    brief: UnitBrief


def make_units(seed: int = 0) -> list[Unit]:
    """Four units per class and then one without captions, the same for the same seed."""
    rng = random.Random(seed)
    captions = {name: sound[0] for name, sound in SOUNDS.items()}
    if ESC10.is_file():
        with ESC10.open(newline="") as file:
            recorded_captions = {row["label"]: row["caption"] for row in csv.DictReader(file)}
        captions |= {
            name: (recorded_captions[name], *texts[1:])
            for name, texts in captions.items()
            if name in recorded_captions
        }
    captioned = [unit for name in SOUNDS for unit in _units_of(name, captions, rng)]
    return captioned + [_uncaptioned(name, rng) for name in SOUNDS]


def _uncaptioned(name: str, rng: random.Random) -> Unit:
    """A unit whose clips are described by three labels each, one of them the background of all clips."""
    one, *rest = rng.sample([label for label in SOUNDS if label != name], 6)
    labels = SOUNDS[name][1]

    def listed(sound: str) -> str:
        return ", ".join(rng.sample([*rng.sample(SOUNDS[sound][1], 2), BACKGROUND], 3))

    top = tuple(listed(sound) for sound in (name, name, one, name, name))
    brief = UnitBrief((labels[0], BACKGROUND, *labels[1:]), top, tuple(map(listed, rest)))
    return Unit(UNCAPTIONED, (name,), brief)


def _units_of(name: str, captions: dict[str, tuple[str, ...]], rng: random.Random) -> list[Unit]:
    other_names = [label for label in SOUNDS if label != name]
    one, two, *rest = rng.sample(other_names, 9)
    usual, *variants = captions[name]
    labels, wrong = SOUNDS[name][1], (SOUNDS[one][1][0], SOUNDS[two][1][0])
    low = tuple(captions[label][rng.randrange(3)] for label in rest[:5])
    second = captions[one]
    briefs = {
        "clean": UnitBrief((*labels, *wrong), (usual,) * 5, low),
        "noisy": UnitBrief(
            (labels[0], wrong[0], *labels[1:], wrong[1]), (usual, *variants, second[0], usual), low
        ),
        "hard": UnitBrief(
            (wrong[0], *labels, wrong[1]), (captions[two][1], variants[0], usual, second[0], variants[1]), low
        ),
        "mixed": UnitBrief(
            (labels[0], wrong[0], labels[1], SOUNDS[one][1][1]),
            (usual, second[0], variants[0], second[1], usual),
            low,
        ),
    }
    return [Unit(kind, (name, one) if kind == "mixed" else (name,), brief) for kind, brief in briefs.items()]


def judge(answers: Sequence[tuple[Unit, str | None]]) -> dict[str, float]:
    """The figures of the module's docstring for some units and the sentences about them."""
    rng = random.Random(1)
    names = list(SOUNDS)
    anchors = sentence_vectors([f"{OPENING} the sound of {SOUNDS[name][0][0]}." for name in names])
    usable = [(unit, text) for unit, text in answers if text is not None]
    cosines = sentence_vectors([text for _, text in usable]) @ anchors.T
    own_cosines, other_cosines, nearest, named, named_all, background = [], [], 0, 0, 0, 0
    for (unit, text), row in zip(usable, cosines, strict=True):
        own_cosines.append(max(row[names.index(name)] for name in unit.classes))
        other_cosines.append(
            row[names.index(rng.choice([name for name in names if name not in unit.classes]))]
        )
        nearest += names[int(row.argmax())] in unit.classes
        stems = {stem(word.strip(".,")) for word in text.split()}
        class_named = [any(stem(word) in stems for word in SOUNDS[name][2].split()) for name in unit.classes]
        named += any(class_named)
        named_all += all(class_named)
        background += stem(BACKGROUND) in stems
    figures = {
        "usable": len(usable) / len(answers),
        "names_class": named / len(answers),
        "names_all": named_all / len(answers),
        "names_background": background / len(answers),
        "nearest": nearest / len(answers),
        "cosine_own": float(np.mean(own_cosines)) if own_cosines else 0.0,
        "cosine_other": float(np.mean(other_cosines)) if other_cosines else 0.0,
    }
    return {key: round(value, 3) for key, value in figures.items()}


def origins(summaries: Sequence[Summary]) -> dict[str, float]:
    """Share of summaries written, repaired, composed and abstained."""
    made = [summary.origin or "abstained" for summary in summaries]
    return {origin: round(made.count(origin) / len(made), 3) for origin in ORIGINS}


def parts(units: Sequence[Unit]) -> dict[str, list[int]]:
    """Name of a part -> its units: the halves of the units with captions, of those without, and by kind."""
    rows = {
        half: [row for row, unit in enumerate(units) if (unit.classes[0] in TUNED_ON) == tuned]
        for half, tuned in (("tuned_on", True), ("held_out", False))
    }
    units_by_part = {
        half: [row for row in chosen if units[row].kind in KINDS] for half, chosen in rows.items()
    }
    for half, kinds in (("held_out", (*KINDS, UNCAPTIONED)), ("tuned_on", (UNCAPTIONED,))):
        units_by_part |= {
            f"{half}_{kind}": [row for row in rows[half] if units[row].kind == kind] for kind in kinds
        }
    return units_by_part


def run(show: bool = False) -> dict[str, Any]:
    """Figures per model for both halves, by kind of unit, and seconds of processor time per unit."""
    units = make_units()
    briefs = [unit.brief for unit in units]
    written: dict[str, list[str | None]] = {
        "first_label": [f"{OPENING} the sound of {brief.labels[0].lower()}." for brief in briefs],
        "first_caption": [f"{OPENING} the sound of {brief.top[0]}." for brief in briefs],
        "composed": [compose(contrast(brief)) for brief in briefs],
    }
    made: dict[str, list[Summary]] = {}
    seconds: dict[str, float] = {}
    for model in MODELS:
        llm = load_llm(locate(model), model)
        begin = time.process_time()
        made[model] = summarize(briefs, llm, SummaryConfig(llm=model))
        seconds[model] = round((time.process_time() - begin) / len(units), 3)
        written[model] = [summary.text for summary in made[model]]
        for unit, summary in zip(units, made[model], strict=True) if show else ():
            print(model, unit.kind, unit.classes, summary, sep=" | ", file=sys.stderr)
    report: dict[str, Any] = {
        "settings": {
            "models": MODELS,
            "prompts": fingerprint(build_prompt(PROBE), build_repair_prompt(PROBE)),
        },
        "data": fingerprint(*briefs),
        "units": len(units),
        "seconds_per_unit": seconds,
    }
    for name, texts in written.items():
        report[name] = {
            part: (origins([made[name][row] for row in rows]) if name in made else {})
            | judge([(units[row], texts[row]) for row in rows])
            for part, rows in parts(units).items()
        }
    return report


def table(figures: dict[str, Any]) -> str:
    """One row per writer of sentences and half of the classes."""
    return markdown(
        [
            {"written by": name, "units": part}
            | {key: figures[name][part].get(key) for key in (*ORIGINS, *figures[name][part])}
            | {"s per unit": figures["seconds_per_unit"].get(name)}
            for name in ("first_label", "first_caption", "composed", *MODELS)
            for part in ("tuned_on", "held_out", "held_out_mixed", f"held_out_{UNCAPTIONED}")
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print every sentence on stderr")
    print(json.dumps(run(show=parser.parse_args().show), indent=2))


if __name__ == "__main__":
    main()
