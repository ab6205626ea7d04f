"""The command line before any work is done: choices, numbers, the order of words, help, files to write, user code."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import rewritten
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval import choices, soundbank
from and_retrieval.cli import VERBS, command_parser, main
from and_retrieval.config import ClipConfig, LabelConfig, OpenConceptConfig, RecordConfig, SummaryConfig
from and_retrieval.errors import InputError
from and_retrieval.files import writing
from and_retrieval.search.search import Filters
from and_retrieval.types import Target

NAMES = [verb.__name__.rpartition(".")[2] for verb in VERBS]
TARGET = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"


def complaint(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """What a command says that leaves with exit code 2: one line."""
    capsys.readouterr()
    assert main(list(line)) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert caught.err.startswith("and-retrieval: ")
    return caught.err.removeprefix("and-retrieval: ").strip()


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


# ---------- choices ----------


def test_the_names_are_those_of_the_registries() -> None:
    from and_retrieval.explanation.scores import SCORES
    from and_retrieval.export.formats import FORMATS
    from and_retrieval.neighbours import STORES
    from and_retrieval.pruning.selectors import SELECTORS
    from and_retrieval.report.write import RANKED

    assert tuple(SCORES) == choices.SCORES
    assert (*SELECTORS, choices.RANDOM) == choices.SELECTORS
    assert tuple(FORMATS) == choices.EXPORT_FORMATS
    assert tuple(RANKED) == choices.RANKS
    assert tuple(STORES) == choices.STORES


def test_names_are_spelled_with_dashes_everywhere() -> None:
    every = (*choices.SCORES, *choices.SELECTORS, *choices.RANKS, *choices.EXPORT_FORMATS, *choices.POOLINGS)
    assert not any("_" in name for name in every)


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("explain", (*choices.SCORES, *choices.EVIDENCE, *choices.RANKS, "audioset", "esc50", "acoustic")),
        ("prune", choices.SELECTORS),
        ("record", (*choices.POOLINGS, *choices.STORES)),
        ("export", choices.EXPORT_FORMATS),
    ],
)
def test_help_lists_every_name_in_one_piece(
    verb: str, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = re.split(r"[\s,|=()]+", help_of(verb, capsys))
    assert set(names) <= set(words)


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        (["explain", "s/p", "--score", "cos_cubed"], "score", "cos-cubed"),
        (["prune", "s/p", "dog", "--selector", "soft_wpmi"], "selector", "soft-wpmi"),
        (["prune", "s/p", "dog", "--selector", "soft-wpmi"], "selector", "soft-wpmi"),
    ],
)
def test_underscores_are_taken_for_dashes(line: list[str], option: str, value: str) -> None:
    assert getattr(command_parser().parse_args(line), option) == value


def test_python_takes_underscores_for_dashes_too() -> None:
    from and_retrieval.explanation.scores import SCORES, find_scorer
    from and_retrieval.pruning.selectors import SELECTORS, find_selector

    assert LabelConfig(score="cos_cubed") == LabelConfig(score="cos-cubed")
    assert find_scorer("cos_cubed") is SCORES["cos-cubed"]
    assert find_selector("cos_cubed") is SELECTORS["cos-cubed"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["explain", "s/p", "--score", "wpm"], "--score: unknown score 'wpm'; did you mean wpmi"),
        (
            ["explain", "s/p", "--evidence", "x"],
            "--evidence: unknown evidence 'x'; known: audio, both, captions",
        ),
        (["explain", "s/p", "--rank", "bot"], "--rank: unknown rank 'bot'; did you mean both?"),
        (["prune", "s/p", "dog", "--selector", "orakel"], "unknown selector 'orakel'; did you mean oracle?"),
        (["export", "s/p", "--format", "cvs"], "--format: unknown format 'cvs'; did you mean csv?"),
        (["models", "lst"], "unknown action 'lst'; did you mean list?"),
        (
            ["record", "s", "--target", "t", "--pooling", "x=sum"],
            "--pooling x=sum: write GLOB=POOLING with one of mean, max, first, last",
        ),
    ],
)
def test_unknown_names(line: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in complaint(capsys, *line)


# ---------- numbers ----------

COUNT = "give a whole number from 1 to 1,000,000"
BUDGET = "give a whole number of units, or a share of them between 0 and 1"
MEGABYTES = "give a number of megabytes above 0"
WINDOW = "give a number of seconds, 0.1 or more"
RANGE = "give LOW:HIGH, for example 0:0.3 or 0.7:"
RECORD = ("record", "s", "--target", "t")


@pytest.mark.parametrize(
    ("line", "option", "value", "remedy"),
    [
        *((("explain", "s/p"), "-k", value, COUNT) for value in ("0", "-5", "2.5", "x", "1e3", "9999999")),
        (("explain", "s/p"), "--summaries", "-1", "give a whole number from 0 to 1,000,000"),
        *((("search", "s/p", "dog"), "-k", value, COUNT) for value in ("0", "-5", "ten")),
        *(
            (("prune", "s/p", "dog"), "--budget", value, BUDGET)
            for value in ("0", "-1", "2.5", "inf", "nan", "x")
        ),
        *((("prune", "s/p", "dog"), "--draws", value, COUNT) for value in ("0", "-1", "1.5")),
        *((RECORD, "--batch", value, COUNT) for value in ("0", "-1", "x")),
        *((RECORD, "--top-k", value, COUNT) for value in ("0", "-1", "99999999999999999999")),
        *((("report", "s/p"), "--megabytes", value, MEGABYTES) for value in ("0", "-1", "nan", "inf", "x")),
        *((("index", "sounds", "--name", "s"), "--window", value, WINDOW) for value in ("inf", "0", "nan")),
        *(
            (("search", "s/p", "dog"), "--polysemanticity", value, RANGE)
            for value in ("nan:1", "0:nan", "1:0", "0.5", "a:b")
        ),
        *(
            (RECORD, "--hold-out", value, "give auto, fold:NAME or a share from 0 to 0.9")
            for value in ("2", "nan", "fold:", "-0.1", "all")
        ),
    ],
)
def test_a_number_that_cannot_be_used_gets_one_line_before_any_work(
    line: tuple[str, ...], option: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no index `s` here: a command that began to work would complain about that."""
    assert complaint(capsys, *line, option, value) == f"{option} {value}: {remedy}"


