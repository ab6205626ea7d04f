"""A local language model: a GGUF file, run greedily on the CPU by llama.cpp.

Many prompts are answered side by side. The tokens that all of them begin with (the few-shot part) are
evaluated once and copied into every sequence; 16 sequences then grow by one token per decoding step.

The same prompt gives the same bytes, whatever stands beside it, came before it or was reused for it.
Four settings see to that:

* every step has a multiple of `ROWS` rows, because matrix kernels round differently for few rows (logits
  moved by up to 1.1 with multiples of 4, by 0 with multiples of 8);
* no flash attention and one cache stream per sequence, so that a sequence's sums do not depend on where
  other sequences lie (flash attention alone moved logits by up to 7);
* prompts are evaluated in chunks of `CHUNK` tokens that start at multiples of it, reused or not;
* weights stay in the file's layout: llama.cpp's rearranged copies have kernels of their own for few rows,
  and those that use AMX end the process with a protection fault on some virtual machines.

The tests hold this bit for bit, alone against side by side, for the two models the project knows. For any
other GGUF file what is certain is less: distinct prompts are answered in sorted order, so the same prompts
in any order give the same bytes. Another processor may round differently.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import InputError

try:
    import llama_cpp
except (ImportError, OSError, RuntimeError):  # not installed, or its shared library does not load
    llama_cpp = None

SLOTS = 16
"""Sequences that grow side by side."""

ROWS = 8
"""Steps are padded to a multiple of this many rows."""

CHUNK = 32
"""Tokens of a prompt evaluated per step; reuse of a shared beginning is cut to a multiple of it."""

LONGEST = 4096
"""Tokens of a prompt with its answer, at most."""

WIDE = 1024
"""Beyond this many tokens per sequence only half of the slots are used, to bound the cache."""

Row = tuple[int, int, int]
"""A token, its position and the sequence it belongs to."""


def load_llm(path: Path, name: str, seed: int = 0) -> LlamaModel:
    """Open the GGUF file at `path`; `name` is how the model calls itself.

    `seed` is kept for the record: answers are greedy, so nothing is drawn.

    Raises:
        InputError: llama-cpp-python is missing, or the file is missing, is no GGUF file, is damaged or
            holds a model that does not continue text.
    """
    if llama_cpp is None:
        raise InputError(
            "writing summaries needs llama-cpp-python, which is not installed or does not load: "
            "pip install llama-cpp-python, or choose the language model 'none'"
        )
    _check_gguf(path)
    return LlamaModel(path, name, seed)


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"cannot read language model {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise InputError(f"{path} is not a GGUF file; give a model in llama.cpp's format")


class _Weights:
    """A loaded model file; freed when nothing holds it any more."""

    def __init__(self, path: Path) -> None:
        # llama-cpp-python prints llama.cpp's lines at or above this level on stderr.
        logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL + 1)
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        self.pointer = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise InputError(
                f"llama.cpp cannot load {path}: the file is damaged or of an unknown architecture"
            )
        weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)


class LlamaModel:
    """A `LanguageModel` over llama.cpp; made by `load_llm`. Calls from several threads take turns.

    Attributes:
        name: How the model calls itself.
        seed: As given; greedy answers draw nothing.
    """

    def __init__(self, path: Path, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed
        self._lock = threading.Lock()
        self._decoder: _Decoder | None = None
        self._weights = _Weights(path)
        model = self._weights.pointer
        if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
            raise InputError(f"{path} does not continue text; give a decoder-only model")
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self._limit = min(int(llama_cpp.llama_model_n_ctx_train(model)), LONGEST)

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Prompts -> continuations: greedy, at most `max_tokens` tokens, cut before the first `stop` string.

        Raises:
            InputError: a prompt is empty, or too long for the model together with its answer.
        """
        if max_tokens < 1:
            return [""] * len(prompts)
        distinct = sorted(set(prompts))
        with self._lock:
            tokens = [self._tokenize(prompt, max_tokens) for prompt in distinct]
            texts = self._answer(tokens, max_tokens, tuple(stop)) if tokens else []
        answers = dict(zip(distinct, texts, strict=True))
        return [answers[prompt] for prompt in prompts]

    def _tokenize(self, prompt: str, max_tokens: int) -> list[int]:
        text = prompt.encode("utf-8", errors="replace")
        room = (llama_cpp.llama_token * (len(text) + 8))()
        count = llama_cpp.llama_tokenize(self._vocab, text, len(text), room, len(room), True, False)
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
        decoder = self._fit(max(map(len, prompts)) + max_tokens + ROWS)
        start = decoder.share(_common(prompts))
        answers = [_Answer(prompt, max_tokens, stop) for prompt in prompts]
        waiting = list(reversed(answers))
        busy: dict[int, _Answer] = {}
        while waiting or busy:
            for slot in decoder.slots:
                if slot not in busy and waiting:
                    busy[slot] = waiting.pop()
                    busy[slot].last = decoder.begin(slot, busy[slot].prompt, start)
            for slot, answer in list(busy.items()):
                if answer.finished(self._piece(answer.last)):
                    del busy[slot]
            following = decoder.step({slot: (a.last, a.position) for slot, a in busy.items()})
            for slot, token in following.items():
                busy[slot].last = token
        return [answer.text for answer in answers]

    def _fit(self, cells: int) -> _Decoder:
        """The decoder at hand if its sequences hold `cells` tokens, else a new one that is large enough."""
        if self._decoder is None or self._decoder.cells < cells:
            self._decoder = None
            self._decoder = _Decoder(self._weights, cells)
        return self._decoder

    def _piece(self, token: int) -> bytes | None:
        """The bytes of a token, or None for one that ends the answer."""
        if llama_cpp.llama_vocab_is_eog(self._vocab, token):
            return None
        room = ctypes.create_string_buffer(256)
        size = llama_cpp.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[: max(size, 0)]


