"""Whether an embedder knows a text: English sound words are known, made-up and foreign ones hardly ever.

None of the texts here is part of the yardstick, but those of the banks that it is made of. Most of the foreign and part
of the English ones were in view when the threshold was chosen; `docs/robustness.md` has figures for fresh lists.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from embedders import FakeEmbedder

from and_retrieval import soundbank
from and_retrieval.concepts import load_bank
from and_retrieval.embed import load_embedder
from and_retrieval.types import Embedder
from and_retrieval.vocabulary import KNOWN_WORDS, MADE_UP_WORDS, KnownWords, bank_lines, known_words, plain

ENGLISH = """
a dog barking|thunder in the distance|rain on a tin roof|creaking floorboards|kettle boiling|popcorn popping|
sizzling bacon|jackhammer|lawn mower|ice cubes in a glass|typing on a laptop|crowd cheering at a stadium|baby giggling|
whispering voices|heavy breathing|snapping fingers|slamming door|knocking on wood|train horn|motorcycle revving|
foghorn|seagulls|owl hooting|bees buzzing|rattlesnake|horse galloping|purring cat|gravel footsteps|glass shattering|
gunshot|opera singer|scratching record|fax machine|microwave beep|coin drop|paper rustling|chopping vegetables|
air raid siren|espresso machine|dripping tap|sandpaper|slot machine|ping pong|skateboard|tambourine|feedback squeal|
high pitched whine|birdsong|city traffic|restaurant chatter|angry shouting
""".replace("\n", "").split("|")
GERMAN = """
Ente|Ziege|Wolf heult|Mücke|Eule|Spatz|Taube|Bach|Sturm|Donner|Hagel|Wasserfall|Brandung|Schreien|Flüstern|Gähnen|
Pfeifen|Kichern|Schluckauf|Rülpsen|Rasenmäher|Bohrmaschine|Hammerschlag|Säge|Kreissäge|Mixer|Föhn|Kühlschrank|Straßenbahn|
Lastwagen|Motorrad|Fahrradklingel|Polizeisirene|Schuss|Explosion|Glasbruch|Türknarren|Schlüsselbund|Papierrascheln|
Trompete|Posaune|Harfe|Dudelsack|Akkordeon|Orgel|Trommel|Glockenspiel|Kinderchor|Toilettenspülung|Kuhglocke
""".replace("\n", "").split("|")
SPANISH = """
perro ladrando|gallo|gato|vaca|cerdo|oveja|rana|cuervo|gallina|grillos|lluvia|olas del mar|fuego crepitante|
gotas de agua|tormenta|bebé llorando|estornudo|aplausos|respiración|tos|pasos|risa|cepillado de dientes|ronquidos|
clic del ratón|lavadora|aspiradora|despertador|reloj|helicóptero|motosierra|sirena|bocina|tren|campanas de iglesia|
avión|fuegos artificiales|serrucho|violín|batería|flauta|canto|pájaros|caballo|abeja|teléfono|grifo|trueno|viento|puerta
""".replace("\n", "").split("|")
OTHER = """
собака|дождь|кошка|колокол|犬の鳴き声|雨|猫|강아지|비|كلب|مطر|σκύλος|βροχή|pies szczeka|deszcz|koń|hond blaft|pioggia|
chuva|hund skäller|koira haukkuu|köpek havlıyor|yağmur
""".replace("\n", "").split("|")
KEYBOARD = ("xxx", "zzzz", "asdfghjkl", "qwertz", "????", "...", "😀", "🐶", "🎵🎵", "€€€", "hjkl", "x")


STARTS = "b bl d dr f fl g gl gr h j k kl kr m n p pl pr r s sk sl sn spr st t tr v w z"
ENDS = "b ck d ft g lb lm mp nd ng p rb rk rm sk st t v x z"


def made_up(count: int, seed: int = 0) -> list[str]:
    """Words of two or three syllables that no list of English words has; another recipe than the yardstick's."""
    drawn = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = drawn.choice((2, 2, 3))
        words[
            "".join(
                drawn.choice(STARTS.split()) + drawn.choice("aeiou") + drawn.choice(ENDS.split())
                for _ in range(syllables)
            )
        ] = None
    return list(words)


