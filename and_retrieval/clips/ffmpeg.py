"""Sound that libsndfile does not know, decoded by FFmpeg where it is installed: no shell, bounded in time and bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .formats import UnreadableAudioError

PROBE_SECONDS = 20.0
DECODE_SECONDS = 60.0
BYTES_PER_SECOND = 250_000
"""A file gets `DECODE_SECONDS`, and one second more for so many bytes of it."""

# Demuxers that read sound from the one file they are given. Playlists and scripts, which name other files or hosts,
# are not among them.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dff,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,mp3,"
    "mpc,mpc8,mpeg,mpegts,mpegvideo,ogg,oma,qcp,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wsd,wv,xwma"
)
_INPUT = ("-v", "error", "-format_whitelist", DEMUXERS, "-protocol_whitelist", "file,pipe")
_ESTIMATED = frozenset(
    ["aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "loas", "mp3", "mpeg", "mpegts"]
)
"""Formats whose duration FFmpeg estimates from the bit rate."""


@dataclass(frozen=True)
class Stated:
    """What a file says of its first audio stream: rate in Hz, channels, length in seconds where it says one."""

    sample_rate: int
    channels: int
    seconds: float | None


def installed() -> bool:
    """Whether FFmpeg can be called here."""
    return shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None


def probe(path: Path) -> Stated:
    """What the file says of its first audio stream.

    Raises:
        UnreadableAudioError: FFmpeg does not know the file, or it holds no audio.
    """
    shown = "stream=sample_rate,channels,duration:format=format_name"
    command = ["ffprobe", *_INPUT, "-select_streams", "a:0", "-show_entries", shown, "-of", "json"]
    with tempfile.TemporaryFile() as out:
        reason = _run([*command, f"file:{path}"], out, PROBE_SECONDS)
        out.seek(0)
        try:
            answer: dict[str, Any] = json.loads(out.read(1 << 20) or b"{}")
        except ValueError:
            answer = {}
    if reason is not None and not answer.get("streams"):
        raise UnreadableAudioError(f"not readable as audio (FFmpeg: {reason})")
    streams = answer.get("streams") or []
    if not streams:
        raise UnreadableAudioError("no audio in the file")
    try:
        rate, channels = int(streams[0]["sample_rate"]), int(streams[0]["channels"])
    except (KeyError, ValueError):
        raise UnreadableAudioError("no audio in the file that FFmpeg can decode") from None
    names = set(str(answer.get("format", {}).get("format_name", "")).split(","))
    try:
        seconds = None if names & _ESTIMATED else float(streams[0]["duration"])
    except (KeyError, ValueError):
        seconds = None
    return Stated(rate, channels, seconds)


def decode(path: Path, stated: Stated, out: IO[bytes], most: int) -> str | None:
    """Write the first audio stream as raw float32, channels interleaved, at its own rate.

    Args:
        path: The file.
        stated: What `probe` says of it.
        out: A real file, written from where it stands.
        most: Bytes at which decoding stops.

    Returns:
        Why FFmpeg stopped before the end, or None.
    """
    command = [
        "ffmpeg", "-nostdin", *_INPUT, "-threads", "1", "-i", f"file:{path}", "-map", "0:a:0", "-vn", "-sn", "-dn",
        "-ar", str(stated.sample_rate), "-ac", str(stated.channels), "-fs", str(most), "-f", "f32le", "pipe:1",
    ]  # fmt: skip
    return _run(command, out, DECODE_SECONDS + path.stat().st_size / BYTES_PER_SECOND)


def _run(command: list[str], out: IO[bytes], seconds: float) -> str | None:
    """Run to the end or for so many seconds; the reason of a failure, or None."""
    with tempfile.TemporaryFile() as errors:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, timeout=seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return f"not done after {seconds:.0f} s"
        except OSError as error:
            return error.strerror or "cannot be started"
        errors.seek(0)
        lines = errors.read(4_096).decode("utf-8", "replace").splitlines()
    if code == 0:
        return None
    last = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
    return last.replace(f"file:{command[-1].removeprefix('file:')}: ", "").strip()[:200]
