"""Targets by name, by file and by module; what goes wrong in user files comes back as one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from and_retrieval.checkpoints.devices import resolve_device
from and_retrieval.errors import InputError
from and_retrieval.network.hooks import forward
from and_retrieval.targets import REGISTRY, layer_names, load_target, user, weights_hash
from and_retrieval.types import Target

GOOD = """
from torch import nn
import torch, numpy as np
from and_retrieval.types import Target
def load():
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout())
    return Target(network, 8000, lambda waves: torch.from_numpy(np.stack(waves)[:, :4]))
"""


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def failure(spec: str) -> str:
    """The message, which must be a single line."""
    with pytest.raises(InputError) as caught:
        load_target(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_user_file_gives_a_frozen_named_network(tmp_path: Path) -> None:
    spec = write(tmp_path, GOOD) + ":load"
    before = list(sys.path)
    target = load_target(spec)
    assert target.name == spec
    assert not any(m.training for m in target.module.modules())
    assert not any(p.requires_grad for p in target.module.parameters())
    assert sys.path == before


def test_the_files_folder_is_importable_first_while_it_loads_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", "RATE = 1", "neighbour_of_mine.py")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    write(tmp_path, "RATE = 4321", "neighbour_of_mine.py")
    spec = write(tmp_path, "from neighbour_of_mine import RATE\n" + GOOD.replace("8000", "RATE")) + ":load"
    assert load_target(spec).sample_rate == 4321
    assert str(tmp_path) not in sys.path
    del sys.modules["neighbour_of_mine"]


def test_a_file_is_read_again_at_every_load(tmp_path: Path) -> None:
    spec = write(tmp_path, GOOD) + ":load"
    assert load_target(spec).sample_rate == 8000
    write(tmp_path, GOOD.replace("8000", "16000"))
    assert load_target(spec).sample_rate == 16000


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack_of_mine").mkdir()
    write(tmp_path / "pack_of_mine", "", "__init__.py")
    write(tmp_path / "pack_of_mine", GOOD, "net.py")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_target("pack_of_mine.net:load").sample_rate == 8000
    assert sys.path == before


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    message = failure("nothing-like-it")
    assert all(name in message for name in REGISTRY)
    assert "file.py:function" in message
    assert "did you mean yamnet" in failure("yamnett")


def test_missing_file_function_and_module(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert "no file" in failure(f"{tmp_path}/absent.py:load")
    assert "did you mean load" in failure(f"{path}:laod")
    assert "does not name a function" in failure(path)
    assert "does not name a function" in failure(f"{path}:")
    assert "no module named 'absent_pack'" in failure("absent_pack.net:load")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = [][3]\n", 2, "IndexError: list index out of range"),
        ("def load(:\n    pass\n", 1, "SyntaxError"),
        ("def load():\n    a = 1\n    raise ValueError('two\\nlines')\n", 3, "ValueError: two lines"),
        ("import sys\ndef load():\n    sys.exit('bye')\n", 3, "SystemExit: bye"),
        ("import json\ndef load():\n    json.loads('{')\n", 3, "JSONDecodeError"),
        ("import no_such_package_at_all\n", 1, "ModuleNotFoundError"),
    ],
)
def test_an_error_in_a_user_file_names_the_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = write(tmp_path, text)
    complaint = failure(f"{path}:load")
    assert f"{path}:{line}: " in complaint
    assert message in complaint
    assert str(tmp_path) not in sys.path


def test_an_error_below_the_imported_module_is_not_taken_for_a_missing_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "import no_such_package_at_all\n", "broken_of_mine.py")
    monkeypatch.chdir(tmp_path)
    assert "broken_of_mine.py:1: ModuleNotFoundError: No module named 'no_such" in failure(
        "broken_of_mine:load"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            ("return Target(network", "return (lambda *a: network)(network"),
            "returned Sequential, not a Target",
        ),
        (("def load()", "def load(size)"), "without arguments"),
        (("Target(network, 8000", "Target('net', 8000"), "module is str"),
        (("8000", "0"), "sample_rate is 0"),
        (("[:, :4]))", "[:, :4]), pooling={'*': 'mena'})"), "did you mean mean"),
        (("nn.Linear(4, 3)", "nn.LazyLinear(3)"), "lazy"),
        (("def load()", "load = 3\ndef other()"), "load is int"),
    ],
)
def test_what_a_function_returns_is_checked(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    assert change[0] in GOOD
    assert reason in failure(write(tmp_path, GOOD.replace(*change)) + ":load")


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="did you mean cuda"):
        resolve_device("cudda")
    with pytest.raises(InputError, match="does not exist here"):
        resolve_device("cuda:99")


def test_layer_names() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    assert layer_names(network) == ("0", "1", "1.0")
    assert layer_names(nn.ReLU()) == ()


def test_weights_hash_sees_values_shapes_dtypes_and_names() -> None:
    torch.manual_seed(0)
    one = nn.Linear(4, 2)
    two = nn.Linear(4, 2)
    two.load_state_dict(one.state_dict())
    first = weights_hash(one)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert weights_hash(two) == first
    with torch.no_grad():
        two.weight[1, 3] += 1e-6
    assert weights_hash(two) != first
    assert weights_hash(nn.Sequential(one)) != first
    alike = (((4,), torch.float32), ((2, 2), torch.float32), ((8,), torch.bfloat16), ((), torch.float32))
    zeros = [nn.ParameterList([torch.zeros(shape, dtype=dtype)]) for shape, dtype in alike]
    assert len({weights_hash(z) for z in zeros}) == len(zeros)
    assert weights_hash(nn.ReLU()) == weights_hash(nn.Sequential())


def test_weights_hash_takes_plain_values_of_stateful_modules() -> None:
    class Stateful(nn.Module):
        def __init__(self, extra: object) -> None:
            super().__init__()
            self.extra = extra

        def get_extra_state(self) -> object:
            return self.extra

    assert weights_hash(Stateful({"a": (1, torch.ones(2))})) != weights_hash(
        Stateful({"a": (2, torch.ones(2))})
    )
    assert weights_hash(Stateful(object())) == weights_hash(Stateful(object()))


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", user.__doc__ or "", re.DOTALL)
    assert example
    target = load_target(write(tmp_path, example[1]) + ":load")
    assert isinstance(target, Target)
    assert target.class_names is not None
    assert target.logits is not None
    waves = [np.random.default_rng(i).uniform(-1, 1, 16000).astype(np.float32) for i in range(2)]
    with torch.inference_mode():
        logits = target.logits(forward(target, waves))
    assert logits.shape == (2, len(target.class_names))
    # 1 kHz are 1000 mel; 64 centres up to 2840 mel lie 43.7 apart, the 23rd is the closest.
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    assert abs(int(target.preprocess([tone])[0, 0].mean(1).argmax()) - 22) <= 1
