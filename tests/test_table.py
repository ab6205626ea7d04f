"""Tables of sounds as people write them: every separator, odd quotes, events, and every line that is passed over."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sounds import WriteSound, noise, tone

from and_retrieval.clips import files
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.clips.table import read_table
from and_retrieval.config import ClipConfig
from and_retrieval.errors import InputError
from and_retrieval.types import Clip, ProbeSet


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number, name in enumerate("abc"):
        write_sound(f"{name}.wav", noise(12.0, 4_000, number), 4_000)
    return tmp_path


def table(folder: Path, text: str | bytes, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def cells(clips: tuple[Clip, ...]) -> list[tuple[str, str | None, str | None, str | None]]:
    return [(clip.path, clip.label, clip.caption, clip.fold) for clip in clips if not clip.start]


def reasons(probe: ProbeSet) -> list[tuple[str, str]]:
    return [(Path(miss.path).name, miss.reason) for miss in probe.skipped]


class TestColumns:
    @pytest.mark.parametrize(
        "header", ["Path,Label,Caption,Fold", "PATH , LABEL,  Caption ,FOLD", '"Path",label,caption,"Fold"']
    )
    def test_in_any_case(self, header: str, sounds: Path) -> None:
        probe = load_clips(table(sounds, f"{header}\na.wav,dog,a dog barks,2\n"))
        assert cells(probe.clips) == [("a.wav", "dog", "a dog barks", "2")]
        assert probe.columns == {"label", "caption", "fold"}

    @pytest.mark.parametrize("names", ["caption_1,caption_2,Caption_3", "caption1,caption,caption 2"])
    def test_of_several_captions(self, names: str, sounds: Path) -> None:
        rows = "a.wav,barks,howls,barks,3\nb.wav,,meows,,3\nc.wav,,,,3\n"
        probe = load_clips(table(sounds, f"path,{names},captions\n{rows}"))
        assert {clip.captions for clip in probe.clips if clip.path == "a.wav"} == {("barks", "howls")}
        assert [clip.captions for clip in probe.clips if not clip.start][1:] == [("meows",), ()]
        assert probe.columns == {"caption"}

    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_separated_by_anything(self, separator: str, end: str, mark: str, sounds: Path) -> None:
        other = ";" if separator == "," else ","
        lines = [
            ["path", "label", "caption"],
            ["a.wav", "dog", f"barks{other} howls"],
            ["b.wav", "cat", '"a ""loud"" one"'],
        ]
        text = mark + end.join(separator.join(line) for line in lines) + end
        probe = load_clips(table(sounds, text))
        assert cells(probe.clips) == [
            ("a.wav", "dog", f"barks{other} howls", None), ("b.wav", "cat", 'a "loud" one', None),
        ]  # fmt: skip

    def test_of_a_spreadsheet(self, sounds: Path) -> None:
        wide = "path\tlabel\r\na.wav\tHündchen\r\n".encode("utf-16")
        assert cells(load_clips(table(sounds, wide, "wide.txt")).clips) == [("a.wav", "Hündchen", None, None)]
        probe = load_clips(table(sounds, "sep=;\npath;label\na.wav;dog\n"))
        assert cells(probe.clips) == [("a.wav", "dog", None, None)]

    @pytest.mark.parametrize("name", ["x.tsv", "x.tab", "x.txt", "x.CSV"])
    def test_under_other_names(self, name: str, sounds: Path) -> None:
        assert len(load_clips(table(sounds, "path\tlabel\na.wav\tdog\n", name)).clips) == 2

    def test_without_path_are_named_as_they_are_separated(self, sounds: Path) -> None:
        with pytest.raises(InputError, match=r"no column named path; its columns: file, label$"):
            load_clips(table(sounds, "file\tlabel\na.wav\tdog\n"))

    def test_that_occur_twice(self, sounds: Path) -> None:
        probe = load_clips(table(sounds, "path,label,label\na.wav,dog,cat\n"))
        assert cells(probe.clips) == [("a.wav", "dog", None, None)]
        assert probe.notes == ("clips.csv: column label occurs more than once; the first is read",)


class TestLines:
    def test_with_more_cells_than_columns_are_listed(self, sounds: Path) -> None:
        text = (
            "path,label,caption,fold\na.wav,dog,barks,1\nb.wav,dog,barks, then howls,2\nc.wav,cat,meows,3\n"
        )
        probe = load_clips(table(sounds, text))
        assert cells(probe.clips) == [("a.wav", "dog", "barks", "1"), ("c.wav", "cat", "meows", "3")]
        assert reasons(probe) == [
            (
                "clips.csv",
                "line 3: 5 cells where the header has 4 columns; put quotes around a text that holds commas",
            )
        ]

    def test_with_a_comma_too_many_are_listed_even_where_the_last_cell_is_empty(self, sounds: Path) -> None:
        probe = load_clips(table(sounds, "path,caption,fold\na.wav,barks,1\nb.wav,barks, howls,\n"))
        assert cells(probe.clips) == [("a.wav", None, "barks", "1")]
        assert reasons(probe)[0][1].startswith("line 3: 4 cells where the header has 3 columns")
        every = load_clips(table(sounds, "path,caption\na.wav,barks,\nb.wav,meows,\n"))
        assert len(every.clips) == 4

    def test_with_a_quote_that_is_not_closed_take_no_other_with_them(self, sounds: Path) -> None:
        text = 'path,caption,fold\na.wav,"barks,1\nb.wav,meows,2\nc.wav,"meows, softly",3\n'
        probe = load_clips(table(sounds, text))
        assert cells(probe.clips) == [("b.wav", None, "meows", "2"), ("c.wav", None, "meows, softly", "3")]
        assert [name for name, _ in reasons(probe)] == ["clips.csv"]
        assert reasons(probe)[0][1].startswith("line 2: a quote is opened and not closed")

    def test_with_quotes_in_odd_places(self, sounds: Path) -> None:
        text = 'path, caption\na.wav, "barks, twice"\nb.wav,"a dog" barks\nc.wav,a 5" pipe\n'
        assert cells(load_clips(table(sounds, text)).clips) == [
            ("a.wav", None, "barks, twice", None),
            ("b.wav", None, "a dog barks", None),
            ("c.wav", None, 'a 5" pipe', None),
        ]

    def test_that_are_empty_or_span_several(self, sounds: Path) -> None:
        text = 'path,caption\r\n\r\na.wav,"barks\r\nand howls"\r\n,\r\n   \r\nb.wav,meows\r\n,lost\r\n'
        probe = load_clips(table(sounds, text))
        assert [caption for _, _, caption, _ in cells(probe.clips)] == ["barks\r\nand howls", "meows"]
        assert reasons(probe) == [("clips.csv", "no path in line 8")]

    def test_that_are_not_utf8_are_listed(self, sounds: Path) -> None:
        probe = load_clips(table(sounds, b"path,label\na.wav,dog\nb.wav,H\xfcndchen\n"))
        assert cells(probe.clips) == [("a.wav", "dog", None, None)]
        assert reasons(probe) == [("clips.csv", "line 3: not UTF-8; save the table as UTF-8")]

    def test_that_give_a_file_again(self, sounds: Path) -> None:
        text = (
            "path,caption\n"
            + "".join(f"{name}.wav,caption {n}\n" for name in "ab" for n in range(5))
            + "c.wav,x\nc.wav,x\n"
        )
        probe = load_clips(table(sounds, text))
        five = tuple(f"caption {n}" for n in range(5))
        assert [clip.captions for clip in probe.clips if not clip.start] == [five, five, ("x",)]
        assert probe.notes == ()

    def test_that_give_a_file_another_label_or_fold(self, sounds: Path) -> None:
        text = "path,label,fold,caption\na.wav,dog,1,barks\na.wav,cat,1,meows\n./a.wav,,2,\na.wav,,,howls\n"
        probe = load_clips(table(sounds, text))
        assert cells(probe.clips) == [("a.wav", "dog", "barks", "1")]
        assert probe.clips[0].captions == ("barks", "meows", "howls")
        assert probe.notes == (
            "2 lines give a file another label or fold than an earlier line does; the first is kept, not lines 3, 4",
        )

    def test_that_give_captions_to_events(self, sounds: Path) -> None:
        text = (
            "path,start,end,caption\na.wav,0,0.4,one\na.wav,0.5,0.9,two\na.wav,0,0.4,three\na.wav,0,0.4,one\n"
        )
        probe = load_clips(table(sounds, text))
        assert [(clip.start, clip.captions) for clip in probe.clips] == [
            (0.0, ("one", "three")),
            (0.5, ("two",)),
        ]

    def test_of_files_with_windows_separators(self, sounds: Path, write_sound: WriteSound) -> None:
        write_sound("dog/d.wav", noise(1.0))
        assert [c.path for c in load_clips(table(sounds, "path\ndog\\d.wav\n")).clips] == ["dog/d.wav"]


class TestEvents:
    def test_become_clips(self, sounds: Path) -> None:
        rows = [(name, start, start + 1.5) for name in "abc" for start in (0.0, 2.0, 2.5, 9.0)]
        text = "path,start,end,label\n" + "".join(f"{n}.wav,{a},{b},event {a}\n" for n, a, b in rows)
        probe = load_clips(table(sounds, text))
        assert [(c.path[0], c.start, c.start + c.duration) for c in probe.clips] == rows
        assert len({c.id for c in probe.clips}) == 12
        assert not probe.skipped
        assert not probe.notes
        for clip in probe.clips:
            whole = noise(12.0, 4_000, "abc".index(clip.path[0]))
            first = round(clip.start * 4_000)
            np.testing.assert_allclose(read_clip(clip, 4_000), whole[first : first + 6_000], atol=1e-4)

    @pytest.mark.parametrize(
        ("header", "cells", "span"),
        [
            ("path,start,duration", "a.wav,2,3", (2, 3)),
            ("path,onset,offset", "a.wav,2,5", (2, 3)),
            ("path,Start , END", "a.wav, 2.0 ,5", (2, 3)),
            ("path,start,end,duration", "a.wav,2,5,3", (2, 3)),
            ("path,start,end", "a.wav,4,", (4, 8)),
            ("path,start,end", "a.wav,,4", (0, 4)),
            ("path;start;end", "a.wav;1,5;2,25", (1.5, 0.75)),
        ],
    )
    def test_in_every_way_of_saying_when(
        self, header: str, cells: str, span: tuple[float, float], sounds: Path
    ) -> None:
        (clip,) = load_clips(table(sounds, f"{header}\n{cells}\n")).clips
        assert (clip.start, clip.duration) == span

    def test_without_a_start_are_whole_files_and_long_ones_are_cut(self, sounds: Path) -> None:
        text = "path,start,end\na.wav,,\nb.wav,0.5,11.75\n"
        clips = load_clips(table(sounds, text), ClipConfig(window=5.0)).clips
        assert [(c.path, c.start, c.duration) for c in clips] == [
            ("a.wav", 0, 5), ("a.wav", 5, 5), ("a.wav", 10, 2),
            ("b.wav", 0.5, 5), ("b.wav", 5.5, 5), ("b.wav", 10.5, 1.25),
        ]  # fmt: skip

    def test_the_length_of_files_alone_means_no_events(self, sounds: Path) -> None:
        clips = load_clips(table(sounds, "path,duration\na.wav,3.5\n")).clips
        assert [(c.start, c.duration) for c in clips] == [(0, 10), (10, 2)]

    def test_that_cannot_be_are_listed_with_their_line(self, sounds: Path) -> None:
        rows = [
            "a.wav,1,2",
            "a.wav,5,4",
            "a.wav,x,4",
            "a.wav,-1,4",
            "a.wav,nan,",
            "b.wav,20,22",
            "b.wav,3,3.01",
            "c.wav,10,15",
        ]
        probe = load_clips(table(sounds, "path,start,end\n" + "\n".join(rows) + "\n"))
        assert [(c.path, c.start, c.duration) for c in probe.clips] == [("a.wav", 1, 1), ("c.wav", 10, 2)]
        assert reasons(probe) == [
            ("a.wav", "line 3 of clips.csv: the event ends at 4 s and starts at 5 s"),
            ("a.wav", "line 4 of clips.csv: start 'x' is not a number of seconds"),
            ("a.wav", "line 5 of clips.csv: start '-1' is not a number of seconds"),
            ("a.wav", "line 6 of clips.csv: start 'nan' is not a number of seconds"),
            ("b.wav", "line 7: the event begins at 20 s, the file ends at 12 s"),
            ("b.wav", "line 8: the event is too short (0.01 s)"),
            ("c.wav from 12 s", "line 9: the event ends at 15 s, the file at 12 s"),
        ]

    def test_windows_of_whole_files_keep_their_ids(self, sounds: Path) -> None:
        folder = {clip.id for clip in load_clips(sounds).clips}
        listed = load_clips(table(sounds, "path,start,end\na.wav,,\nb.wav,,\nc.wav,,\n")).clips
        assert {clip.id for clip in listed} == folder


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(str.strip)


class TestAnyTable:
    @settings(max_examples=150, deadline=None)
    @given(
        rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
        separator=st.sampled_from(",;\t|"),
        end=st.sampled_from(["\n", "\r\n"]),
        everything=st.booleans(),
        mark=st.booleans(),
    )
    def test_that_a_writer_wrote_is_read_as_it_was(
        self,
        rows: list[tuple[str, str, str]],
        separator: str,
        end: str,
        everything: bool,
        mark: bool,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        text = io.StringIO(newline="")
        quoting = csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
        writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerows(
            [("Path", "Caption", "Fold", "Label"), *((f"{n}.wav", *row) for n, row in enumerate(rows))]
        )
        assume(everything or "\r" not in "".join(map("".join, rows)))  # the writer forgets to quote it
        path = tmp_path_factory.mktemp("any") / "x.csv"
        path.write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
        read = read_table(path).rows
        assert [row.path.name for row in read] == [f"{n}.wav" for n in range(len(rows))]
        assert [("".join(row.captions), row.fold or "", row.label or "") for row in read] == rows

    @settings(max_examples=200, deadline=None)
    @given(lines=st.lists(st.text('ab",; 1', max_size=20), max_size=12))
    def test_every_line_is_used_or_told(
        self, lines: list[str], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("any") / "x.csv"
        path.write_text("path,label\n" + "".join(f"{line}\n" for line in lines) + "last.wav,dog\n")
        rows = read_table(path).rows
        numbers = [row.line or 0 for row in rows]
        assert numbers == sorted(set(numbers))
        for number, line in enumerate(lines, 2):
            if line.strip(' ,"') and number not in numbers:  # within the quotes of a row that began before
                assert any('"' in earlier for earlier in lines[: number - 2])


def test_a_file_of_many_rows_is_hashed_and_looked_through_once(
    tmp_path: Path, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sound("a.wav", tone(300, 4.0, 8_000), 8_000)
    rows = 2_000
    lines = [f"a.wav,{place / 1000:.3f},{place / 1000 + 1:.3f}" for place in range(rows)]
    (tmp_path / "t.csv").write_text("path,start,end\n" + "\n".join(lines) + "\n")
    counted = Counter[str]()
    for name in ("sha256", "_looked_through"):
        real = getattr(files, name)

        def count(*given: Any, name: str = name, real: Any = real) -> Any:
            counted[name] += 1
            return real(*given)

        monkeypatch.setattr(files, name, count)
    assert len(load_clips(tmp_path / "t.csv").clips) == rows
    assert counted == {"sha256": 1, "_looked_through": 1}
