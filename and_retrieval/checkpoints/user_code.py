"""Finds and calls a user's function, named as `path/to/file.py:function` or `package.module:function`.

An exception in the user's code becomes a message of one line that says where it was raised.
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
from . import (
    named_code,
    torchaudio_shim,  # noqa: F401  (a user's code may import torchaudio)
)

FORMS = "'path/to/file.py:function' or 'package.module:function'"
LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class UserFunction:
    """A function that the user named.

    Attributes:
        spec: `path/to/file.py:function` or `package.module:function`, as typed.
        kind: What the function makes, in one word for messages, such as `target`.
        returns: What the function returns, for messages, such as `a Target`.
        offered: Keyword arguments; the function gets those for which it has parameters.
    """

    spec: str
    kind: str
    returns: str
    offered: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The kind and the spec, for messages: `target 'my_network.py:load'`."""
        return f"{self.kind} {self.spec!r}"

    def call(self) -> Any:
        """Call the function and return its result.

        A file is executed anew at every call. Its folder (for the form `package.module:function`, the current
        folder) can be imported from only until the function has returned.

        Raises:
            InputError: The file, module or function is missing, or the user's code failed; the message names
                the line on which it failed.
        """
        spec = self.spec
        where, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
        if not name or not where:
            raise InputError(f"{self.subject} does not name a function: write {FORMS}")
        named_code.note(spec)
        path = Path(where).expanduser()
        is_file = where.endswith(".py")
        if is_file and not path.is_file():
            raise InputError(f"{self.subject}: there is no file {where}; write {FORMS}")
        with _importable(path.resolve().parent if is_file else Path.cwd(), first=is_file):
            module = self._run_file(path.resolve()) if is_file else self._import(where)
            function, given = self._function(module, name, where)
            with explained(self.subject, module.__file__):
                return function(**given)

    def _run_file(self, path: Path) -> ModuleType:
        name = f"and_retrieval_{self.kind}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
        plan = importlib.util.spec_from_file_location(name, path)
        if plan is None or plan.loader is None:
            raise InputError(f"{self.subject}: {path} cannot be loaded as Python")
        module = importlib.util.module_from_spec(plan)
        sys.modules[name] = module  # dataclasses look up their module while it is executed
        try:
            with explained(self.subject, str(path)):
                plan.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def _import(self, name: str) -> ModuleType:
        try:
            with explained(self.subject, None):
                return importlib.import_module(name)
        except InputError as error:
            cause = error.__cause__
            if (
                isinstance(cause, ModuleNotFoundError)
                and cause.name
                and f"{name}.".startswith(f"{cause.name}.")
            ):
                raise InputError(f"{self.subject}: no module named {cause.name!r}; write {FORMS}") from cause
            raise

    def _function(
        self, module: ModuleType, name: str, where: str
    ) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The function, and the offered arguments for which it has parameters."""
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
def explained(subject: str, file: str | None) -> Iterator[None]:
    """Turn an exception in the user's code into an InputError of one line that says where it was raised.

    Args:
        subject: Kind and name of the user's function, such as `target 'my_network.py:load'`.
        file: The user's file; the message names the innermost line in it. None for the innermost line anywhere.

    Raises:
        InputError: The block raised any exception that is not an AndRetrievalError.
    """
    try:
        yield
    except AndRetrievalError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{subject} failed at {_summary(error, file)}") from error


@contextmanager
def _importable(folder: Path, first: bool) -> Iterator[None]:
    """Put `folder` on the import path during the block, at its start or at its end."""
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            # An entry that was appended is the last of its kind.
            at = sys.path.index(entry) if first else len(sys.path) - 1 - sys.path[::-1].index(entry)
            del sys.path[at]


def _summary(error: BaseException, file: str | None) -> str:
    """`file:line: message` of the innermost line in the user's file, else of the innermost line anywhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    message = " ".join(str(error).split())[:LONGEST_MESSAGE]
    return f"{last.filename}:{last.lineno}: {type(error).__name__}: {message}"
