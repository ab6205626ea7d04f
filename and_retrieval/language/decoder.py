"""A GGUF file's weights and llama.cpp's sequences: tokens in, logits out, the same bytes every time.

The same tokens give the same bytes, whatever stands beside them, came before them or was reused for them.
Four settings see to that:

* every step has a multiple of `ROWS` rows, because matrix kernels round differently for few rows (logits
  moved by up to 1.1 with multiples of 4, by 0 with multiples of 8);
* no flash attention and one cache stream per sequence, so that a sequence's sums do not depend on where
  other sequences lie (flash attention alone moved logits by up to 7);
* prompts are evaluated in chunks of `CHUNK` tokens that start at multiples of it, reused or not;
* weights stay in the file's layout: llama.cpp's rearranged copies have kernels of their own for few rows,
  and those that use AMX end the process with a protection fault on some virtual machines.
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

__all__ = ["ROWS", "Decoder", "Weights", "llama_cpp"]

SLOTS = 16
"""Sequences that grow side by side."""

ROWS = 8
"""Steps are padded to a multiple of this many rows."""

CHUNK = 32
"""Tokens of a prompt evaluated per step; reuse of a shared beginning is cut to a multiple of it."""

STRIDE = 4
"""Tokens of a continuation that is scored per step; as many continuations take part as fill `CHUNK` rows."""

WIDE = 1024
"""Beyond this many tokens per sequence only half of the slots are used, to bound the cache."""

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


class Decoder:
    """A llama.cpp context: sequence 0 keeps the shared beginning, the `slots` grow from it.

    Logits that a method returns are float32 [vocabulary], a view that the next call overwrites.

    Attributes:
        cells: Tokens that a sequence holds.
        slots: Numbers of the sequences that grow.
    """

    def __init__(self, weights: Weights, cells: int) -> None:
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

    def begin(self, slot: int, prompt: list[int], start: int) -> Floats:
        """Evaluate `prompt` in `slot`, the first `start` tokens taken from sequence 0 -> logits of the next token."""
        self._copy(0, slot, start)
        following: list[Floats] = []
        for at in range(start, len(prompt), CHUNK):
            rows = [(prompt[i], i, slot) for i in range(at, min(at + CHUNK, len(prompt)))]
            wanted = [len(rows) - 1] if at + CHUNK >= len(prompt) else []
            # Rows after the prompt's end are seen by none of its rows, and forgotten below.
            rows += [(prompt[-1], len(prompt) + i, slot) for i in range(-len(rows) % ROWS)]
            following = self._decode(rows, wanted)
        llama_cpp.llama_memory_seq_rm(self._memory, slot, len(prompt), -1)
        return following[0]

    def step(self, newest: dict[int, tuple[int, int]]) -> dict[int, Floats]:
        """Slot -> (newest token, its position), for the slots that grow; gives slot -> logits of the next token."""
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

    def log_probabilities(
        self, prompt: list[int], start: int, continuations: Sequence[list[int]]
    ) -> list[list[float]]:
        """log p of every token of every continuation of `prompt`, whose first `start` tokens sequence 0 holds.

        The prompt is evaluated once; eight continuations at a time then branch from copies of it, four tokens a step:
        most names end with the first.
        """
        branches = self.slots[: CHUNK // STRIDE]
        opening = _log_softmax(self.begin(branches[0], prompt, start))
        log_p = [[float(opening[tokens[0]])] for tokens in continuations]
        for branch in branches[1:]:
            self._copy(branches[0], branch, len(prompt))
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
                llama_cpp.llama_memory_seq_rm(self._memory, branch, len(prompt), -1)
        return log_p

    def _copy(self, source: int, to: int, cells: int) -> None:
        """Let a sequence hold what another one holds, or nothing where that is empty."""
        llama_cpp.llama_memory_seq_rm(self._memory, to, -1, -1)
        if cells:
            llama_cpp.llama_memory_seq_cp(self._memory, source, to, -1, -1)

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


def _token(tokens: list[int], i: int, start: int) -> tuple[int, int]:
    """The i-th token and its position behind `start`; behind the end the last token again, seen by none before it."""
    return tokens[min(i, len(tokens) - 1)], start + i


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
