"""A function of the user's, named as `path/to/file.py:function` or `package.module:function`, found and called.

What its code raises comes back as one line that says where it happened.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import AndRetrievalError, InputError, unknown_name
from . import torchaudio_shim  # noqa: F401  (a user's code may import torchaudio)

FORMS = "'path/to/file.py:function' or 'package.module:function'"
LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class UserFunction:
    """A function that the user named.

    Attributes:
        spec: `path/to/file.py:function` or `package.module:function`, as it was typed.
        kind: What it makes, in a word for messages, such as `target`.
        returns: The same as an object: `a Target`.
        offered: Keyword arguments for a function that has parameters of these names; others are not given.
    """

    spec: str
    kind: str
    returns: str
    offered: Mapping[str, Any] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What the user asked for, for messages: `target 'my_network.py:load'`."""
        return f"{self.kind} {self.spec!r}"

    def call(self) -> Any:
        """What the function returns.

        A file is executed afresh at every call; its folder (for the form `package.module:function`: the
        current folder) is importable only until the function has returned.

        Raises:
            InputError: File, module or function is missing, or the user's code failed; the message carries
                the line it failed on.
        """
        spec = self.spec
        where, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
        if not name or not where:
            raise InputError(f"{self.what} names no function: write {FORMS}")
        path = Path(where).expanduser()
        is_file = where.endswith(".py")
        if is_file and not path.is_file():
            raise InputError(f"{self.what}: no file {where}; write {FORMS}")
        with _importable(path.resolve().parent if is_file else Path.cwd(), first=is_file):
            module = self._run_file(path.resolve()) if is_file else self._import(where)
            function, given = self._function(module, name, where)
            with explained(self.what, module.__file__):
                return function(**given)

    def _run_file(self, path: Path) -> ModuleType:
        name = f"and_retrieval_{self.kind}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
        plan = importlib.util.spec_from_file_location(name, path)
        if plan is None or plan.loader is None:
            raise InputError(f"{self.what}: {path} cannot be loaded as Python")
        module = importlib.util.module_from_spec(plan)
        sys.modules[name] = module  # dataclasses look their module up while it runs
        try:
            with explained(self.what, str(path)):
                plan.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def _import(self, name: str) -> ModuleType:
        try:
            with explained(self.what, None):
                return importlib.import_module(name)
        except InputError as error:
            cause = error.__cause__
            if (
                isinstance(cause, ModuleNotFoundError)
                and cause.name
                and f"{name}.".startswith(f"{cause.name}.")
            ):
                raise InputError(f"{self.what}: no module named {cause.name!r}; write {FORMS}") from cause
            raise

    def _function(
        self, module: ModuleType, name: str, where: str
    ) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The function, and those of the offered arguments that it has parameters for."""
        function = getattr(module, name, None)
        if function is None:
            defined = [
                n
                for n, v in vars(module).items()
                if inspect.isfunction(v) and v.__module__ == module.__name__
            ]
            also = f" (or {' and '.join(self.offered)})" if self.offered else ""
            remedy = f"it takes no arguments{also} and returns {self.returns}"
            raise unknown_name(f"function of {where}", name, defined, remedy)
        if not callable(function):
            raise InputError(
                f"{where}:{name} is {type(function).__name__}, not a function that returns {self.returns}"
            )
        signature = inspect.signature(function)
        given = {key: value for key, value in self.offered.items() if key in signature.parameters}
        try:
            signature.bind(**given)
        except TypeError as error:
            raise InputError(f"{where}:{name} must be callable without arguments: {error}") from error
        return function, given


@contextmanager
def explained(what: str, file: str | None) -> Iterator[None]:
    """Turns what the user's code raises into one line that says where it happened.

    Args:
        what: What the user asked for, such as `target 'my_network.py:load'`.
        file: The user's file, whose deepest line is named; None for the deepest line of all.

    Raises:
        InputError: In place of any exception of the block that is not one of ours.
    """
    try:
        yield
    except AndRetrievalError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{what} failed at {_summary(error, file)}") from error


@contextmanager
def _importable(folder: Path, first: bool) -> Iterator[None]:
    """`folder` on the import path, before everything else or behind it."""
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            # Behind everything else, the entry to take off again is the last of its kind.
            at = sys.path.index(entry) if first else len(sys.path) - 1 - sys.path[::-1].index(entry)
            del sys.path[at]


def _summary(error: BaseException, file: str | None) -> str:
    """`file:line: message` of the deepest line in the user's file, else of the deepest line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    message = " ".join(str(error).split())[:LONGEST_MESSAGE]
    return f"{last.filename}:{last.lineno}: {type(error).__name__}: {message}"
