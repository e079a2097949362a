"""The command line: quick help, one-line errors, what each command prints."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from thesis_repro import __version__, cli

HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "matplotlib",
    "statsmodels",
    "mlxtend",
    "sphinx",
    "papermill",
    "IPython",
)


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the command in this process; return status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["thesis-repro", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["book", "build", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom thesis_repro import cli\n"
        f"sys.argv = ['thesis-repro', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("HEAVY []\n"), done.stdout


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, capsys, "--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("run gloro-vra --profile fast", "no profile is called 'fast'; there are quick, paper"),
        ("book build --profile fast", "no profile is called 'fast'; there are quick, paper"),
        ("run gloro-vra --device tpu", "no device is called 'tpu'; there are cpu, cuda"),
        ("run gloro-vrr", "no table is called 'gloro-vrr'; did you mean gloro-vra"),
        ("table gloro-vrr", "no table is called 'gloro-vrr'; did you mean gloro-vra"),
        ("table gloro-vrr --check", "no table is called 'gloro-vrr'; did you mean gloro-vra"),
        ("data check mnisst", "no data set is called 'mnisst'; there are mnist-5k, "),
        ("data fetch mnisst", "no data set is called 'mnisst'; there are mnist-5k, "),
    ],
)
def test_a_wrong_name_is_one_line_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    status, out, err = call(monkeypatch, capsys, *arguments.split())
    assert status == 1
    assert out == ""
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1


def test_an_unknown_format_names_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(monkeypatch, capsys, "table", "gloro-vra", "--format", "xml")
    assert status == 1
    assert err == "error: no format is called 'xml'; there are md, csv, latex, json, bibtex\n"


def test_missing_data_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("THESIS_REPRO_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    status, _, err = call(monkeypatch, capsys, "data", "check", "cifar10")
    assert status == 1
    assert "thesis-repro data fetch cifar10" in err
    assert err.count("\n") == 1


def test_debug_anywhere_shows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["thesis-repro", "run", "x", "--profile", "fast", "--debug"])
    with pytest.raises(ValueError, match="no profile is called"):
        cli.main()


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, says in (
        (MemoryError("Unable to allocate 7 TiB"), "Unable"),
        (MemoryError(), "Mem"),
    ):

        def fail(error: MemoryError = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", fail)
        status, _, err = call(monkeypatch, capsys, "doctor")
        assert status == 1 and err.startswith(f"error: {says}") and err.count("\n") == 1


def test_outside_a_checkout_the_book_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from thesis_repro.publish import sources

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "x.py"))
    status, _, err = call(monkeypatch, capsys, "book", "check")
    assert status == 1
    assert "run this inside a checkout" in err


def test_doctor_names_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = call(monkeypatch, capsys, "doctor")
    assert status == 0
    for word in (
        f"thesis-repro {__version__}",
        "torch 2.",
        "devices: cpu (",
        "mnist-5k",
        "store: ",
    ):
        assert word in out


def test_the_digits_that_ship_are_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = call(monkeypatch, capsys, "data", "check", "mnist-5k")
    assert status == 0
    assert out.startswith("mnist-5k: 1 file, SHA-256 as expected")


def test_lists_name_every_set_and_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thesis_repro import data, tables

    _, out, _ = call(monkeypatch, capsys, "data", "list")
    assert [line.split()[0] for line in out.splitlines()] == [*data.NAMES, *data.EXTRAS]
    _, out, _ = call(monkeypatch, capsys, "tables")
    assert [line.split()[0] for line in out.splitlines()] == list(tables.names())


# recorded tables


@pytest.mark.parametrize(
    ("kind", "starts"),
    [
        ("md", "Clean accuracy"),
        ("csv", "dataset,"),
        ("latex", "% needs \\usepackage{"),
        ("json", "{"),
        ("bibtex", "@misc{gloro-vra-"),
    ],
)
def test_a_recorded_table_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, starts: str
) -> None:
    status, out, err = call(monkeypatch, capsys, "table", "gloro-vra", "--format", kind)
    assert (status, err) == (0, "")
    assert out.startswith(starts)


def test_a_recorded_table_is_checked_and_an_altered_one_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    root: Path,
) -> None:
    shutil.copytree(root / "results", tmp_path / "results")
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path / "results"))
    assert call(monkeypatch, capsys, "table", "gloro-vra", "--check")[0] == 0
    path = tmp_path / "results" / "gloro-vra" / "quick.csv"
    text = path.read_text()
    digit = next(i for i, c in enumerate(text) if c.isdigit())
    path.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    status, _, err = call(monkeypatch, capsys, "table", "gloro-vra", "--check")
    assert status == 1
    assert "quick.csv" in err
    assert err.count("\n") == 1


def test_a_key_in_print_leads_to_its_table_or_to_what_replaced_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thesis_repro import tables
    from thesis_repro.tables import records, superseded

    key = records.key(tables.recorded("gloro-vra", "quick"))
    status, out, _ = call(monkeypatch, capsys, "table", "--key", key, "--format", "bibtex")
    assert status == 0 and out.startswith(f"@misc{{{key},")
    line = superseded.listed()[0]
    status, out, _ = call(monkeypatch, capsys, "table", "--key", line.key)
    assert status == 0 and line.replaced_by in out and f"git show {line.commit}:" in out
    for arguments in (("--key", "gloro-vra-000000000000"), ("gloro-vra", "--key", key), ()):
        status, out, err = call(monkeypatch, capsys, "table", *arguments)
        assert (status, out) == (1, "") and err.startswith("error: ") and err.count("\n") == 1


def test_a_table_without_a_record_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path))
    status, out, err = call(monkeypatch, capsys, "table", "gloro-vra")
    assert (status, out) == (1, "")
    assert err.startswith("error: gloro-vra")
    assert err.count("\n") == 1


def test_run_hands_its_options_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thesis_repro import tables

    asked = []

    def record(name: str, profile: object, **options: object) -> object:
        asked.append((name, profile, options))
        return tables.recorded(name)

    monkeypatch.setattr(tables, "record", record)
    options = "--profile paper --seeds 2 --scheduler tcp://127.0.0.1:8786 --fresh"
    status, out, _ = call(monkeypatch, capsys, "run", "gloro-vra", *options.split())
    assert status == 0
    ((name, profile, given),) = asked
    assert (name, profile.run, profile.seeds) == ("gloro-vra", "paper-cpu", (0, 1))
    assert given.items() >= {"scheduler": "tcp://127.0.0.1:8786", "fresh": True}.items()
    assert out


def test_an_unreachable_scheduler_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from thesis_repro.lab import cluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    address = "tcp://127.0.0.1:9"
    status, _, err = call(monkeypatch, capsys, "run", "gloro-vra", "--scheduler", address)
    assert status == 1
    assert f"no Dask scheduler answers at {address}" in err.splitlines()[-1]


def test_fresh_and_finished_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(monkeypatch, capsys, "run", "gloro-vra", "--fresh", "--finished")
    assert status != 0
    assert "give one of the two" in err


def test_a_checkout_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("root: book/index\n")
    (tmp_path / "_build").touch()  # no folder can be made where a file lies
    monkeypatch.chdir(tmp_path)
    status, out, err = call(monkeypatch, capsys, "book", "build")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert "_build" in err
    assert err.count("\n") == 1
