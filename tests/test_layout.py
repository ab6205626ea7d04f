"""The layers of the package: a module imports only from those above it, and the front doors open at once."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import and_retrieval

PACKAGE = Path(and_retrieval.__file__).parent

ARCHITECTURE = PACKAGE.parent / "ARCHITECTURE.md"


def floors() -> tuple[str, ...]:
    """The modules and packages in the order of ARCHITECTURE.md's table, ground floor first."""
    rows = re.findall(r"^\| `([\w` ]+)` \|", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(name for row in rows for name in row.replace("`", "").split())


ORDER = floors()
HEAVY = (
    "torch",
    "torchaudio",
    "faiss",
    "transformers",
    "sentence_transformers",
    "llama_cpp",
    "onnx",
    "scipy",
)
LIGHT = (
    "types", "errors", "config", "progress", "files", "store", "checkpoints.bundled", "clips.files", "clips.source",
    "concepts", "cli",
)  # fmt: skip


def modules() -> dict[str, list[Path]]:
    """Module or package -> its files, the package's own front (`and_retrieval/__init__`) left out."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            rooms.setdefault(parts[0], []).append(path)
    return rooms


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports anywhere in it, `__init__` for names of the package itself."""
    depth = len(path.relative_to(PACKAGE).parts)  # how many dots lead to the package
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names if alias.name.startswith("and_retrieval")]
            yield from (names[1] if len(names) > 1 else "__init__" for names in dotted)
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level == depth or (node.level == 0 and module[:1] == ["and_retrieval"]):
                inner = module if node.level else module[1:]
                names = inner[:1] or [alias.name for alias in node.names]
                yield from (name if name in ORDER else "__init__" for name in names)


def test_every_module_has_its_place() -> None:
    assert set(modules()) <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("name", list(modules()))
def test_a_module_imports_only_from_those_above_it(name: str) -> None:
    above = {*ORDER[: ORDER.index(name)], name}
    if name in ("cli", "__main__"):
        above.add("__init__")  # the version
    for path in modules()[name]:
        wrong = set(imported(path)) - above
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"


def test_the_imports_are_seen() -> None:
    assert {"config", "errors", "files", "types"} <= set(imported(PACKAGE / "clips/source.py"))
    assert {"types", "checkpoints"} <= set(imported(PACKAGE / "embed/statistics.py"))
    assert {"__init__", "store"} <= set(imported(PACKAGE / "cli/__init__.py"))
    assert {"errors", "search"} <= set(imported(PACKAGE / "cli/search.py"))  # inside functions too


def test_few_modules_lie_outside_the_rooms() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]) <= 14


def test_a_release_holds_the_whole_package() -> None:
    """`models/` lies beside the package and joins it in a wheel, so setuptools cannot find all parts by itself."""
    build = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    folders = {path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py")}
    assert sorted(build["packages"]) == sorted(
        ["and_retrieval.models", *(".".join(folder.parts) for folder in folders)]
    )
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    data = {path for pattern in build["package-data"]["and_retrieval"] for path in PACKAGE.glob(pattern)}
    assert {path for path in files if path.suffix != ".py"} == {path for path in data if path.is_file()}


def test_only_the_front_doors_import_the_facade() -> None:
    users = {name for name, paths in modules().items() for path in paths if "run" in imported(path)}
    assert users <= {"cli", "__main__", "serve"}
    assert {name for name, paths in modules().items() for path in paths if "cli" in imported(path)} == {
        "__main__"
    }


def loaded_after(program: str) -> Any:
    """Names of the heavy packages that a fresh interpreter has loaded after a program."""
    report = f"\nimport json, sys\nprint(json.dumps([n for n in {(*HEAVY, 'numpy')!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program + report], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_only_development_needs_is_never_imported() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split("[<>=]", line)[0] for line in project["optional-dependencies"]["dev"]}
    modules = {name.replace("-", "_") for name in names}
    assert {"hypothesis", "playwright"} <= modules
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            from_there = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            whole = [alias.name for alias in node.names] if isinstance(node, ast.Import) else from_there
            assert modules.isdisjoint(name.split(".")[0] for name in whole), path


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import and_retrieval; and_retrieval.__version__; dir(and_retrieval)") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["index", "--help"], ["search", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "from and_retrieval.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded_after(program) == []


def test_light_modules_load_nothing_heavy() -> None:
    assert set(loaded_after("import " + ", ".join(f"and_retrieval.{name}" for name in LIGHT))) <= {"numpy"}


def test_every_public_name_can_be_loaded() -> None:
    for name in and_retrieval.__all__:
        assert getattr(and_retrieval, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = and_retrieval.nothing
