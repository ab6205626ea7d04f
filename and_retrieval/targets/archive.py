"""Targets from torch.export archives: `torch:FILE.pt2`, without the code the network was written in.

The archive is unflattened into the modules it was exported from, so that layers keep their names and hooks see
them. Beside it lies a JSON file of the same name that says what an archive cannot:

```json
{"sample_rate": 16000, "class_names": ["dog", "rain"]}
```

`class_names` may be left out. The network takes waveforms, float32 [clips, samples]; write it so that batches of
any size pass:

```python
shapes = {"waveforms": {0: torch.export.Dim("clips"), 1: torch.export.Dim("samples", min=8000, max=960000)}}
torch.export.save(torch.export.export(network.eval(), (waveforms,), dynamic_shapes=shapes), "network.pt2")
```

An archive is a program, like the Python file of a target: reading it evaluates expressions, calls operators by name and
unpickles objects that it holds, and torch offers no way to read it without that. So it is loaded only with
`--trust-remote-code` (`trust_remote_code=True`). TorchScript is refused: its modules take no hooks.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..checkpoints.named_code import ARCHIVE, note
from ..errors import InputError
from ..types import Floats, Target

UNITS_ON: tuple[tuple[str, int], ...] = (
    ("torch.nn.modules.conv.", 1),
    ("torch.nn.modules.batchnorm.", 1),
    ("torch.nn.modules.instancenorm.", 1),
    ("torch.nn.modules.pooling.", 1),
    ("torch.nn.modules.normalization.GroupNorm", 1),
    ("torch.nn.modules.normalization.", -1),
    ("torch.nn.modules.linear.", -1),
    ("torch.nn.modules.sparse.", -1),
)
"""What a module's class was called before export -> axis of its units; the first that begins so."""
WEIGHTY = ("torch.nn.modules.conv.", "torch.nn.modules.linear.Linear")
IN_TRAINING = {"aten.dropout.default": 2, "aten.batch_norm.default": 5, "aten.alpha_dropout.default": 2}
"""Operators that differ in training -> the argument that says so."""
SYNTAX = "torch.export.Dim('clips')"


def load(place: str, trusted: bool) -> Target:
    """The network in an archive, its modules and their names as before export.

    Args:
        place: Path of a file that `torch.export.save` wrote.
        trusted: Whether the user trusts the program code in it.

    Raises:
        InputError: There is no such file, it is no archive or not trusted, its JSON file is missing or says no sample
            rate, or it was exported in training mode or for one size of batch.
    """
    path = Path(place).expanduser()
    subject = f"target 'torch:{place}'"
    _check_kind(path, subject)
    facts = _facts(path.with_suffix(".json"), subject)
    if not trusted:
        raise InputError(
            f"{subject}: a torch.export archive is a program, and reading it can run any code; if you trust it, add "
            "--trust-remote-code (in Python: trust_remote_code=True)"
        )
    note(f"{ARCHIVE}{place}")
    try:
        program = torch.export.load(path)
        network = torch.export.unflatten(program)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{subject}: it cannot be loaded: {type(error).__name__}: {reason}") from error
    _check_program(program, subject)
    types = {name: _type_name(module) for name, module in network.named_modules() if name}
    names = facts.get("class_names")
    return Target(
        module=network,
        sample_rate=facts["sample_rate"],
        preprocess=_stacked,
        class_names=tuple(names) if names else None,
        logits=_itself if names else None,
        unit_axis={
            name: next(axis for start, axis in UNITS_ON if kind.startswith(start))
            for name, kind in types.items()
            if kind.startswith(tuple(start for start, _ in UNITS_ON))
        },
        layers=tuple(name for name, kind in types.items() if kind.startswith(WEIGHTY)),
        name=f"torch:{place}",
    )


def _stacked(waveforms: list[Floats]) -> torch.Tensor:
    return torch.from_numpy(np.stack(waveforms))


def _itself(output: torch.Tensor) -> torch.Tensor:
    return output


def _type_name(module: nn.Module) -> str:
    name = getattr(module, "type_name", None)
    return str(name()) if callable(name) else ""


def _check_kind(path: Path, subject: str) -> None:
    """Refuses what is no torch.export archive."""
    if not path.is_file():
        raise InputError(f"{subject}: there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{subject}: {path} is no torch.export archive; write one with torch.export.save")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any("/code/" in name for name in names):
            raise InputError(
                f"{subject}: {path} is TorchScript, whose modules take no hooks, so its units cannot be seen; "
                "export the network with torch.export.save, or name 'file.py:function'"
            )
        if not any("/models/" in name and name.endswith(".json") for name in names):
            raise InputError(
                f"{subject}: {path} holds weights, but no network; name a 'file.py:function' that builds it and "
                "loads them, or export it with torch.export.save"
            )


def _facts(path: Path, subject: str) -> dict[str, Any]:
    """What the JSON file beside the archive says."""
    form = '{"sample_rate": 16000, "class_names": ["dog", "rain"]}'
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        rate, names = facts["sample_rate"], facts.get("class_names") or []
    except FileNotFoundError:
        raise InputError(
            f"{subject}: {path} is missing; it says at which rate the network listens: {form}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{subject}: {path} does not hold {form}") from None
    if type(rate) is not int or rate <= 0 or not all(isinstance(name, str) for name in names):
        raise InputError(f"{subject}: {path} does not hold {form}")
    return dict(facts)


def _check_program(program: Any, subject: str) -> None:
    """Refuses programs that were exported in training mode, take no waveforms, or take one size of batch."""
    for node in program.graph.nodes:
        argument = IN_TRAINING.get(str(node.target), 0)
        if argument and len(node.args) > argument and node.args[argument] is True:
            raise InputError(f"{subject} was exported in training mode; export network.eval()")
    inputs = program.graph_signature.user_inputs
    shapes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.name in inputs}
    if len(inputs) != 1 or len(shapes[inputs[0]]) != 2:
        raise InputError(
            f"{subject} takes {', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}, not one tensor "
            "of waveforms [clips, samples]; export it with its preprocessing, or name 'file.py:function'"
        )
    if isinstance(size := shapes[inputs[0]][0], int):
        raise InputError(
            f"{subject} was exported for batches of exactly {size}; export it with "
            f"dynamic_shapes={{{inputs[0]!r}: {{0: {SYNTAX}, ...}}}}"
        )
