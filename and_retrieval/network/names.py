"""Names of layers: which of them a glob means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from ..errors import unknown_name


def matches(layer: str, glob: str, aliases: Mapping[str, str]) -> bool:
    """Whether a glob matches a layer's name or one of its aliases. A `*` matches dots too.

    Args:
        layer: Dotted name of a module.
        glob: Pattern, case-sensitive.
        aliases: Short name -> layer.
    """
    names = (layer, *(alias for alias, name in aliases.items() if name == layer))
    return any(fnmatchcase(name, glob) for name in names)


def deciding_glob(globs: Iterable[str], layer: str) -> str | None:
    """The first glob that matches a layer's name: of what a target declares by globs, that for this one holds."""
    return next((glob for glob in globs if fnmatchcase(layer, glob)), None)


def recorded_layers(
    globs: Sequence[str], layers: Sequence[str], aliases: Mapping[str, str], remedy: str = ""
) -> tuple[str, ...]:
    """Those of a recording's layers that any of the globs matches, by name or alias, in their order.

    Raises:
        InputError: A glob matches none; the message lists what there is, and `remedy`.
    """
    for glob in globs:
        if not any(matches(layer, glob, aliases) for layer in layers):
            raise unknown_name("recorded layer", glob, (*layers, *aliases), remedy)
    return tuple(layer for layer in layers if any(matches(layer, glob, aliases) for glob in globs))