@pytest.fixture(scope="module")
def words(embedder: Embedder) -> KnownWords:
    return known_words(embedder)


def called_unknown(words: KnownWords, embedder: Embedder, texts: list[str], bank: bool = False) -> float:
    """Share of texts that are called unknown."""
    vectors = embedder.embed_text(texts)
    return len((words.unknown_of_bank if bank else words.unknown)(texts, vectors)) / len(texts)


def test_the_yardstick_is_left_out_of_its_own_judgement(words: KnownWords) -> None:
    assert words.usable
    assert (words.made_up >= words.least).mean() < 0.12
    assert len(words.known) > 1000
    assert len(words.made_up) > 400
    assert not {plain(word) for bank in KNOWN_WORDS for word in bank_lines(bank)} & set(
        bank_lines(MADE_UP_WORDS)
    )


@pytest.mark.parametrize("name", ["audioset", "acoustic", "esc50"])
def test_no_concept_of_a_built_in_bank_is_unknown(words: KnownWords, embedder: Embedder, name: str) -> None:
    concepts = list(load_bank(name).concepts)
    assert called_unknown(words, embedder, concepts) == 0
    assert called_unknown(words, embedder, concepts, bank=True) == 0


def test_hardly_any_english_sound_is_unknown(words: KnownWords, embedder: Embedder) -> None:
    names = [name.replace("_", " ") for name in (*soundbank.CONCEPTS, *soundbank.SAMPLED)]
    captions = [soundbank.caption(name, 0) for name in (*soundbank.CONCEPTS, *soundbank.SAMPLED)]
    for texts in (names, captions, ENGLISH):
        assert called_unknown(words, embedder, texts) <= 0.02
        assert called_unknown(words, embedder, texts, bank=True) <= 0.02


@pytest.mark.parametrize(("texts", "least"), [(GERMAN, 0.7), (SPANISH, 0.7), (OTHER, 0.85), (KEYBOARD, 0.9)])
def test_what_the_embedder_was_not_trained_on_is_unknown(
    words: KnownWords, embedder: Embedder, texts: list[str], least: float
) -> None:
    assert called_unknown(words, embedder, list(texts)) >= least
    assert called_unknown(words, embedder, list(texts), bank=True) >= 0.85


def test_made_up_words_are_unknown_and_the_more_so_the_more_there_are(
    words: KnownWords, embedder: Embedder
) -> None:
    texts = made_up(100)
    assert called_unknown(words, embedder, texts) >= 0.85
    assert called_unknown(words, embedder, texts, bank=True) >= 0.95


def test_a_bank_of_both_keeps_what_is_known(words: KnownWords, embedder: Embedder) -> None:
    texts = [*ENGLISH, *made_up(50, seed=1)]
    unknown = set(words.unknown_of_bank(texts, embedder.embed_text(texts)))
    assert len(unknown & set(ENGLISH)) <= 1
    assert len(unknown - set(ENGLISH)) >= 42


def test_case_and_underscores_do_not_count(words: KnownWords, embedder: Embedder) -> None:
    texts = ["DOG", "Baby_Cry", "church bell"]
    assert words.unknown(texts, embedder.embed_text(texts)) == ()


def test_an_embedder_that_cannot_tell_is_not_asked() -> None:
    fake = FakeEmbedder("fake-vocabulary")
    words = known_words(fake)
    assert not words.usable
    assert words.unknown(["xxx", "blorft"], fake.embed_text(["xxx", "blorft"])) == ()


def test_no_texts_and_one_text(words: KnownWords, embedder: Embedder) -> None:
    assert words.unknown([], np.zeros((0, embedder.dim), np.float32)) == ()
    assert words.unknown_of_bank(["blorft zwick"], embedder.embed_text(["blorft zwick"])) == ("blorft zwick",)
    assert known_words(load_embedder("embedded")) is words
