"""A local language model: a GGUF file, run greedily on the CPU by llama.cpp.

Up to 32 prompts are answered side by side, each by a sequence that grows by one token per decoding step. A sequence
begins as a copy of the one that has most of its tokens, so that the worked examples are evaluated once, and so is what
two prompts of neighbouring units have in common.

The same prompt gives the same bytes, whatever stands beside it, came before it or was reused for it; how is
told in `decoder`. The tests hold this bit for bit, alone against side by side, for the two models the project
knows. For any other GGUF file what is certain is less: distinct prompts are answered in sorted order, so the
same prompts in any order give the same bytes. Another processor may round differently.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..files import remembered_sha256
from ..types import Chat, Floats
from .chat import ChatTemplate
from .decoder import BRANCHES, ROWS, Decoder, Weights, decoder_size, llama_cpp

LONGEST = 4096
"""Tokens of a prompt with its answer, at most."""


def load_llm(path: Path, name: str, chat: bool = True) -> LlamaModel:
    """Open the GGUF file at `path`; `name` is how the model calls itself.

    With `chat`, the chat template that the file may carry is used for prompts that are a `Chat`.
    Where a file NAME.gguf.sha256 lies beside it, as `sha256sum` writes it, the content has to agree.

    Raises:
        InputError: llama-cpp-python is missing, or the file is missing, is no GGUF file, is damaged, is not the one
            that its .sha256 describes, or holds a model that does not continue text.
    """
    if llama_cpp is None:
        raise InputError(
            "writing summaries needs llama-cpp-python, which is not installed or does not load: "
            "pip install llama-cpp-python, or choose the language model 'none'"
        )
    _check_gguf(path)
    return LlamaModel(path, name, chat)


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"cannot read language model {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise InputError(f"{path} is not a GGUF file; give a model in llama.cpp's format")
    beside = path.with_name(f"{path.name}.sha256")
    if beside.is_file():
        stated = beside.read_text(encoding="utf-8", errors="replace").split()
        if not stated or stated[0].lower() != remembered_sha256(path):
            raise InputError(f"{path} is not the file that {beside.name} describes; get it again")


class Likelihood(NamedTuple):
    """How likely a text is: log p of all its tokens, natural logarithm, and how many they are."""

    log_probability: float
    tokens: int


class LlamaModel:
    """A `LanguageModel` over llama.cpp; made by `load_llm`. Calls from several threads take turns.

    Attributes:
        name: How the model calls itself.
        chats: Whether it has a chat template and uses it.
    """

    def __init__(self, path: Path, name: str, chat: bool = True) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._decoder: Decoder | None = None
        self._weights = Weights(path)
        model = self._weights.pointer
        if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
            raise InputError(f"{path} does not continue text; give a decoder-only model")
        if llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model):
            raise InputError(f"{path} is a recurrent model, which cannot forget tokens; give a transformer")
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self._template = ChatTemplate.of(self._weights) if chat else None
        self.chats = self._template is not None
        self._limit = min(int(llama_cpp.llama_model_n_ctx_train(model)), LONGEST)

    def complete(self, prompts: Sequence[str | Chat], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Prompts -> continuations: greedy, at most `max_tokens` tokens, cut before the first `stop` string.

        Raises:
            InputError: a prompt is empty, or too long for the model together with its answer, or a `Chat` where the
                model has no template.
        """
        if max_tokens < 1:
            return [""] * len(prompts)
        rendered = [self._rendered(prompt) for prompt in prompts]
        distinct = sorted(set(rendered))
        with self._lock:
            tokens = [self._tokenize(text, max_tokens, marks=marks) for text, marks in distinct]
            texts = self._answer(tokens, max_tokens, tuple(stop)) if tokens else []
        answers = dict(zip(distinct, texts, strict=True))
        return [answers[prompt] for prompt in rendered]

    def _rendered(self, prompt: str | Chat) -> tuple[str, bool]:
        """The text that the model reads, and whether marks in it, such as those of turns, are tokens of their own."""
        if isinstance(prompt, str):
            return prompt, False
        if self._template is None:
            raise InputError(f"language model {self.name!r} has no chat template; give it plain text")
        return self._template.render(prompt), True

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """How likely the model finds each continuation of each prompt.

        The tokens are those of the two as one text, or of each by itself where a token would reach over the
        prompt's end. A prompt is evaluated once, and what all prompts begin with once for all.

        Args:
            prompts: Texts.
            continuations: For every prompt the texts that may follow it, none of them empty.

        Raises:
            InputError: a prompt or a continuation is empty, or together they are too long for the model.
        """
        with self._lock:
            parted = [
                self._parted(prompt, texts) for prompt, texts in zip(prompts, continuations, strict=True)
            ]
            asked = [(head, tails) for head, tails in parted if tails]
            if not asked:
                return [[] for _ in prompts]
            decoder = self._fit(
                max(len(head) + max(map(len, tails)) for head, tails in asked) + ROWS, BRANCHES
            )
            return [
                [Likelihood(sum(log_p), len(log_p)) for log_p in decoder.log_probabilities(head, tails)]
                if tails
                else []
                for head, tails in parted
            ]

    def _parted(self, prompt: str, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Tokens of the prompt, and those that follow it in every continued text."""
        if not all(continuations):
            raise InputError(f"an empty continuation was given to language model {self.name!r}")
        head = self._tokenize(prompt, 0)
        whole = [self._tokenize(prompt + text, 0) for text in continuations]
        return head, [
            tokens[len(head) :] if tokens[: len(head)] == head else self._tokenize(text, 0, begins=False)
            for tokens, text in zip(whole, continuations, strict=True)
        ]

    def _tokenize(self, prompt: str, max_tokens: int, begins: bool = True, marks: bool = False) -> list[int]:
        text = prompt.encode("utf-8", errors="replace")
        room = (llama_cpp.llama_token * (len(text) + 8))()
        count = llama_cpp.llama_tokenize(self._vocab, text, len(text), room, len(room), begins, marks)
        if not text or count < 1:
            raise InputError(f"an empty prompt was given to language model {self.name!r}")
        if count + max_tokens + ROWS > self._limit:
            raise InputError(
                f"a prompt of {count} tokens and an answer of {max_tokens} exceed the {self._limit - ROWS} tokens "
                f"of language model {self.name!r}; show it fewer clips or shorter captions"
            )
        return list(room[:count])

    def _answer(self, prompts: list[list[int]], max_tokens: int, stop: tuple[str, ...]) -> list[str]:
        """Answers of distinct prompts: a slot takes the next prompt as soon as its last one is finished."""
        decoder = self._fit(max(map(len, prompts)) + max_tokens + ROWS, len(prompts))
        answers = [_Answer(prompt[-1], max_tokens, stop) for prompt in prompts]
        waiting = list(zip(prompts, answers, strict=True))[::-1]
        busy: dict[int, _Answer] = {}
        while waiting or busy:
            for slot in decoder.slots:
                if slot not in busy and waiting:
                    prompt, busy[slot] = waiting.pop()
                    decoder.hold(slot, prompt[:-1])  # the last token goes with the others' next ones
            following = decoder.step({slot: answer.last for slot, answer in busy.items()})
            for slot, logits in following.items():
                busy[slot].last = _likeliest(logits)
                if busy[slot].finished(self._piece(busy[slot].last)):
                    del busy[slot]
            if not waiting:
                _close_up(busy, decoder)
        return [answer.text for answer in answers]

    def _fit(self, cells: int, prompts: int) -> Decoder:
        """The decoder at hand if it is large enough for some prompts of `cells` tokens, else a new one that is."""
        size = (0, 0) if self._decoder is None else (self._decoder.cells, len(self._decoder.slots))
        larger = decoder_size(max(cells, size[0]), max(prompts, size[1]))
        if self._decoder is None or larger != size:
            self._decoder = None  # frees its memory first
            self._decoder = Decoder(self._weights, *larger)
        return self._decoder

    def _piece(self, token: int) -> bytes | None:
        """The bytes of a token, or None for one that ends the answer."""
        if llama_cpp.llama_vocab_is_eog(self._vocab, token):
            return None
        room = ctypes.create_string_buffer(256)
        size = llama_cpp.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[: max(size, 0)]


class _Answer:
    """What has been said to a prompt so far; `last` is the newest token, at first the prompt's last."""

    def __init__(self, last: int, max_tokens: int, stop: tuple[str, ...]) -> None:
        self.last = last
        self._left = max_tokens
        self._stop = stop
        self._bytes = b""
        self._count = 0

    @property
    def text(self) -> str:
        """What was said, cut before the first stop string; half a character at the end is left out."""
        text = self._bytes.decode("utf-8", errors="ignore")
        return text[: min((at for s in self._stop if (at := text.find(s)) >= 0), default=len(text))]

    def finished(self, piece: bytes | None) -> bool:
        """Take in the newest token's bytes (None: the model ended) and tell whether that was all."""
        if piece is None:
            return True
        self._bytes += piece
        self._count += 1
        answer = self._bytes.decode("utf-8", errors="ignore")
        return self._count >= self._left or any(s in answer for s in self._stop)


def _close_up(busy: dict[int, _Answer], decoder: Decoder) -> None:
    """Let the last answers grow in the fewest blocks of slots, as whole blocks are evaluated."""
    room = range(-(-len(busy) // ROWS) * ROWS)
    free = [slot for slot in room if slot not in busy]
    for slot in [slot for slot in busy if slot not in room]:
        decoder.move(slot, free[-1])
        busy[free.pop()] = busy.pop(slot)


def _likeliest(logits: Floats) -> int:
    """The token with the largest logit, the lowest of equals."""
    return int(np.argmax(logits))
