"""What a file is: sound that libsndfile reads, sound that FFmpeg would read, or none, by name and by first bytes."""

from __future__ import annotations

from pathlib import Path

HEAD = 512  # bytes that tell a format

EXTENSIONS = frozenset(
    {
        ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga", ".aif",
        ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".sph", ".nist", ".ircam", ".svx", ".8svx", ".avr", ".pvf",
        ".paf", ".sds", ".wve",
    }
)  # fmt: skip
"""Endings of files that libsndfile reads, lower case."""

WITH_FFMPEG = {
    ending: words
    for words, endings in {
        "MP4": ".m4a .m4b .m4p .m4r .mp4 .m4v .mov .qt .3gp .3gpp .3g2 .3ga .f4a .f4v",
        "AAC": ".aac .adts .loas",
        "Matroska or WebM": ".mkv .mka .webm .weba",
        "Windows Media": ".wma .wmv .asf .xwma",
        "AMR": ".amr .awb",
        "Dolby Digital": ".ac3 .eac3 .ec3 .thd .mlp",
        "DTS": ".dts .dtshd",
        "Monkey's Audio": ".ape",
        "WavPack": ".wv",
        "True Audio": ".tta",
        "Musepack": ".mpc .mpp .mp+",
        "Speex": ".spx",
        "RealMedia": ".ra .rm .rmvb .ram",
        "DSD": ".dsf .dff",
        "Shorten": ".shn",
        "TAK": ".tak",
        "ATRAC": ".oma .aa3 .at3",
        "QCP": ".qcp",
        "Flash video": ".flv",
        "AVI": ".avi .divx",
        "MPEG": ".mpg .mpeg .mpa .mp1 .m2a .vob .m2ts .mts",
        "Ogg video": ".ogv .ogx .ogm",
        "Sound eXchange": ".sox",
    }.items()
    for ending in endings.split()
}
"""Endings of sound, and of video that may hold sound, that FFmpeg reads -> the format in words."""

NOT_READ = {
    ".mid": "notes, no sound; render it to .wav first",
    ".midi": "notes, no sound; render it to .wav first",
    ".kar": "notes, no sound; render it to .wav first",
    ".pcm": "samples without a header that gives rate and format; convert it to .wav",
    ".raw": "samples without a header that gives rate and format; convert it to .wav",
    ".vox": "samples without a header that gives rate and format; convert it to .wav",
    ".gsm": "samples without a header that gives rate and format; convert it to .wav",
    ".aax": "encrypted; convert it to .wav",
    ".cda": "a pointer to a track of a CD, no sound; copy the track",
    ".xm": "a tracker module; render it to .wav first",
    ".s3m": "a tracker module; render it to .wav first",
}
"""Endings of what looks like sound and is read by nothing here -> why, and what to do."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WAVE", "WAV"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (0, b"Creative Voice File", "VOC"),
    (0, b"NIST_1A", "NIST"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (0, b"#!AMR", "AMR"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b".RMF", "RealMedia"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b"ajkg", "Shorten"),
    (0, b"tBaK", "TAK"),
    (0, b"FLV\x01", "Flash video"),
    (8, b"AVI ", "AVI"),
    (0, b"\x00\x00\x01\xba", "MPEG"),
    (0, b"\x0bw", "Dolby Digital"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
)
_WEAK = frozenset({"Dolby Digital", "MP3", "Monkey's Audio", "Musepack"})  # too short to go by alone
_MP4_BRANDS = (b"M4", b"mp4", b"iso", b"qt  ", b"3g", b"dash", b"MSNV", b"F4", b"avc1", b"mmp4", b"NDS")
_BY_LIBSNDFILE = frozenset({"WAV", "AIFF", "FLAC", "Ogg", "MP3", "AU", "CAF", "W64", "VOC", "NIST"})


class UnreadableAudioError(Exception):
    """A file or a window of it cannot be used; the message is the reason, shown in the list of skipped clips."""


def content_format(head: bytes) -> str | None:
    """The format that a file's first `HEAD` bytes belong to, in words, or None."""
    for offset, magic, words in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return "Speex" if words == "Ogg" and head[28:36] == b"Speex   " else words
    if head[4:8] == b"ftyp":
        return "MP4" if head[8:12].startswith(_MP4_BRANDS) else None  # pictures have other brands
    if head[4:8] in (b"moov", b"wide") or (head[4:8] == b"mdat" and head[0] == 0):
        return "MP4"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "MPEG"
    return "AAC" if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0 else None


def ffmpeg_format(suffix: str, head: bytes) -> str | None:
    """In words, the format of a file that libsndfile does not know and FFmpeg may read, or None."""
    by_content = content_format(head)
    if by_content is not None:
        return by_content
    return WITH_FFMPEG.get(suffix.lower())


def looks_like_sound(suffix: str) -> bool:
    """Whether a file's ending is one of sound, or of video that may hold sound."""
    suffix = suffix.lower()
    return suffix in EXTENSIONS or suffix in WITH_FFMPEG or suffix in NOT_READ


def misnamed(path: Path) -> str | None:
    """Why a file is passed over whose content is sound though its name does not say so; None where it is not.

    Raises:
        OSError: It cannot be opened.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    words = content_format(head)
    if words is None or (words in _WEAK and not (words == "MP3" and _is_id3(head))) or words == "AAC":
        return None
    ending = next((e for e, w in WITH_FFMPEG.items() if w == words), f".{words.lower()}")
    return f"by its content {words}, but its name does not say so; rename it to end in {ending}"


def _is_id3(head: bytes) -> bool:
    return len(head) >= 10 and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80
