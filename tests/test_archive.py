"""torch.export archives as targets: modules under their own names; what cannot be looked into is refused."""

from __future__ import annotations

import copy
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sounds import noise
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.probe import probe
from and_retrieval.targets import load_target, weights_hash
from and_retrieval.types import Floats, Target

RATE = 8000
CLIPS, SAMPLES = torch.export.Dim("clips"), torch.export.Dim("samples", min=400, max=RATE * 60)


class Network(nn.Module):
    """Waveforms -> logits, with what networks have inside: convolutions, norms, dropout, a layer over features."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Conv1d(1, 8, 80, 40)
        self.norm = nn.BatchNorm1d(8)
        self.block = nn.Sequential(nn.ReLU(), nn.Conv1d(8, 12, 3, padding=1), nn.ReLU())
        self.mix = nn.Linear(12, 20)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(20, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        x = self.block(self.norm(self.frames(waveforms[:, None])))
        logits: torch.Tensor = self.head(self.drop(self.mix(x.transpose(1, 2)).relu()).mean(1))
        return logits


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


def archived(
    folder: Path, network: nn.Module, facts: Any = None, shapes: Any = ({0: CLIPS, 1: SAMPLES},), *inputs: Any
) -> Path:
    path = folder / "net.pt2"
    program = torch.export.export(network, inputs or (torch.randn(3, RATE),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    facts = {"sample_rate": RATE, "class_names": ["dog", "rain"]} if facts is None else facts
    (folder / "net.json").write_text(json.dumps(facts))
    return path


def recorded(target: Target, seconds: float, n: int) -> dict[str, tuple[Floats, Floats]]:
    plans = plan_layers(target, match_layers(target.module, target.layers), seconds=(1.0, 2.0, 3.0, seconds))
    sounds = [noise(seconds, RATE, seed) for seed in range(n)]
    [(_, activations)] = probe(target, plans, [(np.arange(n, dtype=np.int32), sounds)])
    return activations


def test_an_archive_is_the_network_it_was_made_of(network: Network, tmp_path: Path) -> None:
    target = load_target(f"torch:{archived(tmp_path, network)}", trust_remote_code=True)
    assert target.sample_rate == RATE
    assert target.class_names == ("dog", "rain")
    assert target.layers == ("frames", "block.1", "mix", "head")
    assert not any(module.training for module in target.module.modules())
    written = Target(network, RATE, target.preprocess, layers=target.layers)
    for seconds, n in ((1.0, 1), (0.7, 3)):
        ours, theirs = recorded(target, seconds, n), recorded(written, seconds, n)
        assert list(ours) == list(theirs)
        for layer, (values, peaks) in ours.items():
            assert values == pytest.approx(theirs[layer][0], abs=1e-6)
            assert (peaks == theirs[layer][1]).all()
    with torch.inference_mode():
        sounds = target.preprocess([noise(1.0, RATE)] * 2)
        assert target.logits is not None
        assert target.logits(target.module(sounds)) == pytest.approx(network(sounds), abs=1e-6)
    assert weights_hash(target.module) == weights_hash(
        load_target(f"torch:{tmp_path / 'net.pt2'}", trust_remote_code=True).module
    )


def test_without_class_names(network: Network, tmp_path: Path) -> None:
    place = archived(tmp_path, network, {"sample_rate": RATE})
    target = load_target(f"torch:{place}", trust_remote_code=True)
    assert target.class_names is None
    assert target.logits is None


def refusal(path: Path, trusted: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        load_target(f"torch:{path}", trust_remote_code=trusted)
    message = str(caught.value)
    assert message.startswith(f"target 'torch:{path}'")
    assert "\n" not in message
    return message


def test_torchscript_shows_nothing(network: Network, tmp_path: Path) -> None:
    script = torch.jit.trace(network, torch.randn(1, RATE))
    torch.jit.save(script, tmp_path / "net.pt")
    with pytest.raises(RuntimeError, match="not supported on ScriptModules"):
        torch.jit.load(tmp_path / "net.pt").head.register_forward_hook(print)  # why
    assert "TorchScript, whose modules take no hooks" in refusal(tmp_path / "net.pt")


def test_what_is_no_archive(network: Network, tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "nowhere.pt2")
    (tmp_path / "text.pt2").write_text("not an archive")
    assert "no torch.export archive" in refusal(tmp_path / "text.pt2")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    assert "holds weights, but no network" in refusal(tmp_path / "weights.pt")
    path = archived(tmp_path, network)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "part.pt2", "w") as part:
        for name in whole.namelist():
            part.writestr(name, b"{}" if name.endswith("model.json") else whole.read(name))
    (tmp_path / "part.json").write_text(json.dumps({"sample_rate": RATE}))
    assert "cannot be loaded" in refusal(tmp_path / "part.pt2")


def test_the_facts_beside_it(network: Network, tmp_path: Path) -> None:
    path = archived(tmp_path, network)
    for content in ("{", "[]", "{}", '{"sample_rate": "fast"}', '{"sample_rate": 8000, "class_names": [1]}'):
        (tmp_path / "net.json").write_text(content)
        assert "does not hold" in refusal(path)
    (tmp_path / "net.json").unlink()
    assert "net.json is missing; it says at which rate" in refusal(path)


def test_programs_that_cannot_be_probed(network: Network, tmp_path: Path) -> None:
    assert "exported for batches of exactly 3" in refusal(archived(tmp_path, network, None, None))
    dropping = copy.deepcopy(network)
    dropping.drop.train()
    assert "exported in training mode" in refusal(archived(tmp_path, dropping))

    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    two = torch.randn(2, 9), torch.randn(2, 9)
    assert "takes a [2, 9], b [2, 9], not one tensor of waveforms" in refusal(
        archived(tmp_path, Two(), None, None, *two)
    )


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('sprung', 'w')",)


def trapped(path: Path, changed: Path, member: str) -> None:
    """Copy an archive with a trap in one of its members."""
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(changed, "w") as part:
        root = whole.namelist()[0].split("/")[0]
        for name in whole.namelist():
            content = whole.read(name)
            if member == "sample inputs" and "/sample_inputs/" in name:
                content = pickle.dumps(Trap())
            if member == "constant" and name.endswith("constants_config.json"):
                entry = {
                    "path_name": "opaque_obj_0",
                    "is_param": False,
                    "use_pickle": True,
                    "tensor_meta": None,
                }
                content = json.dumps({"config": {"x": entry}}).encode()
            if member == "expression" and name.endswith("model.json"):
                content = re.sub(
                    rb'"expr_str": "[^"]*"', b"\"expr_str\": \"open('sprung', 'w')\"", content, count=1
                )
                assert b"sprung" in content
            part.writestr(name, content)
        part.writestr(f"{root}/data/constants/opaque_obj_0", pickle.dumps(Trap()))


@pytest.mark.parametrize("member", ["sample inputs", "constant", "expression"])
def test_nothing_of_an_archive_is_run_without_trust(
    network: Network, tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, changed = archived(tmp_path, network), tmp_path / "trap.pt2"
    (tmp_path / "trap.json").write_text(json.dumps({"sample_rate": RATE}))
    trapped(path, changed, member)
    assert (
        "is a program, and reading it can run any code; if you trust it, add --trust-remote-code"
        in refusal(changed, trusted=False)
    )
    assert not (tmp_path / "sprung").exists()


def test_torch_itself_evaluates_what_an_archive_holds(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why trust is asked for: the trap is an expression, not a pickle."""
    monkeypatch.chdir(tmp_path)
    trapped(archived(tmp_path, network), tmp_path / "trap.pt2", "expression")
    (tmp_path / "trap.json").write_text(json.dumps({"sample_rate": RATE}))
    refusal(tmp_path / "trap.pt2", trusted=True)
    assert (tmp_path / "sprung").exists()
