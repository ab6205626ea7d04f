"""Units whose meaning is known: the small CNN trained on a labelled source and recorded on it.

Unit i of its last layer stands for class i, so labels and sentences about these units can be held against the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from and_retrieval.benchmark.names import classes_of
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import RecordConfig
from and_retrieval.run import Run, record
from and_retrieval.types import Embedder, LayerEvidence, Target
from bench import Announce, small_cnn
from bench.source import labelled_index

LAST = "classes"


@dataclass(frozen=True)
class ClassUnits:
    """A network trained on a source's classes, and its run.

    Attributes:
        classes: What the units of the last layer stand for, in order.
        names: The same in plain words.
        training: Settings of the training.
        trained: The network's accuracy and more.
        index: The source's clips.
        run: The network recorded on all clips; those kept out of its training are held out of the evidence.
        data: Digest of the clips.
    """

    classes: tuple[str, ...]
    training: small_cnn.TrainConfig
    trained: small_cnn.Trained
    index: ClipIndex
    run: Run
    data: str

    @property
    def embedder(self) -> Embedder:
        """That of the index."""
        return self.index.embedder

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, `_` read as a space."""
        return tuple(label.replace("_", " ") for label in self.classes)

    @property
    def last(self) -> LayerEvidence:
        """The layer whose units are the classes."""
        return self.run.layer(LAST)

    def network(self) -> dict[str, Any]:
        """What a result says of the network."""
        return {
            "accuracy": self.trained.accuracy,
            "trained_on": self.trained.trained_on,
            "held_out": self.trained.held_out,
            "weights": self.trained.weights[:16],
        }


def network_sentence(network: dict[str, Any]) -> str:
    """One sentence about a network, from `ClassUnits.network`."""
    return (
        f"Small CNN trained on {network['trained_on']} clips, accuracy {network['accuracy']:.3f} "
        f"on {network['held_out']} others."
    )


def add_home_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the network and the index are kept, and the seed of the training."""
    parser.add_argument(
        "--home", metavar="DIR", help="folder of the index and the network (default: ./index)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the network's training (default: 0)")


def class_units(
    source: str,
    embedder: str,
    home: str | None,
    seed: int,
    announce: Announce,
    layers: Sequence[str] = (LAST,),
    top_k: int = 20,
) -> ClassUnits:
    """Train the network on a source, index the source and record the network on it; what is there is used again.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    index = labelled_index(source, embedder, home, announce)
    classes = classes_of(index.clips, source)
    training = small_cnn.TrainConfig(seed=seed)
    target, facts = trained_cnn(source, home, training, announce)
    config = RecordConfig(top_k=top_k, device="cpu")
    run = record(target, index, layers, config, f"cnn-{seed}", announce)
    return ClassUnits(classes, training, facts, index, run, clips_digest(index.clips))


def trained_cnn(
    source: str, home: str | None, training: small_cnn.TrainConfig, announce: Announce
) -> tuple[Target, small_cnn.Trained]:
    """The small CNN of a source in its place under the home; one that is there is used again.

    Raises:
        InputError: The source holds no labelled audio, or fewer than two classes.
    """
    place = small_cnn.folder(home)
    facts = small_cnn.train(source, place, training, announce("training", "epochs"))
    return small_cnn.as_target(place), facts


def settings(units: ClassUnits) -> dict[str, Any]:
    """What names a result that was measured on the units."""
    return {
        "embedder": units.embedder.name,
        "fingerprint": units.embedder.fingerprint,
        "training": asdict(units.training),
    }
