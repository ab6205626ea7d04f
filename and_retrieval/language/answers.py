"""Answers of language models, kept by content: the same question is not asked twice, and stopped work goes on.

One SQLite file in the cache folder holds them all, under a hash of the model file, the question and the settings.
Without it, only time is lost.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from ..files import cache_folder
from ..types import Chat
from .decoder import ROUNDING, llama_cpp
from .llm import Likelihood, LlamaModel

FILE = "answers.sqlite"
TABLE = "create table if not exists answers (question text primary key, answer text not null) without rowid"
LARGEST = 256 << 20  # bytes of answers; about a million
PATIENCE = 10.0  # seconds to wait for another process that writes

Question = TypeVar("Question")


class KeptAnswers:
    """A language model that asks another one only what has not been answered before.

    Attributes:
        name: Of the model.
        weights: Hash of its file.
        chats: Whether it takes `Chat`.
    """

    def __init__(self, model: LlamaModel, weights: str, path: Path | None = None) -> None:
        """Keep the answers of a model.

        Args:
            model: The model.
            weights: Hash of its file.
            path: Of the SQLite file; by default in the cache folder.
        """
        self.name, self.chats = model.name, model.chats
        self.weights, self._model = weights, model
        self._path = path or cache_folder() / FILE

    def complete(self, prompts: Sequence[str | Chat], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """As `LlamaModel.complete`."""
        settings = ("complete", max_tokens, list(stop))

        def ask(new: Sequence[str | Chat]) -> list[Any]:
            return list(self._model.complete(new, max_tokens, stop))

        return [str(answer) for answer in self._answers(prompts, settings, ask)]

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """As `LlamaModel.log_probabilities`."""

        def ask(new: Sequence[tuple[str, tuple[str, ...]]]) -> list[Any]:
            return self._model.log_probabilities([prompt for prompt, _ in new], [texts for _, texts in new])

        asked = [(prompt, tuple(texts)) for prompt, texts in zip(prompts, continuations, strict=True)]
        return [
            [Likelihood(float(log), int(tokens)) for log, tokens in answer]
            for answer in self._answers(asked, ("log_probabilities",), ask)
        ]

    def _answers(
        self,
        questions: Sequence[Question],
        settings: Sequence[Any],
        ask: Callable[[Sequence[Question]], list[Any]],
    ) -> list[Any]:
        keys = [self._key(question, settings) for question in questions]
        known = self._read(set(keys))
        new = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
        if new:
            answered = dict(zip(new, ask(list(new.values())), strict=True))
            self._write(answered)
            known |= answered
        return [known[key] for key in keys]

    def _key(self, question: object, settings: Sequence[Any]) -> str:
        content = [question.turns, question.answer] if isinstance(question, Chat) else question
        return sha256(
            json.dumps([self.weights, llama_cpp.__version__, ROUNDING, settings, content]).encode()
        ).hexdigest()

    def _read(self, keys: set[str]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        with contextlib.suppress(sqlite3.Error, OSError, ValueError), self._file() as file:
            for key in keys:
                row = file.execute("select answer from answers where question = ?", (key,)).fetchone()
                if row is not None:
                    answers[key] = json.loads(row[0])
        return answers

    def _write(self, answered: dict[str, Any]) -> None:
        rows = [(key, json.dumps(answer)) for key, answer in answered.items()]
        try:
            with self._file() as file:
                if _bytes_of(file) > LARGEST:  # half of them, drawn by chance, make room
                    file.execute("delete from answers where random() < 0")
                file.executemany("insert or replace into answers values (?, ?)", rows)
        except (sqlite3.OperationalError, OSError):
            return  # locked, read-only, no room
        except sqlite3.DatabaseError:  # damaged: it is begun anew the next time
            self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """The open file, committed at the end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection, connection:
            connection.execute(TABLE)
            yield connection


def _bytes_of(file: sqlite3.Connection) -> int:
    """Bytes of a database that hold something; those of what was removed are used again."""
    pages, free, size = (
        file.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
