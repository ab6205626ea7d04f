"""A home to serve, recorded from a network whose units are known, and a client of a server on it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from httpx import Response
from sounds import tone
from starlette.testclient import TestClient
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, explain, load_embedder, load_target, record, soundbank
from and_retrieval.config import SummaryConfig
from and_retrieval.serve.app import application
from and_retrieval.serve.served import Served
from and_retrieval.store import Home
from and_retrieval.types import Floats

TARGET = f"{Path(__file__).parent / 'targets' / 'two_per_class.py'}:load"
RUN, OTHER = "s/net", "s/relu"
PORT = 8400
RATE = 16_000


def recorded_home(folder: Path) -> Path:
    """A home with index `s` of the four sounds, and two explained runs of the same network."""
    source = soundbank.render(folder / "sounds", concepts=list(UNITS_OF))
    index = ClipIndex.build(source, load_embedder(), folder / "home" / "s")
    for name, layers in (("net", ()), ("relu", ("relu",))):
        run = record(load_target(TARGET), index, layers, run=name)
        explain(run, summaries=SummaryConfig(llm="none"))
    return folder / "home"


@dataclass(frozen=True)
class Visitor:
    """A client of a server, with its token or without."""

    served: Served
    client: TestClient

    @property
    def token(self) -> dict[str, str]:
        """The header that carries the token."""
        return {"Authorization": f"Bearer {self.served.token}"}

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Any:
        """What a GET with the token answers, as JSON; it must succeed."""
        answer = self.client.get(path, params=parameters, headers=self.token | (headers or {}))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, order: dict[str, Any]) -> Response:
        """A POST of JSON with the token."""
        return self.client.post(path, json=order, headers=self.token)

    def hear(self, path: str, sound: bytes, **parameters: Any) -> Response:
        """A POST of a sound with the token."""
        headers = self.token | {"content-type": "audio/wav"}
        return self.client.post(path, params=parameters, content=sound, headers=headers)


@contextmanager
def visiting(home: Path) -> Iterator[Visitor]:
    """A client of a new server on a home."""
    served = Served(Home(home), RUN)
    app = application(served, PORT)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False) as client:
        yield Visitor(served, client)


def late_tone(seconds: float = 4.0, begin: float = 3.0) -> Floats:
    """Silence, and from `begin` on a tone within the band of the smoke alarm."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    sound[round(begin * RATE) :] = tone(3_100, seconds - begin, RATE)
    return sound


def wav(sound: Any, rate: int = RATE) -> bytes:
    """A WAV file."""
    memory = io.BytesIO()
    soundfile.write(memory, sound, rate, format="WAV")
    return memory.getvalue()


def names(answer: dict[str, Any]) -> list[str]:
    """LAYER:UNIT of every result."""
    return [f"{unit['layer']}:{unit['unit']}" for unit in answer["results"]]
