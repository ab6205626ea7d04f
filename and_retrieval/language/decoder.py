"""A GGUF file's weights and llama.cpp's sequences: tokens in, logits out, the same bytes every time.

The same tokens give the same bytes, whatever stands beside them, came before them or was reused for them.
Three settings see to that:

* every step has a multiple of `ROWS` rows, because matrix kernels round differently for few rows (logits
  moved by up to 1.1 with multiples of 4, by 0 with multiples of 8, wherever they begin);
* no flash attention and one cache stream per sequence, so that a sequence's sums do not depend on where
  other sequences lie (flash attention alone moved logits by up to 7);
* weights stay in the file's layout: llama.cpp's rearranged copies have kernels of their own for few rows,
  and those for AMX, as GCC 12 compiles them, load half a tile configuration, which ends the process.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import Floats

# Threads that wait by spinning cost ten times the work itself where other programs want the cores too; llama.cpp's
# OpenMP reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    import llama_cpp
except (ImportError, OSError, RuntimeError):  # not installed, or its shared library does not load
    llama_cpp = None

__all__ = ["BRANCHES", "ROUNDING", "ROWS", "Decoder", "Weights", "decoder_size", "llama_cpp"]

SLOTS = 32
"""Sequences that grow side by side, at most."""

CELLS = 16_384
"""Tokens that all sequences hold together, to bound the cache; `ROWS` sequences are there in any case."""

ROWS = 8
"""Steps are padded to a multiple of this many rows."""

CHUNK = 64
"""Tokens of a prompt evaluated per step."""

BRANCHES = 8
"""Continuations that are scored side by side."""

STRIDE = 4
"""Tokens of a continuation that is scored per step."""

ROUNDING = 2
"""A number that goes up with every change of the rows of a step that can change an answer."""

Row = tuple[int, int, int]
"""A token, its position and the sequence it belongs to."""


class Weights:
    """A loaded model file; freed when nothing holds it any more.

    Raises:
        InputError: llama.cpp cannot load it.
    """

    def __init__(self, path: Path) -> None:
        # llama-cpp-python prints llama.cpp's lines at or above this level on stderr.
        logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL + 1)
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        params.check_tensors = True  # refuses weights that are no numbers
        self.pointer = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise InputError(
                f"llama.cpp cannot load {path}: the file is damaged or of an unknown architecture"
            )
        weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)


def _threads() -> int:
    """Threads to use: OMP_NUM_THREADS, else one per core, 8 at most. Their number changes no answer."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else min(os.cpu_count() or 1, 8)


