"""How fast the parts are beside the plain way to do the same, as ratios.

Both are run in turn in one process on one thread, and the fastest of several rounds counts (of processor time: other
programs on the machine do not change it much). The published loops are those of CLIP-Dissect's `similarity.py`, which
this suite holds against ours by the concept that comes first for every unit.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from and_retrieval.checkpoints.bundled import locate
from and_retrieval.checkpoints.yamnet import load_yamnet
from and_retrieval.config import SummaryConfig
from and_retrieval.embed.posteriors import load_network, posterior_roots
from and_retrieval.explanation import scores
from and_retrieval.language.brief import contrast
from and_retrieval.language.decoder import Weights, llama_cpp
from and_retrieval.language.llm import load_llm
from and_retrieval.language.prompt import build_prompt
from and_retrieval.progress import Progress
from bench.summaries import make_units

UNITS, CLIPS, CONCEPTS, K = 10_000, 2_000, 527, 20
REORDERED_UNITS = 2000  # rank-reorder takes long in the published form
SOUNDS, SECONDS = 48, 5.0
SENTENCES = 48
ROUNDS = 3

Figures = dict[str, Any]
Way = Callable[[], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("--units", type=int, default=UNITS, help=f"units of a layer (default: {UNITS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds (default: {ROUNDS})")


def run(
    units: int = UNITS, rounds: int = ROUNDS, announce: Callable[[str, str], Progress] | None = None
) -> Figures:
    """Every row: seconds of processor time of both ways, their ratio, and how well they agree."""
    torch.set_num_threads(1)
    parts = {**_scores(units), **_ears(), **_sentences(), **_imports()}
    progress = announce("measuring", "rows") if announce else lambda *_: None
    rows = {}
    for number, (name, (ours, other, agree)) in enumerate(parts.items(), 1):
        rows[name] = _compared(ours, other, agree, rounds)
        progress(number, len(parts))
    return {
        "settings": {"units": units, "clips": CLIPS, "concepts": CONCEPTS, "k": K},
        "data": "random",
        "rows": rows,
    }


def table(figures: Figures) -> str:
    """The rows as Markdown."""
    lines = ["| what | ours, s | the plain way, s | ratio | agreement |", "|---|---|---|---|---|"]
    for name, row in figures["rows"].items():
        cells = [
            f"{row['ours']:.3f}",
            *("" if row[k] is None else f"{row[k]:.3g}" for k in ("other", "ratio", "agree")),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _compared(
    ours: Way, other: Way | None, agree: Callable[[Any, Any], float] | None, rounds: int
) -> Figures:
    times: dict[str, float] = {"ours": math.inf, "other": math.inf}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, way in (("ours", ours), ("other", other)):
            if way is not None:
                begin = _processor_time()
                results[name] = way()
                times[name] = min(times[name], _processor_time() - begin)
    if other is None:
        return {"ours": times["ours"], "other": None, "ratio": None, "agree": None}
    same = agree(results["ours"], results["other"]) if agree else None
    return {**times, "ratio": times["other"] / max(times["ours"], 1e-9), "agree": same}


def _processor_time() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# ---------- scores ----------


def _scores(units: int) -> Mapping[str, tuple[Way, Way, Callable[[Any, Any], float] | None]]:
    rng = np.random.default_rng(0)
    similarity = rng.normal(0.2, 0.1, (CLIPS, CONCEPTS)).astype(np.float32)
    activations = np.maximum(rng.normal(0, 1, (CLIPS, units)), 0).astype(np.float32)
    top = np.argsort(-activations, axis=0, kind="stable")[:K].T.astype(np.int32)
    few = activations[:, :REORDERED_UNITS]
    p, a, f = (torch.from_numpy(x) for x in (similarity, activations, few))
    return {
        "soft-WPMI": (
            lambda: scores.soft_wpmi(similarity, top, prior="units"),
            lambda: soft_wpmi(p, a),
            _same_best,
        ),
        "WPMI": (lambda: scores.wpmi(similarity, top, prior="units"), lambda: wpmi(p, a), _same_best),
        "cos": (lambda: scores.cos(similarity, activations), lambda: cos(p, a), _same_best),
        "cos-cubed": (lambda: scores.cos_cubed(similarity, activations), lambda: cos_cubed(p, a), _same_best),
        "cos-cubed, against the one matrix product": (
            lambda: scores.cos_cubed(similarity, activations),
            lambda: a.T @ p,
            None,
        ),
        "rank-reorder": (
            lambda: scores.rank_reorder(similarity, few),
            lambda: rank_reorder(p, f),
            _same_best,
        ),
    }


def _same_best(ours: Any, other: Any) -> float:
    """Share of units whose first concept is the same."""
    return float(np.mean(ours.argmax(axis=1) == np.asarray(other).argmax(axis=1)))


def soft_wpmi(p: torch.Tensor, a: torch.Tensor, start: float = 0.998, end: float = 0.97) -> torch.Tensor:
    """soft-WPMI unit by unit, as published."""
    p = torch.softmax(p / 0.1, dim=1)
    rows = torch.topk(a, k=K, dim=0)[1]
    sure = (start - torch.arange(K) / K * (start - end)).unsqueeze(1)
    units = [
        torch.log(1 + sure * (p[rows[:, unit]] - 1) + 1e-7).sum(0, keepdim=True) for unit in range(a.shape[1])
    ]
    return _less_prior(torch.cat(units), 1.0)


def wpmi(p: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """WPMI unit by unit, as published."""
    p = torch.softmax(p / 0.5, dim=1)
    rows = torch.topk(a, k=K, dim=0)[1]
    units = [torch.log(p[rows[:, unit]] + 1e-7).sum(0, keepdim=True) for unit in range(a.shape[1])]
    return _less_prior(torch.cat(units), 0.6)


def _less_prior(likelihood: torch.Tensor, weight: float) -> torch.Tensor:
    return likelihood - weight * (torch.logsumexp(likelihood, 0, keepdim=True) - math.log(len(likelihood)))


def cos(p: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """The cosine, as published: both matrices are normalised as a whole."""
    return (a / a.norm(dim=0, keepdim=True).clip(1e-3)).T @ (p / p.norm(dim=0, keepdim=True).clip(1e-3))


def cos_cubed(p: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """The cosine of cubes, as published."""
    return cos((p - p.mean(0, keepdim=True)) ** 3, (a - a.mean(0, keepdim=True)) ** 3)


def rank_reorder(p: torch.Tensor, a: torch.Tensor, fraction: float = 0.05) -> torch.Tensor:
    """rank-reorder unit by unit, as published, with five random orders."""
    top, rows = torch.topk(a, k=int(len(a) * fraction), dim=0)
    result = []
    for unit in range(a.shape[1]):
        near, order = torch.sort(p[rows[:, unit]], dim=0)
        ascending = torch.flip(top[:, unit], [0])
        random = [((ascending - ascending[torch.randperm(len(top))]).abs() ** 3).mean() for _ in range(5)]
        moved = ((ascending.unsqueeze(1) - top[:, unit][order]).abs() ** 3).mean(0)
        result.append(-moved / torch.stack(random).mean() / near.mean(0).clip(1e-3) ** 0.5)
    return torch.stack(result)


# ---------- sentences ----------


def _sentences() -> Mapping[str, tuple[Way, Way, Callable[[Any, Any], float]]]:
    path, most = locate("gemma3"), SummaryConfig().max_tokens
    prompts = [build_prompt(contrast(unit.brief)) for unit in make_units()[:SENTENCES]]

    def agree(ours: Any, other: Any) -> float:
        return float(np.mean([one == two for one, two in zip(ours, other, strict=True)]))

    return {
        f"first answers for {SENTENCES} units, loading included, against one call a unit (same answers)": (
            lambda: load_llm(path, "gemma3").complete(prompts, most, ["\n"]),
            lambda: one_call_a_prompt(path, prompts, most),
            agree,
        )
    }


def one_call_a_prompt(path: Path, prompts: Sequence[str], most: int) -> list[str]:
    """Greedy first lines of at most `most` tokens; every call evaluates its whole prompt, with llama.cpp's settings."""
    weights = Weights(path)  # as ours: rearranged copies end the process on some machines
    vocabulary = llama_cpp.llama_model_get_vocab(weights.pointer)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = 512
    params.n_threads = params.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(weights.pointer, params)
    size, piece = llama_cpp.llama_vocab_n_tokens(vocabulary), ctypes.create_string_buffer(256)
    answers = []
    for prompt in prompts:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        text, answer = prompt.encode(), b""
        tokens = (llama_cpp.llama_token * len(text))()
        count = llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, len(text), True, False)
        for _ in range(most):
            llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count))
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(size,))
            tokens, count = (llama_cpp.llama_token * 1)(int(logits.argmax())), 1
            if llama_cpp.llama_vocab_is_eog(vocabulary, tokens[0]):
                break
            length = llama_cpp.llama_token_to_piece(vocabulary, tokens[0], piece, len(piece), 0, False)
            answer += piece.raw[:length]
            if b"\n" in answer:
                break
        answers.append(answer.decode(errors="ignore").partition("\n")[0])
    llama_cpp.llama_free(context)
    return answers