def test_no_layer_is_called_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    message = complaint(capsys, "prune", "s/p", "dog", "--layers", "")
    assert message == "--layers '': give the name of a layer, or a quoted glob such as 'block*'"


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        (("explain", "s/p", "--summaries", "0"), "summaries", 0),
        (("explain", "s/p", "-k", "7"), "k", 7),
        (("prune", "s/p", "dog", "--budget", "7", "--budget", "0.5"), "budget", [7, 0.5]),
        (("report", "s/p", "--megabytes", "0.5"), "megabytes", 0.5),
        (("search", "s/p", "dog", "--polysemanticity", ":0.3"), "polysemanticity", (float("-inf"), 0.3)),
        ((*RECORD, "--hold-out", "fold:5"), "hold_out", "fold:5"),
        ((*RECORD, "--pooling", "a=b=max"), "pooling", [("a=b", "max")]),
    ],
)
def test_numbers_that_can_be_used(line: tuple[str, ...], option: str, value: object) -> None:
    assert getattr(command_parser().parse_args(line), option) == value


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ClipConfig(window=float("inf")), "window inf: give a number of seconds, 0.1 or more"),
        (lambda: ClipConfig(min_duration=-1), "min_duration -1: give a number of seconds, 0 or more"),
        (lambda: ClipConfig(silence=2), "silence 2: give a number from 0 to 1"),
        (lambda: RecordConfig(top_k=0), f"top_k 0: {COUNT}"),
        (lambda: RecordConfig(batch=0), f"batch 0: {COUNT}"),
        (lambda: RecordConfig(hold_out="1"), "hold_out 1: give auto, fold:NAME or a share from 0 to 0.9"),
        (lambda: RecordConfig(pooling=(("x", "sum"),)), "unknown pooling 'sum'"),  # type: ignore[arg-type]
        (lambda: LabelConfig(k=-5), f"k -5: {COUNT}"),
        (lambda: LabelConfig(k=2.5), f"k 2.5: {COUNT}"),  # type: ignore[arg-type]
        (lambda: LabelConfig(k="5"), f"k 5: {COUNT}"),  # type: ignore[arg-type]
        (lambda: LabelConfig(count=0), f"count 0: {COUNT}"),
        (lambda: LabelConfig(score="wpm"), "unknown score 'wpm'; did you mean wpmi"),
        (lambda: LabelConfig(evidence="caption"), "did you mean captions"),
        (lambda: LabelConfig(rank="bot"), "did you mean both?"),
        (lambda: SummaryConfig(units=-1), "units -1: give a whole number from 0 to 1,000,000"),
        (lambda: SummaryConfig(clips=0), f"clips 0: {COUNT}"),
        (lambda: SummaryConfig(max_tokens=0), f"max_tokens 0: {COUNT}"),
        (lambda: OpenConceptConfig(wanted="perhaps"), "unknown setting of open concepts 'perhaps'"),
        (lambda: OpenConceptConfig(most=0), f"most 0: {COUNT}"),
        (lambda: Filters(polysemanticity=(float("nan"), 1)), "polysemanticity nan to 1: give a range"),
    ],
)
def test_the_same_limits_hold_in_python(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        make()


def test_a_stored_setting_that_no_stage_can_work_with_is_a_damaged_manifest(tmp_path: Path) -> None:
    from dataclasses import asdict, dataclass

    from and_retrieval.store import Folder

    @dataclass(frozen=True)
    class Content:
        labelling: LabelConfig

    folder = Folder(tmp_path, "thing")
    folder.commit({}, Content(LabelConfig()))
    rewritten(folder.manifest_path, labelling={**asdict(LabelConfig()), "k": 0})
    with pytest.raises(InputError, match=r"manifest\.json is damaged \(k 0: .*; make the thing again"):
        folder.open(Content)


# ---------- the order of words and options ----------


def test_words_may_follow_options() -> None:
    args = command_parser().parse_args(["search", "mine", "--minus", "x", "dog"])
    assert (args.where, args.query, args.minus) == ("mine", ["dog"], ["x"])


COMMANDS: dict[str, tuple[list[str], list[list[str]]]] = {
    "search": (["s/p", "dog", "cat"], [["--minus", "x"], ["--minus=y"], ["-k", "3"], ["--reliable"], ["--json"]]),
    "prune": (["s/p", "dog", "rain"], [["--budget", "3"], ["--budget", "0.5"], ["--layers", "a*"], ["--json"]]),
    "explain": (["s/p"], [["--score", "cos"], ["-k5"], ["--concepts", "esc50"], ["--ask-adjectives"]]),
    "record": (["s"], [["--target", "yamnet"], ["--pooling", "a=max"], ["--layers", "a"], ["--layers", "b"]]),
    "compare": (["s/a", "s/b"], [["--out", "x.svg"], ["--device", "cpu"], ["--home", "h"]]),
    "export": (["s/p"], [["--format", "csv"], ["--json"]]),
    "index": (["sounds"], [["--name", "s"], ["--window", "5"]]),
    "runs": (["s"], [["--home", "h"], ["--json"]]),
    "models": (["list"], [["--home", "h"], ["--json"]]),
}  # fmt: skip


def name_of(option: list[str]) -> str:
    return option[0].partition("=")[0]


@given(st.sampled_from(sorted(COMMANDS)), st.randoms(use_true_random=False))
def test_words_and_options_may_come_in_any_order(verb: str, order: random.Random) -> None:
    words, options = COMMANDS[verb]
    places = [True] * len(words) + [False] * len(options)  # whether a word stands there
    order.shuffle(places)
    # Words keep their order, and so do options of one name; options of different names are shuffled.
    rank = {name: order.random() for name in sorted(name_of(option) for option in options)}
    next_word, next_option = iter(words), iter(sorted(options, key=lambda option: rank[name_of(option)]))
    line = [piece for word in places for piece in ([next(next_word)] if word else next(next_option))]
    plain = [*words, *(piece for option in options for piece in option)]
    parser = command_parser()
    assert vars(parser.parse_args([verb, *line])) == vars(parser.parse_args([verb, *plain]))


@pytest.mark.parametrize(
    ("line", "query"),
    [
        (["s/p", "--", "-dog"], ["-dog"]),
        (["s/p", "dog", "-k", "3", "--", "-cat"], ["dog", "-cat"]),
        (["s/p", "-5"], ["-5"]),
        (["s/p", "--minus", "x"], []),
    ],
)
def test_words_that_look_like_options(line: list[str], query: list[str]) -> None:
    assert command_parser().parse_args(["search", *line]).query == query


def test_bench_hands_the_rest_of_the_line_to_its_suite() -> None:
    args = command_parser().parse_args(["bench", "--json", "labels", "sounds", "--top", "3", "--json"])
    assert (args.suite, args.arguments, args.json) == ("labels", ["sounds", "--top", "3", "--json"], True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["serch"], "invalid choice: 'serch'"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate; see and-retrieval --help"),
        (["search"], "the following arguments are required: NAME[/RUN]; see and-retrieval search --help"),
        (["index", "sounds"], "the following arguments are required: --name; see and-retrieval index --help"),
        (["search", "s/p", "dog", "--frobnicate", "3"], "unrecognized arguments: --frobnicate"),
        (["export", "s/p", "more"], "unrecognized arguments: more; see and-retrieval export --help"),
        (
            ["search", "s/p", "dog", "--minus"],
            "--minus: expected one argument; see and-retrieval search --help",
        ),
        (["search", "s/p", "x", "--monosemantic", "--polysemantic"], "not allowed with argument"),
    ],
)
def test_usage_errors_are_one_line(line: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in complaint(capsys, *line)


def test_the_program_leaves_with_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "and_retrieval", "search", "s/p", "dog", "-k", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"and-retrieval: -k 0: {COUNT}\n"


# ---------- help ----------


@pytest.mark.parametrize("verb", NAMES)
def test_help_ends_with_an_example_that_can_be_typed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    last = help_of(verb, capsys).strip().splitlines()[-1]
    assert last.startswith(f"example: and-retrieval {verb}")
    words = shlex.split(last.removeprefix("example: and-retrieval "))
    assert command_parser().parse_args(words).verb


@pytest.mark.parametrize("verb", NAMES)
def test_every_option_and_word_is_explained(verb: str) -> None:
    verbs = next(
        action for action in command_parser()._actions if action.dest == "==SUPPRESS==" and action.choices
    )
    for action in verbs.choices[verb]._actions:  # type: ignore[index, call-overload, union-attr]
        assert action.help, f"{verb}: {action.dest}"


def test_help_of_no_verb_imports_numpy() -> None:
    code = (
        "import sys, io, contextlib\nfrom and_retrieval.cli import main\n"
        f"for verb in {NAMES!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main([verb, '--help'])\n"
        "print([name for name in ('numpy', 'torch', 'scipy', 'faiss', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


# ---------- files to write ----------


@pytest.mark.parametrize(
    ("line", "option", "right"),
    [
        (("report", "s/p"), "--out", ".html"),
        (("prune", "s/p", "dog"), "--plot", ".svg or .png"),
        (("prune", "s/p", "dog"), "--export", ".safetensors"),
        (("compare", "s/a", "s/b"), "--out", ".svg or .png"),
    ],
)
def test_a_file_that_is_not_to_be_overwritten_is_refused(
    line: tuple[str, ...], option: str, right: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "thesis.tex"
    mine.write_text("years of work")
    assert complaint(capsys, *line, option, str(mine)) == f"{option} {mine}: give a name that ends in {right}"
    assert mine.read_text() == "years of work"
    folder = tmp_path / f"folder{right.split(' or ')[0]}"
    folder.mkdir()
    message = complaint(capsys, *line, option, str(folder))
    assert message == f"{option} {folder}: this is a folder; give the name of a file"
    nowhere = f"/nowhere/x{right.split(' or ')[0]}"
    assert "the folder /nowhere does not exist; make it first" in complaint(capsys, *line, option, nowhere)


def test_a_failed_write_leaves_the_old_file_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")

    def write() -> None:
        with writing(path) as scratch:
            scratch.write_text("half of")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"report\.html cannot be written \(No space left"):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_picture_that_fails_half_way_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    from and_retrieval.comparison import picture
    from and_retrieval.comparison.compare import Comparison

    def half(self: Figure, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    out = tmp_path / "ab.png"
    out.write_bytes(b"before")
    monkeypatch.setattr(Figure, "savefig", half)
    monkeypatch.setattr(picture, "_matched", lambda _: "")
    nothing = Comparison.__new__(Comparison)
    for name in ("a", "b"):
        object.__setattr__(nothing, name, f"s/{name}")
    for name in ("layers_a", "layers_b"):
        object.__setattr__(nothing, name, ())
    with pytest.raises(InputError, match="cannot be written"):
        picture.draw(nothing, out)
    assert out.read_bytes() == b"before"


# ---------- with an index ----------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with index `s` and its run `p`, explained without a language model."""
    home = tmp_path_factory.mktemp("home")
    sounds = soundbank.render(
        tmp_path_factory.mktemp("sounds"), concepts=("dial tone", "heartbeat", "smoke alarm", "siren")
    )
    for line in (
        ["index", str(sounds), "--name", "s"],
        ["record", "s", "--target", TARGET, "--run", "p"],
        ["explain", "s/p", "--llm", "none", "--concepts", "labels", "--open-concepts", "no"],
    ):
        assert main([*line, "--home", str(home)]) == 0
    return home


def test_a_report_that_needs_more_says_how_much(
    in_built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.html"
    message = complaint(capsys, "report", "s/p", "--out", str(out), "--megabytes", "0.001")
    needed = re.search(
        r"takes ([\d.]+) megabytes, and 0\.001 are allowed; give --megabytes ([\d.]+) or more", message
    )
    assert needed
    assert needed[1] == needed[2]
    assert not out.exists()
    assert main(["report", "s/p", "--out", str(out), "--megabytes", needed[1]]) == 0
    assert out.stat().st_size <= float(needed[1]) * 1e6


def test_the_report_takes_the_place_of_an_earlier_one(in_built: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.HTML"
    out.write_text("an earlier one")
    assert main(["report", "s/p", "--out", str(out)]) == 0
    assert "dial tone" in out.read_text()
    assert list(tmp_path.glob("*.tmp")) == []


def test_search_takes_words_after_options(in_built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["search", "s/p", "--minus", "heartbeat", "a smoke alarm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["query"] == "a smoke alarm - heartbeat"


def test_results_of_prune_spell_the_selector_with_dashes(
    in_built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    line = ["prune", "s/p", "smoke alarm", "--selector", "soft_wpmi", "--budget", "1", "--json"]
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)["selector"] == "soft-wpmi"
    stored = in_built / "s/runs/p/prune-smoke-alarm-soft-wpmi.json"
    assert json.loads(stored.read_text())["selector"] == "soft-wpmi"


ENDING = """
import sys; sys.path.insert(0, {tests!r})
from dataclasses import replace
import torch
from targets.planted import load as planted
class Ending(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.detectors = inner.detectors if hasattr(inner, "detectors") else inner
        self.inner = inner
    def forward(self, *args, **more):
        {forward}
        return self.inner(*args, **more)
def preprocess(waveforms):
    {preprocess}
    return made.preprocess(waveforms)
made = planted()
def load():
    {load}
    return replace(made, module=Ending(made.module), preprocess=preprocess, layers=("detectors",))
"""


@pytest.mark.parametrize(("place", "says"), [
    ("forward", "the network failed on"), ("preprocess", "preprocess failed on"), ("load", "failed at")
])  # fmt: skip
def test_a_network_that_ends_the_program_gets_one_line(
    place: str, says: str, in_built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = {name: "sys.exit(3)" if name == place else "pass" for name in ("forward", "preprocess", "load")}
    file = tmp_path / "ending.py"
    file.write_text(ENDING.format(tests=str(Path(__file__).parent), **code))
    message = complaint(capsys, "record", "s", "--target", f"{file}:load", "--run", "ending")
    assert says in message
    assert "SystemExit: 3" in message


def test_an_interrupt_inside_a_network_passes(
    in_built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ending.py"
    code = {"forward": "raise KeyboardInterrupt", "preprocess": "pass", "load": "pass"}
    file.write_text(ENDING.format(tests=str(Path(__file__).parent), **code))
    assert main(["record", "s", "--target", f"{file}:load", "--run", "ending"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_logits_and_steps_that_end_the_program_get_one_line() -> None:
    from and_retrieval.network.hooks import class_logits
    from and_retrieval.network.layers import LayerPlan
    from and_retrieval.network.probe import pool

    def leave(*_: object) -> Any:
        raise SystemExit("bye")

    target = Target(
        torch.nn.ReLU(), 16_000, lambda w: torch.from_numpy(np.stack(w)), logits=leave, name="mine"
    )
    with pytest.raises(InputError, match="target 'mine': logits failed: SystemExit: bye"):
        class_logits(target, torch.zeros(1, 2))
    plan = LayerPlan("a", 4, 2, 1, "mean", step_seconds=leave)
    with pytest.raises(InputError, match="layer 'a': step_seconds failed on 3 steps of 1 s: SystemExit: bye"):
        pool(torch.zeros(1, 3, 4), 1, plan, 1.0)