def decoder_size(cells: int, prompts: int) -> tuple[int, int]:
    """Tokens that a sequence of a `Decoder` holds, a multiple of 256, and how many sequences it has, of `ROWS`."""
    held = -(-cells // 256) * 256
    most = min(SLOTS, CELLS // held // ROWS * ROWS)
    return held, max(ROWS, min(most, -(-prompts // ROWS) * ROWS))


class Decoder:
    """A llama.cpp context with sequences, the slots, that grow by themselves or from a copy of another one.

    Logits that a method returns are float32 [vocabulary], a view that the next call overwrites.

    Attributes:
        cells: Tokens that a sequence holds.
        slots: Numbers of the sequences.
    """

    def __init__(self, weights: Weights, cells: int, prompts: int = SLOTS) -> None:
        """Make room.

        Args:
            weights: The model.
            cells: Tokens that a sequence has to hold.
            prompts: How many there will be; there are no more slots than `SLOTS`, or than `CELLS` allows.

        Raises:
            InputError: llama.cpp cannot make it.
        """
        self._weights = weights  # must outlive the context
        self.cells, slots = decoder_size(cells, prompts)
        self.slots = range(slots)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.cells * len(self.slots)
        params.n_seq_max = len(self.slots)
        params.n_batch = params.n_ubatch = CHUNK
        params.n_threads = params.n_threads_batch = _threads()
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.kv_unified = False
        context = llama_cpp.llama_init_from_model(weights.pointer, params)
        if not context:
            raise InputError(
                f"llama.cpp cannot make room for {len(self.slots)} sequences of {self.cells} tokens"
            )
        self._context = context
        weakref.finalize(self, llama_cpp.llama_free, context)
        self._batch = llama_cpp.llama_batch_init(CHUNK, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self._batch)
        self._memory = llama_cpp.llama_get_memory(context)
        self._vocab_size = int(
            llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(weights.pointer))
        )
        self._prompts: list[list[int]] = [[] for _ in self.slots]  # what was evaluated by chunks
        self._lengths = [0 for _ in self.slots]  # with the tokens that a slot has grown by

    def hold(self, slot: int, tokens: Sequence[int]) -> None:
        """Let a slot hold `tokens`; what a slot has of their beginning already is used again."""
        self._fill(slot, tokens, self._begin_like(slot, tokens), logits=False)

    def begin(self, slot: int, prompt: Sequence[int]) -> Floats:
        """As `hold` -> logits of the token after the prompt."""
        start = self._begin_like(slot, prompt[:-1])
        return self._fill(slot, prompt, start, logits=True)[0]

    def step(self, newest: dict[int, int]) -> dict[int, Floats]:
        """Slot -> the token that it grows by; gives slot -> logits of the token after it."""
        if not newest:
            return {}
        # llama.cpp splits a step where sequence numbers skip one, so whole blocks of slots take part.
        blocks = sorted({slot // ROWS for slot in newest})
        slots = [block * ROWS + i for block in blocks for i in range(ROWS)]
        rows = [(newest.get(slot, 0), self._lengths[slot], slot) for slot in slots]
        wanted = [i for i, slot in enumerate(slots) if slot in newest]
        logits = self._decode(rows, wanted)
        for slot in slots:
            if slot in newest:
                self._lengths[slot] += 1
            else:
                self._cut(slot, self._lengths[slot])
        return dict(zip((slots[i] for i in wanted), logits, strict=True))

    def log_probabilities(self, prompt: list[int], continuations: Sequence[list[int]]) -> list[list[float]]:
        """log p of every token of every continuation of `prompt`.

        The prompt is evaluated once; eight continuations at a time then branch from copies of it, four tokens a step:
        most names end with the first.
        """
        branches = self.slots[:BRANCHES]
        opening = _log_softmax(self.begin(branches[0], prompt))
        log_p = [[float(opening[tokens[0]])] for tokens in continuations]
        for branch in branches[1:]:
            self.hold(branch, prompt)
        for number in range(0, len(continuations), len(branches)):
            group = list(continuations[number : number + len(branches)])
            group += [[0]] * (len(branches) - len(group))  # as many sequences take part in every step
            for at in range(0, max(map(len, group)) - 1, STRIDE):
                places = [(member, i) for member in range(len(group)) for i in range(at, at + STRIDE)]
                wanted = [row for row, (member, i) in enumerate(places) if i + 1 < len(group[member])]
                rows = [(*_token(group[member], i, len(prompt)), branches[member]) for member, i in places]
                for row, logits in zip(wanted, self._decode(rows, wanted), strict=True):
                    member, i = places[row]
                    log_p[number + member].append(float(_log_softmax(logits)[group[member][i + 1]]))
            for branch in branches:
                self._cut(branch, len(prompt))
        return log_p

    def move(self, source: int, to: int) -> None:
        """Let the slot `to` hold what `source` holds."""
        self._cut(to, 0)
        llama_cpp.llama_memory_seq_cp(self._memory, source, to, -1, -1)
        self._prompts[to], self._lengths[to] = list(self._prompts[source]), self._lengths[source]

    def _begin_like(self, slot: int, tokens: Sequence[int]) -> int:
        """Let a slot hold as much of the beginning of `tokens` as any slot has, and return how many that are.

        Only what was evaluated by chunks counts: the same token rounds differently in a step.
        """
        same = {other: _common(self._prompts[other], tokens) for other in (slot, *self.slots)}
        source = max(same, key=lambda other: same[other])
        if source != slot:
            self.move(source, slot)
        self._cut(slot, same[source])
        return same[source]

    def _cut(self, slot: int, length: int) -> None:
        """Let a slot forget all tokens but the first `length`."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot, length, -1)
        del self._prompts[slot][length:]
        self._lengths[slot] = length

    def _fill(self, slot: int, tokens: Sequence[int], start: int, logits: bool) -> list[Floats]:
        """Evaluate the tokens behind the first `start`, which the slot holds; gives the last one's logits if wanted."""
        following: list[Floats] = []
        for at in range(start, len(tokens), CHUNK):
            rows = [(tokens[i], i, slot) for i in range(at, min(at + CHUNK, len(tokens)))]
            wanted = [len(rows) - 1] if logits and at + CHUNK >= len(tokens) else []
            # Rows behind the last token are seen by none before it, and forgotten below.
            rows += [(tokens[-1], len(tokens) + i, slot) for i in range(-len(rows) % ROWS)]
            following = self._decode(rows, wanted)
        self._cut(slot, len(tokens))
        self._prompts[slot] = list(tokens)
        return following

    def _decode(self, rows: list[Row], wanted: list[int]) -> list[Floats]:
        """Evaluate rows; gives the logits of the token after each `wanted` row."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode failed with code {code} on {len(rows)} rows")
        return [
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, i), shape=(self._vocab_size,))
            for i in wanted
        ]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def _token(tokens: list[int], i: int, start: int) -> tuple[int, int]:
    """The i-th token and its position behind `start`; behind the end the last token again, seen by none before it."""
    return tokens[min(i, len(tokens) - 1)], start + i


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
