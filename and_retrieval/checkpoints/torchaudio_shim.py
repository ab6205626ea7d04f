"""Lets torchaudio's pure-Python parts work where its compiled extension does not load.

The torchaudio wheel on the package index links CUDA. With a CPU-only torch, its extension fails with
`OSError: libc10_cuda.so`, and so does everything that imports torchaudio: sentence-transformers, and the CLAP
and AST classes of transformers. This package needs only the parts written in Python.

Importing this module installs a hook that costs nothing until torchaudio is imported. Then
`torchaudio._extension` is the real module if that loads, else an empty module.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

_EXTENSION = "torchaudio._extension"


class _ExtensionOrStub(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._real.exec_module(module)
        except (OSError, ImportError):
            for name in [n for n in sys.modules if n.startswith(_EXTENSION + ".")]:
                del sys.modules[name]
            vars(module).update(
                _IS_TORCHAUDIO_EXT_AVAILABLE=False,
                _IS_ALIGN_AVAILABLE=False,
                fail_if_no_align=_failing,
                _check_cuda_version=lambda: None,
            )


def _failing(function: Callable[..., object]) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(
            f"torchaudio's {function.__name__} needs its compiled extension, which did not load"
        )

    return fail


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _EXTENSION:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ExtensionOrStub(spec.loader)
        return spec


def install() -> None:
    """Install the hook; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


install()
