"""Prompts: the sentences in which an embedder reads concepts, from the command line to every verb that embeds one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from clap_models import save_clap
from command_line import Answer
from embedders import FakeEmbedder
from hypothesis import given
from hypothesis import strategies as st
from sounds import WriteSound, noise

from and_retrieval import ClipIndex, load_bank
from and_retrieval.cli import main
from and_retrieval.embed import checked_embedder, load_embedder
from and_retrieval.embed.prompts import BARE, check_prompts, concept_vectors
from and_retrieval.errors import InputError
from and_retrieval.explanation.labels import describe_clips
from and_retrieval.explanation.space import background_texts, text_centre
from and_retrieval.search.search import search_clips
from and_retrieval.store import Home
from and_retrieval.types import Floats
from and_retrieval.vocabulary import known_words

SENTENCE = "This is a sound of {}."
TEMPLATED = """
import sys; sys.path.insert(0, {tests!r})
from embedders import FakeEmbedder
class Templated(FakeEmbedder):
    templates = ({template!r},)
def load():
    return Templated("templated")
"""


class Listening(FakeEmbedder):
    """Keeps the texts it is asked for."""

    def __init__(self, fingerprint: str, templates: tuple[str, ...] = ()) -> None:
        super().__init__(fingerprint)
        self.templates = templates
        self.read: list[str] = []

    def embed_text(self, texts: Sequence[str]) -> Floats:
        self.read += texts
        return super().embed_text(texts)


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Five sounds, four of them with captions."""
    lines = ["path,caption"]
    for number in range(5):
        write_sound(f"sounds/{number}.wav", noise(0.5, seed=number))
        lines.append(f"{number}.wav,{'a dog barks loudly ' + str(number) if number else ''}")
    table = tmp_path / "sounds" / "clips.csv"
    table.write_text("\n".join(lines))
    return table


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)


class TestVectors:
    @given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=3, unique=True))
    def test_are_the_unit_length_mean_over_prompts(self, concepts: list[str], beginnings: list[str]) -> None:
        embed = FakeEmbedder().embed_text
        prompts = [beginning.replace("{", "").replace("}", "") + " {}" for beginning in beginnings]
        vectors = concept_vectors(embed, concepts, prompts)
        for concept, vector in zip(concepts, vectors, strict=True):
            total = sum(embed([prompt[:-2] + concept])[0].astype(np.float64) for prompt in prompts)
            np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)

    def test_a_bare_concept_is_the_text_itself(self) -> None:
        embed = FakeEmbedder().embed_text
        concepts = ["dog", "a {} in braces", "rain"]
        assert concept_vectors(embed, concepts, BARE).tobytes() == embed(concepts).tobytes()
        assert concept_vectors(embed, [], (SENTENCE, "{}")).shape == (0, 8)

    @pytest.mark.parametrize("prompts", [["a sound"], ["{} and {}"], [SENTENCE, ""], []])
    def test_prompts_without_one_place(self, prompts: list[str]) -> None:
        with pytest.raises(InputError, match=r"'\{\}|once"):
            check_prompts(prompts, "prompt")


