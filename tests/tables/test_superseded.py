"""Every key that was ever recorded leads to a table, or to what replaced it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from thesis_repro import tables
from thesis_repro.lab import places
from thesis_repro.tables import records, superseded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "superseded.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_in_git_is_recorded_or_listed(tool: ModuleType) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    if tool._git(ROOT, "rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip("a shallow clone")
    past, listed = tool.past(ROOT), {line.key for line in superseded.listed()}
    if not past.keys() & listed:
        pytest.skip("another history: git has none of the earlier recordings")
    assert len(past) > 50
    lacking = set(past) - tool.recorded(ROOT) - listed
    assert lacking == set(), "run: python tools/superseded.py"
    assert listed <= set(past), "git has no such recording; was its commit squashed or rebased?"
    for line in superseded.listed():
        table, run, commit, *_ = past[line.key]
        assert (line.table, line.run) == (table, run) and commit.startswith(line.commit)


def test_a_recording_that_is_not_committed_yet_gets_its_line_later(tool, tmp_path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        tool._git(tmp_path, *who, *arguments)

    def listed() -> list[str]:
        tool.main(tmp_path)
        lines = (tmp_path / "results" / "superseded.csv").read_text("utf-8").splitlines()
        return lines[1:]

    file = tmp_path / "results" / "one" / "quick.csv"
    file.parent.mkdir(parents=True)
    git("init", "-q")
    for content in ("first", "second"):
        file.write_text(content, "utf-8")
        if content == "second":
            assert listed() == []
        git("add", ".")
        git("commit", "-qm", f"The {content}")
    (line,) = listed()
    assert line.startswith("one-") and line.endswith(",The second")
    assert line.split(",")[4] in tool.recorded(tmp_path)


def test_the_keys_that_follow_end_at_a_recorded_table(tool: ModuleType) -> None:
    after = {line.key: line.replaced_by for line in superseded.listed()}
    for key in after:
        seen = set()
        while key in after:
            assert key not in seen
            seen.add(key)
            key = after[key]
        assert key in tool.recorded(ROOT)


def test_a_key_is_resolved_to_its_table_or_to_what_replaced_it() -> None:
    frame = tables.recorded("gloro-vra")
    found = superseded.resolve(records.key(frame))
    assert not isinstance(found, superseded.Superseded)
    assert found.spec.name == "gloro-vra" and found.run == frame.run
    line = next(line for line in superseded.listed() if line.table == "gloro-vra")
    assert superseded.resolve(line.key) == line
    said = str(line)
    assert f"replaced by {line.replaced_by}" in said
    assert f"git show {line.commit}:results/gloro-vra/{line.run}.csv" in said
    with pytest.raises(ValueError, match="no table was recorded under the key 'gloro-vra-0'"):
        superseded.resolve("gloro-vra-0")


def test_a_file_with_other_columns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RESULTS, str(tmp_path))
    assert superseded.listed() == []
    (tmp_path / superseded.NAME).write_text("key,table\n")
    with pytest.raises(ValueError, match="needs the columns key, table, run"):
        superseded.listed()
