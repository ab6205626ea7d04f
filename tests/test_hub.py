"""A model's files: from a folder, from the hub's cache, from a hub; and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from and_retrieval.checkpoints.hub import (
    CONFIG,
    FEATURES,
    TOKENIZER,
    WEIGHTS,
    is_folder,
    load_pickled,
    local_model,
)
from and_retrieval.errors import InputError

COMMIT = "a" * 40
PROGRAM = """
import sys
from and_retrieval.errors import InputError
from and_retrieval.checkpoints.hub import CONFIG, TOKENIZER, WEIGHTS, local_model
try:
    print(local_model(sys.argv[1], "model", (CONFIG, TOKENIZER) if sys.argv[2:] else (CONFIG, WEIGHTS)))
except InputError as error:
    print("refused:", error)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / CONFIG).write_text('{"model_type": "clap"}')
    save_file({"weight": torch.ones(2)}, folder / "model.safetensors")
    return folder


def test_a_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_model(str(model), "model") == model
    monkeypatch.chdir(model.parent)
    assert local_model("model", "model") == local_model("./model", "model") == model
    assert is_folder("~/x")
    assert is_folder("model")
    assert not is_folder("laion/clap-htsat-unfused")


def test_what_a_folder_lacks(model: Path) -> None:
    with pytest.raises(InputError, match="no folder /nowhere"):
        local_model("/nowhere", "embedder 'x'")
    with pytest.raises(
        InputError, match=r"embedder 'x': preprocessor_config.json or .* is missing in .*model"
    ):
        local_model(str(model), "embedder 'x'", (CONFIG, WEIGHTS, FEATURES))
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.ones(2)}, model / "model-00001-of-00002.safetensors")
    with pytest.raises(InputError, match=r"model: model-00002-of-00002.safetensors is missing"):
        local_model(str(model), "model")


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "a b/c", "../x/y z", "a/.."])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match=r"neither a folder that exists nor a hub name|there is no folder"):
        local_model(name, "model")


def test_code_is_refused_unless_trusted(model: Path) -> None:
    (model / CONFIG).write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Evil"}}))
    with pytest.raises(InputError, match=r"contains program code .*--trust-remote-code"):
        local_model(str(model), "target 'x'")
    assert local_model(str(model), "target 'x'", trust_remote_code=True) == model


class Evil:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_with_code_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    path = model / "pytorch_model.bin"
    torch.save({"weight": torch.ones(2)}, path)
    assert local_model(str(model), "model") == model
    assert load_pickled(path, "model")["weight"].tolist() == [1, 1]
    for old in (False, True):
        torch.save({"weight": Evil(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(InputError, match=r"holds more than weights \(posix.mkdir\).*safetensors"):
            local_model(str(model), "model")
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=4))
    with pytest.raises(InputError, match=r"may hide code|holds more|cannot be read as torch weights"):
        local_model(str(model), "model")
    path.write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match=r"cannot be read|may hide code"):
        local_model(str(model), "model")
    assert not (tmp_path / "ran").exists()


def test_safetensors_come_before_a_pickle(model: Path, tmp_path: Path) -> None:
    torch.save(Evil(tmp_path / "ran"), model / "pytorch_model.bin")
    assert local_model(str(model), "model") == model


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download takes."""

    def __init__(self, models: dict[str, dict[str, bytes]], asked: list[str], *arguments: object) -> None:
        self.models, self.asked = models, asked
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").removeprefix("api/models/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name == "org/gated":
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif name not in self.models:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif rest[:1] == ["revision"] and rest[1] != "main":
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] == ["resolve"]:
            content = self.models[name][rest[-1]]
            etag = hashlib.sha256(content).hexdigest()
            self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        elif rest[:1] == ["tree"]:
            files = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in self.models[name].items()
            ]
            self._answer(200, json.dumps(files).encode(), {})
        else:
            facts = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [], "tags": [], "downloads": 0}
            self._answer(200, json.dumps({**facts, "likes": 0, "private": False}).encode(), {})

    def _answer(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(model: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A hub on this machine: environment that leads to it, and what it was asked for."""
    weights = (model / "model.safetensors").read_bytes()
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.bin")
    pickled = (tmp_path / "weights.bin").read_bytes()
    settings = {CONFIG: b"{}", "vocab.json": b"{}", "README.md": b"no", "modeling.py": b"no"}
    models = {
        "org/both": {**settings, "model.safetensors": weights, "pytorch_model.bin": pickled},
        "org/pickled": {**settings, "pytorch_model.bin": pickled},
        "org/empty": settings,
    }
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, models, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    yield environment, asked
    server.shutdown()
    server.server_close()


def ask(environment: dict[str, str], *arguments: str) -> str:
    """What `local_model` says in a process of its own; the hub's client reads its settings once."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_a_name_is_downloaded_once(hub: tuple[dict[str, str], list[str]]) -> None:
    environment, asked = hub
    folder = Path(ask(environment, "org/both"))
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == {CONFIG, "vocab.json", "model.safetensors"}
    asked.clear()
    assert ask(environment, "org/both") == str(folder)
    assert not asked  # what is on the disk is used without asking
    assert ask({**environment, "HF_HUB_OFFLINE": "1"}, "org/both") == str(folder)


def test_pickled_weights_only_where_there_are_no_others(hub: tuple[dict[str, str], list[str]]) -> None:
    environment, _ = hub
    folder = Path(ask(environment, "org/pickled"))
    assert {path.name for path in folder.iterdir()} == {CONFIG, "vocab.json", "pytorch_model.bin"}
    small = Path(ask(environment, "org/both", "tokenizer"))
    assert {path.name for path in small.iterdir()} == {CONFIG, "vocab.json"}
    whole = Path(ask(environment, "org/both"))  # what is missing is fetched
    assert (whole / "model.safetensors").is_file()


def test_names_that_cannot_be_had(hub: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    environment, asked = hub
    assert "the hub knows no model org/nothing" in ask(environment, "org/nothing")
    assert "org/gated is gated; accept its terms at https://huggingface.co/org/gated" in ask(
        environment, "org/gated"
    )
    assert "org/both has no revision 'v9'" in ask(environment, "org/both@v9")
    assert "org/empty on the hub has no model.safetensors" in ask(environment, "org/empty")
    asked.clear()
    offline = ask({**environment, "HF_HUB_OFFLINE": "1"}, "org/both")
    place = tmp_path / "cache/hub/models--org--both"
    assert (
        "config.json, model.safetensors or model.safetensors.index.json cannot be found on this machine"
        in offline
    )
    assert f"in {place}" in offline
    assert "HF_HUB_OFFLINE is set" in offline
    assert not asked
    nobody = ask({**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}, "org/both")
    assert f"in {place}" in nobody
    assert "the hub does not answer (ConnectError" in nobody


def test_needed_files_may_be_any_of_several(model: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer.json or vocab.json is missing"):
        local_model(str(model), "model", (TOKENIZER,))
    (model / "vocab.txt").write_text("a")
    assert local_model(str(model), "model", (TOKENIZER,)) == model
