"""Addresses at which machines that share no folder leave their shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.core import url_to_fs


@dataclass(frozen=True)
class Place:
    """A folder at an address, as somebody sees it who knows nothing of shards."""

    url: str

    def __truediv__(self, name: str) -> str:
        return f"{url_to_fs(self.url)[1]}/{name}"

    @property
    def system(self) -> Any:
        return url_to_fs(self.url)[0]

    def names(self) -> set[str]:
        self.system.invalidate_cache()
        return {Path(path).name for path in self.system.ls(url_to_fs(self.url)[1], detail=False)}

    def read(self, name: str) -> bytes:
        return self.system.cat_file(self / name)

    def write(self, name: str, text: bytes) -> None:
        self.system.pipe_file(self / name, text)

    def remove(self, name: str) -> None:
        self.system.rm_file(self / name)

    def file_of(self, number: int) -> str:
        """Name of the file of a shard."""
        return next(name for name in self.names() if name.startswith(f"{number:05d}-"))


@contextmanager
def s3_bucket() -> Iterator[str]:
    """The address of a bucket of an S3 server on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        url_to_fs("s3://bucket")[0].mkdir("bucket")
        yield "s3://bucket"
    server.stop()
