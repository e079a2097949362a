"""What is committed under results/ is what was recorded, and no number in the book is typed.

In prose a percentage, or a value with a unit of time, memory or rate, needs a source: a
substitution or an evaluated expression computes it, or its sentence says "quoted" or cites.
Inline code and mathematics are no prose; the level of an interval (95%) is no measurement.
"""

import re
import shutil
from pathlib import Path

import pytest

from thesis_repro import tables
from thesis_repro.lab import places
from thesis_repro.lab.sealed import Altered
from thesis_repro.robustness import models
from thesis_repro.tables import records

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
FILES = sorted(p.relative_to(RESULTS).as_posix() for p in RESULTS.glob("*/*"))
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "book").rglob("*.md"))


def test_everything_recorded_is_what_was_recorded() -> None:
    lines = tables.check()
    assert len(lines) == sum(name.endswith(".json") for name in FILES)


def test_every_committed_model_loads() -> None:
    for name in models.names():
        assert not models.load(name).training


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Changes the first, a middle and the last byte of a copy."""
    folder = Path(name).parts[0]
    shutil.copytree(RESULTS / folder, tmp_path / folder)
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    path = tmp_path / name
    content = path.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Altered, match=re.escape(path.name)):
            tables.check()
    path.write_bytes(content)
    tables.check()


def test_a_quick_run_is_recorded_on_seed_0_of_a_cpu() -> None:
    for name in tables.names():
        if "quick" in records.runs(tables.get(name).spec):
            assert tables.recorded(name, "quick").provenance["seeds"] == [0]


# prose

UNITS = (
    r"%|per ?cent|percentage points?|[mµ]?s|secs?|seconds?|min|minutes?|h|hours?|days?"
    r"|[kKMGT]i?B|bytes|images? (?:per|a) second|[kMGT]?FLOPS?"
)
VALUE = re.compile(rf"(?<![\w.])\d[\d,.]*(?:e-?\d+)?[\s\u00a0]?(?:{UNITS})(?![\w-])")
SOURCED = re.compile(r"\{cite[:\w]*\}|\bquoted\b", re.IGNORECASE)
LEVEL = re.compile(r"\bintervals?\b|\bconfidence\b", re.IGNORECASE)

NO_PROSE = re.compile(
    r"\A---\n.*?\n---\n"  # front matter
    r"|^(?P<fence>`{3,}|~{3,})(?:[^{\n]*|\{(?:code|math|eval-rst|include|literalinclude)[^\n]*)\n"
    r".*?^(?P=fence)[^\S\n]*$"  # code, mathematics; not a glossary or a figure's caption
    r"|^\$\$.*?\$\$"
    r"|^[ \t]*:[\w-]+:.*?$"  # options of directives
    r"|<!--.*?-->"
    r"|\{\{.*?\}\}"  # substitutions
    r"|\{(?:eval|glue[:\w]*)\}`[^`]*`"
    r"|(?<![`}])`[^`\n]+`"  # inline code; a role keeps its braces
    r"|(?<![\\$])\$[^$\n]+\$",
    re.DOTALL | re.MULTILINE,
)


def unsourced(text: str) -> list[str]:
    """The sentences of a page that give a value without a source."""
    prose = NO_PROSE.sub(" ", text)
    blocks = re.split(r"\n\s*\n|\n\s*(?:[*-]|\d+\.|\|)\s", prose)
    sentences = (s for block in blocks for s in re.split(r"(?<=[.!?:;])\s+(?=[A-Z*(\[{])", block))
    found = []
    for sentence in (" ".join(s.split()) for s in sentences):
        values = [v for v in VALUE.findall(sentence) if not (v == "95%" and LEVEL.search(sentence))]
        if values and not SOURCED.search(sentence):
            found.append(f"{', '.join(values)}: {sentence}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_value_in_prose_has_a_source(page: str) -> None:
    assert unsourced((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "Our net reaches 95.7% on MNIST.",
        "It takes 0.4 s.",
        "A 12 ms pass, and 1.8 MB.",
        "It needs 2,500 seconds.",
        "# A title\n\n- First.\n- About 50.6 % of points.",
        ":::{list-table} Times\n:header-rows: 1\n\n* - Net\n  - 3 minutes\n:::",
        "| net | VRA |\n| --- | --- |\n| ours | 95.7% |",
        "Quoted values come first {cite:p}`x`. Ours is 3%.",
        "The code `x` takes 5 s.",
        "In 95% of cases.",
        "```python\nx = 1\n```\n\nThen 7% remain.",
        "```{glossary}\nterm\n  Takes 5 s.\n```",
        "```{figure} x.png\n:name: a\n\nA rate of 40 MB/s.\n```\n\n```{math}\n5 s\n```",
    ],
)
def test_a_typed_value_is_found(text: str) -> None:
    assert len(unsourced(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "It takes (quoted) 0.4 s, against 5.8 s.",
        "They report 64.0% {cite:p}`leino2020stolen`.",
        "We reach {{ vra }}% here, {eval}`round(x)` % there.",
        "A 95% interval over seeds.",
        "---\ntitle: 5%\n---\nText.",
        "```{code-cell} ipython3\nprint('95%')\n```",
        "Set `--share 5%` in $5 s$.",
        ":::{list-table} T\n:widths: 16 34\n\n* - a\n:::",
        "There are 60 epochs, 3 seeds, 200 points and version 2.0.",
        "GloRo4s and 3-second rules.",
    ],
)
def test_what_has_a_source_or_is_no_measurement_passes(text: str) -> None:
    assert unsourced(text) == []


def test_two_recorded_runs_of_a_table_have_names_of_their_own_on_a_page() -> None:
    spec = tables.get("lipschitz-soundness").spec
    fullest, small = (tables.recorded(spec.name, run) for run in records.runs(spec))
    names = [
        set(re.findall(r"^:name: (.+)$", tables.show(frame).data, re.MULTILINE))
        for frame in (fullest, small)
    ]
    assert f"tab-{spec.name}-recorded" in names[0] and not names[0] & names[1]
    assert f"tab-{spec.name}-recorded-{small.run}" in names[1]