# ---------- the embedded embedder, and imports ----------


def _ears() -> Mapping[str, tuple[Way, Way, Callable[[Any, Any], float] | None]]:
    networks = load_network(torch.device("cpu")), load_yamnet()
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(int(SECONDS * 16_000))).astype(np.float32) for _ in range(SOUNDS)]
    for network in networks:
        posterior_roots(network, sounds[:1])

    def agree(ours: Any, other: Any) -> float:
        return float(np.abs(ours - other).max())

    return {
        f"embedded embedder, {SOUNDS} clips of {SECONDS:g} s, against torch and one at a time (largest difference)": (
            lambda: posterior_roots(networks[0], sounds),
            lambda: np.concatenate([posterior_roots(networks[1], [sound]) for sound in sounds]),
            agree,
        )
    }


QUERY = (
    "from and_retrieval.search.search import search_neurons; from and_retrieval.embed import load_embedder; "
    "load_embedder('embedded').embed_text(['rain'])"
)
WITH_TORCH = (
    "import and_retrieval.checkpoints.torchaudio_shim, torch, transformers, sentence_transformers, scipy.signal; "
    f"{QUERY}"
)


def _imports() -> Mapping[str, tuple[Way, Way | None, None]]:
    def program(*words: str) -> Way:
        line, folder = [sys.executable, *words], Path(__file__).parents[1]
        return lambda: subprocess.run(
            line, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    return {
        "search: imports and one query, against all that was imported before": (
            program("-c", QUERY), program("-c", WITH_TORCH), None,
        ),
        "--help": (program("-m", "and_retrieval", "--help"), None, None),
        "runs": (program("-m", "and_retrieval", "runs"), None, None),
    }  # fmt: skip