class _Answer:
    """One prompt and what has been said to it so far; `last` is the newest token."""

    def __init__(self, prompt: list[int], max_tokens: int, stop: tuple[str, ...]) -> None:
        self.prompt = prompt
        self.last = -1
        self._left = max_tokens
        self._stop = stop
        self._said = b""
        self._count = 0

    @property
    def position(self) -> int:
        """Where the newest token stands in its sequence."""
        return len(self.prompt) + self._count - 1

    @property
    def text(self) -> str:
        """What was said, cut before the first stop string; half a character at the end is left out."""
        text = self._said.decode("utf-8", errors="ignore")
        return text[: min((at for s in self._stop if (at := text.find(s)) >= 0), default=len(text))]

    def finished(self, piece: bytes | None) -> bool:
        """Take in the newest token's bytes (None: the model ended) and tell whether that was all."""
        if piece is None:
            return True
        self._said += piece
        self._count += 1
        said = self._said.decode("utf-8", errors="ignore")
        return self._count >= self._left or any(s in said for s in self._stop)


def _common(prompts: list[list[int]]) -> list[int]:
    """The tokens all prompts begin with; the last token of a prompt is left, as its logits are needed."""
    first, last = min(prompts), max(prompts)  # what the extremes share, all between them share
    longest = min(map(len, prompts)) - 1
    same = next((i for i in range(longest) if first[i] != last[i]), longest)
    return first[:same]


def _threads() -> int:
    """Threads to use: OMP_NUM_THREADS, else one per core, 8 at most. Their number changes no answer."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else min(os.cpu_count() or 1, 8)


class _Decoder:
    """A llama.cpp context: sequence 0 keeps the shared beginning, the `slots` grow answers.

    Attributes:
        cells: Tokens that a sequence holds.
        slots: Numbers of the sequences that grow.
    """

    def __init__(self, weights: _Weights, cells: int) -> None:
        self._weights = weights  # must outlive the context
        self.cells = -(-cells // 256) * 256
        self.slots = range(1, 1 + (SLOTS if self.cells <= WIDE else SLOTS // 2))
        sequences = len(self.slots) + 1
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.cells * sequences
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = CHUNK
        params.n_threads = params.n_threads_batch = _threads()
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.kv_unified = False
        context = llama_cpp.llama_init_from_model(weights.pointer, params)
        if not context:
            raise InputError(f"llama.cpp cannot make room for {sequences} sequences of {self.cells} tokens")
        self._context = context
        weakref.finalize(self, llama_cpp.llama_free, context)
        self._batch = llama_cpp.llama_batch_init(CHUNK, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self._batch)
        self._memory = llama_cpp.llama_get_memory(context)
        self._vocab_size = int(
            llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(weights.pointer))
        )
        self._shared: list[int] = []

    def share(self, tokens: list[int]) -> int:
        """Let sequence 0 hold `tokens`, cut to whole chunks, and return how many that are."""
        whole = len(tokens) // CHUNK * CHUNK
        limit = min(whole, len(self._shared))
        same = next((i for i in range(limit) if self._shared[i] != tokens[i]), limit) // CHUNK * CHUNK
        if not llama_cpp.llama_memory_seq_rm(self._memory, 0, same, -1):  # recurrent models cannot step back
            llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
            same = 0
        for at in range(same, whole, CHUNK):
            self._decode([(tokens[i], i, 0) for i in range(at, at + CHUNK)], [])
        self._shared = tokens[:whole]
        return whole

    def begin(self, slot: int, prompt: list[int], start: int) -> int:
        """Evaluate `prompt` in `slot`, the first `start` tokens taken from sequence 0 -> the next token."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        if start:
            llama_cpp.llama_memory_seq_cp(self._memory, 0, slot, -1, -1)
        following = -1
        for at in range(start, len(prompt), CHUNK):
            rows = [(prompt[i], i, slot) for i in range(at, min(at + CHUNK, len(prompt)))]
            wanted = [len(rows) - 1] if at + CHUNK >= len(prompt) else []
            # Rows after the prompt's end are seen by none of its rows, and forgotten below.
            rows += [(prompt[-1], len(prompt) + i, slot) for i in range(-len(rows) % ROWS)]
            following = (self._decode(rows, wanted) or [following])[0]
        llama_cpp.llama_memory_seq_rm(self._memory, slot, len(prompt), -1)
        return following

    def step(self, newest: dict[int, tuple[int, int]]) -> dict[int, int]:
        """Slot -> (newest token, its position), for the slots that grow; gives slot -> next token."""
        if not newest:
            return {}
        # llama.cpp splits a step where sequence numbers skip one, so whole blocks of slots take part.
        blocks = sorted({(slot - 1) // ROWS for slot in newest})
        slots = [block * ROWS + i for block in blocks for i in range(1, ROWS + 1)]
        for slot in slots:
            if slot not in newest:
                llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        rows = [(*newest.get(slot, (0, 0)), slot) for slot in slots]
        wanted = [i for i, slot in enumerate(slots) if slot in newest]
        return dict(zip((slots[i] for i in wanted), self._decode(rows, wanted), strict=True))

    def _decode(self, rows: list[Row], wanted: list[int]) -> list[int]:
        """Evaluate rows; gives the likeliest token (the lowest of equals) after each `wanted` row."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode failed with code {code} on {len(rows)} rows")
        return [self._likeliest(i) for i in wanted]

    def _likeliest(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self._vocab_size,))))