class TestIndex:
    def test_keeps_the_embedders_own_or_those_given(self, sounds: Path, tmp_path: Path) -> None:
        templated = Listening("kept", (SENTENCE,))
        assert ClipIndex.build(sounds, FakeEmbedder(), tmp_path / "a").prompts == BARE
        assert ClipIndex.build(sounds, templated, tmp_path / "b").prompts == (SENTENCE,)
        given_ = ClipIndex.build(sounds, templated, tmp_path / "c", prompts=["{}", "{} noise"])
        assert ClipIndex.open(given_.folder.path).prompts == ("{}", "{} noise")
        again = ClipIndex.build(sounds, templated, tmp_path / "c")
        assert again.prompts == ("{}", "{} noise")
        with pytest.raises(
            InputError, match=r"made with prompt .* and .* noise., not .a \{\}.; use that or another"
        ):
            ClipIndex.build(sounds, templated, tmp_path / "c", prompts=["a {}"])

    def test_queries_banks_and_background_use_them_and_captions_do_not(
        self, sounds: Path, tmp_path: Path
    ) -> None:
        embedder = Listening("queries", (SENTENCE,))
        index = ClipIndex.build(sounds, embedder, tmp_path / "index")
        search_clips(index, ["dog", "-rain"])
        background = {SENTENCE.replace("{}", name) for name in load_bank("audioset").concepts}
        assert {"This is a sound of dog.", "This is a sound of rain."} | background <= set(embedder.read)
        assert not {"dog", "rain"} & set(embedder.read)
        embedder.read.clear()
        clips = describe_clips(index, load_bank("esc50"))
        captions = {
            caption for caption, templated in zip(clips.captions, clips.captioned, strict=True) if templated
        }
        assert captions
        assert captions <= set(embedder.read)
        assert not {text for text in embedder.read if text.startswith("This") and "barks" in text}

    def test_two_indexes_of_one_embedder_do_not_share_texts(self, sounds: Path, tmp_path: Path) -> None:
        embedder = FakeEmbedder("two")
        bare, asked = (
            ClipIndex.build(sounds, embedder, tmp_path / str(prompts), prompts=prompts)
            for prompts in (None, [SENTENCE])
        )
        assert not np.allclose(background_texts(bare), background_texts(asked))
        np.testing.assert_array_equal(text_centre(bare), text_centre(asked))
        assert known_words(embedder) is known_words(embedder, BARE)
        assert known_words(embedder) is not known_words(embedder, (SENTENCE,))


class TestAsTyped:
    def test_a_users_embedder_brings_them_and_prompt_overrides(
        self, sounds: Path, tmp_path: Path, answer: Answer
    ) -> None:
        file = tmp_path / "mine.py"
        file.write_text(TEMPLATED.format(tests=str(Path(__file__).parent), template=SENTENCE))
        spec = ("--embedder", f"{file}:load")
        assert answer("index", str(sounds), "--name", "own", *spec)["prompts"] == [SENTENCE]
        two = ("--prompt", "{}", "--prompt", "{} noise")
        assert answer("index", str(sounds), "--name", "two", *spec, *two)["prompts"] == ["{}", "{} noise"]
        templated, other = (answer("search", name, "dog", "-k", "5")["results"] for name in ("own", "two"))
        assert [clip["score"] for clip in templated] != [clip["score"] for clip in other]

    @pytest.mark.parametrize("prompt", ["a sound", "{} {}", ""])
    def test_a_wrong_prompt_is_refused_before_any_work(
        self, sounds: Path, prompt: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["index", str(sounds), "--name", "s", "--prompt", prompt]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"and-retrieval: --prompt {prompt!r}: write {{}} once")
        assert error.count("\n") == 1
        assert not Home.find(None).index("s").exists()

    @pytest.mark.parametrize(
        ("templates", "error"),
        [
            ("a sound of {}", "templates is 'a sound of {}', not a tuple of texts"),
            (("a sound",), "template 'a sound': write {} once"),
        ],
    )
    def test_wrong_templates_of_an_embedder(self, templates: object, error: str) -> None:
        embedder = FakeEmbedder()
        vars(embedder)["templates"] = templates
        with pytest.raises(InputError) as refused:
            checked_embedder(embedder)
        assert error in str(refused.value)


def test_clap_is_asked_as_its_authors_ask_it(tmp_path: Path, sounds: Path) -> None:
    embedder = load_embedder(f"clap:{save_clap(tmp_path / 'clap')}")
    index = ClipIndex.build(sounds, embedder, tmp_path / "index")
    expected: Callable[[Sequence[str]], Floats] = embedder.embed_text
    np.testing.assert_array_equal(
        index.concept_vectors(["dog", "rain"]),
        expected(["This is a sound of dog.", "This is a sound of rain."]),
    )
