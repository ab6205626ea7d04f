"""The site has the layout of the repository, so links between pages work in both; a hook of mkdocs.yml."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = (
    "*.md", "docs/*.md", "docs/*.png", "bench/README.md", "bench/results/*", "index/README.md", "models/manifest.toml",
)  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by all files of the repository that pages show or link to, at their own places."""
    theme = [file for file in files if Path(file.src_dir or "") != Path(config.docs_dir)]
    places = [path.relative_to(ROOT).as_posix() for shown in SHOWN for path in sorted(ROOT.glob(shown))]
    return Files([*theme, *(File.generated(config, p, abs_src_path=str(ROOT / p)) for p in places)])
