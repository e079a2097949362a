"""The house in order: files that must agree, and what may never be committed."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import jsonschema
import jupytext
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from thesis_repro import __version__, data, publish
from thesis_repro.lab import scopes, timebox
from thesis_repro.publish import fingerprint, sources
from thesis_repro.tables import find

ROOT = Path(__file__).resolve().parent.parent

CONDA_NAMES = {"torch": "pytorch"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    """The files that git knows; skipped where there is no git."""
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


# versions and needs


def _pins(root: Path) -> dict[str, str]:
    pins = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.+-]+)", line)
        assert match, f"requirements.lock holds names and versions only, not {line!r}"
        pins[canonicalize_name(match[1])] = match[2]
    return pins


def test_every_need_is_pinned_to_a_version_that_meets_it(root: Path, project: dict) -> None:
    pins = _pins(root)
    extras = chain.from_iterable(project["optional-dependencies"].values())
    for need in map(Requirement, [*project["dependencies"], *extras]):
        name = canonicalize_name(need.name)
        if [part.operator for part in need.specifier] == ["=="]:
            continue  # says its version itself; not installed with the rest
        assert name in pins, f"requirements.lock has no {name}"
        assert need.specifier.contains(pins[name]), f"{need} is not met by {pins[name]}"


COMES_ALONG = {"triton": "torch"}
"""What a need brings with it in some of its builds only."""
BESIDE = ("book", "test", "peers")
"""Extras that the package itself, without `publish`, does without."""


def _undeclared(paths: list[Path], needs: list[str]) -> set[str]:
    """What is imported from installed packages that none of the needs names."""
    named = {canonicalize_name(Requirement(need).name) for need in needs}
    installed, found = packages_distributions(), set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                sources = {canonicalize_name(COMES_ALONG.get(d, d)) for d in installed.get(top, [])}
                if sources and not sources & (named | {"thesis-repro"}):
                    found.add(f"{path.name} imports {top}")
    return found


def test_what_is_imported_is_a_declared_need(root: Path, project: dict, tmp_path: Path) -> None:
    extras = project["optional-dependencies"]
    package = sorted((root / "thesis_repro").rglob("*.py"))
    core = [path for path in package if "publish" not in path.parts]
    light = chain.from_iterable(needs for name, needs in extras.items() if name not in BESIDE)
    assert _undeclared(core, [*project["dependencies"], *light]) == set()
    rest = [path for folder in ("tests", "examples") for path in (root / folder).rglob("*.py")]
    needs = [*project["dependencies"], *chain.from_iterable(extras.values())]
    assert _undeclared([*package, *rest], needs) == set()
    path = tmp_path / "own.py"
    path.write_text("import os\nimport yaml.nodes\nfrom torch import nn\n")
    assert _undeclared([path], ["torch>=2"]) == {"own.py imports yaml"}


def test_conda_asks_for_what_the_package_asks_for(root: Path, project: dict) -> None:
    listed = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    conda = {
        r.name: r.specifier for r in map(Requirement, filter(lambda d: type(d) is str, listed))
    }
    needs = {
        CONDA_NAMES.get(r.name, r.name): r.specifier
        for r in map(Requirement, project["dependencies"])
    }
    needs["python"] = Requirement(f"python{project['requires-python']}").specifier
    for tool in ("pip", "setuptools"):
        conda.pop(tool)
    assert conda == needs


# citing


def test_the_citation_file_meets_its_schema(root: Path) -> None:
    schema = json.loads((root / "tests" / "vendor" / "cff-1.2.0.schema.json").read_text())
    # dates stay text: the schema describes the file, not what YAML makes of it
    citation = yaml.load((root / "CITATION.cff").read_text(), Loader=yaml.BaseLoader)
    for reference in citation["references"]:
        reference["year"] = int(reference["year"])
    jsonschema.Draft7Validator(schema).validate(citation)
    assert citation["version"] == __version__
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(citation | {"type": "book"})


def test_the_changes_name_this_version(root: Path) -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (root / "CHANGES.md").read_text(), re.M)


# what is never committed

REGISTRIES = re.compile(
    r"pypi\.(?:org|python)|pythonhosted\.|registry\.npm|debian\.org|conda\.anaconda"
)
MACHINE = re.compile(r"(?<![\w.])/(?:home/(?!me\b)\w|root/\w|Users/\w|work/\w)")


def test_no_notebook_is_committed(tracked: list[Path]) -> None:
    assert [path for path in tracked if path.suffix == ".ipynb"] == []


def test_no_large_file_is_committed(tracked: list[Path]) -> None:
    assert [p for p in tracked if p.stat().st_size > 10_000_000] == []


def test_no_path_of_a_machine_and_no_registry_is_committed(root: Path, tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        if "vendor" in path.parts or path.suffix in (".png", ".safetensors", ".woff"):
            continue
        text = path.read_text("utf-8")
        for pattern in (REGISTRIES, MACHINE):
            found += [f"{path.relative_to(root)}: {m[0]}" for m in pattern.finditer(text)]
    assert found == []


def test_the_patterns_see_what_they_should() -> None:
    assert REGISTRIES.search("https://py" + "pi.org/simple")
    assert MACHINE.search("see /ro" + "ot/thesis")
    assert not MACHINE.search("tests/robustness, book/wo" + "rk/x, /home/me/x")


def test_no_pickle(root: Path) -> None:
    # CIFAR is published as pickles: its reader has an unpickler that knows arrays alone; and to a
    # path that is given for a model data/images.py says what loads weights without one
    pattern = re.compile(
        r"\b(?:import|from) (?:pickle|dill|shelve)\b|torch\.(?:load|save)\(|allow_pickle=True"
        r"|\bimport joblib\b|from joblib import [^\n]*\b(?:load|dump)\b"
    )
    modules = sorted((root / "thesis_repro").rglob("*.py"))
    found = {p.relative_to(root / "thesis_repro").as_posix(): p.read_text() for p in modules}
    without = "load_state_dict(torch.load(path, "
    found["data/images.py"] = found["data/images.py"].replace(without, "")
    assert {name for name, text in found.items() if pattern.search(text)} == {"data/readers.py"}
    assert "pickle.load" not in found["data/readers.py"]
    assert "class _ArraysOnly(pickle.Unpickler)" in found["data/readers.py"]


def test_each_vendored_script_has_its_licence(root: Path) -> None:
    vendor = root / "book" / "_static" / "vendor"
    assert "Apache License" in (vendor / "mathjax" / "LICENSE").read_text()
    for name in ("popper", "tippy"):
        assert "Permission is hereby granted" in (vendor / f"{name}.LICENSE").read_text()
    fonts = vendor / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2"
    assert len(list(fonts.glob("*.woff"))) > 20


def test_make_and_ci_files_are_runnable(root: Path) -> None:
    assert (root / ".ci" / "run").stat().st_mode & 0o111
    subprocess.run(["bash", "-n", root / ".ci" / "run"], check=True)
    told = subprocess.run(
        ["make", "-n", "book"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "thesis-repro book build --profile quick" in told.stdout
    workflow = yaml.safe_load((root / ".github" / "workflows" / "book.yml").read_text())
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [
        "3.11",
        "3.12",
        "3.13",
    ]


def test_the_gpu_workflow_calls_what_there_is(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github" / "workflows" / "gpu.yml").read_text())
    assert list(workflow[True]) == ["workflow_dispatch"]  # YAML reads `on` as true
    job = workflow["jobs"]["gpu"]
    assert job["runs-on"] == "${{ inputs.runner }}"
    lines = "\n".join(step.get("run", "") for step in job["steps"])
    calls = re.findall(r"^ *(?:thesis-repro|python) .*", lines, re.MULTILINE)
    names = ["doctor", "data", "benchmarks/gpu.py", "evidence"]
    assert [line.split()[1] for line in calls] == names
    (fetched,) = re.findall(r"for name in (.*);", lines)
    assert set(fetched.split()) <= {*data.NAMES, *data.EXTRAS}
    help_text = subprocess.run(
        [sys.executable, "-m", "thesis_repro.cli", "evidence", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        check=True,
    ).stdout
    for option in re.findall(r"--\w+", calls[-1]):
        assert option in help_text
    assert "pytest -m gpu" in lines.splitlines()
    assert f"-eq {timebox.EXIT} ]" in lines


# the package

LINES_OF_A_FUNCTION, LINES_OF_A_MODULE = 60, 300


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines of a function are its docstring."""
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1


def too_long(name: str, text: str) -> set[str]:
    """A module, or functions in it by their names, with more lines than there may be.

    A module counts with all its lines, a function without its docstring, which has to state shapes,
    errors and an example, however many lines that takes.
    """
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found = {
        f"{name}: {node.name}"
        for node in functions
        if (node.end_lineno or 0) - node.lineno + 1 - _docstring(node) > LINES_OF_A_FUNCTION
    }
    return found | ({name} if len(text.splitlines()) > LINES_OF_A_MODULE else set())


def test_no_function_and_no_module_is_too_long(root: Path) -> None:
    package = root / "thesis_repro"
    found: set[str] = set()
    for path in package.rglob("*.py"):
        found |= too_long(path.relative_to(package).as_posix(), path.read_text("utf-8"))
    assert found == set(), "carve along the steps of the algorithm"


def test_a_line_too_many_is_seen() -> None:
    body = "    pass\n" * (LINES_OF_A_FUNCTION - 1)
    assert too_long("a.py", "def f():\n" + body) == set()
    assert too_long("a.py", "def f():\n" + body + "    pass\n") == {"a.py: f"}
    assert too_long("a.py", "x = 1\n" * LINES_OF_A_MODULE) == set()
    assert too_long("a.py", "x = 1\n" * (LINES_OF_A_MODULE + 1)) == {"a.py"}


LINES_ALIKE = 10


def repeated(files: dict[str, str]) -> set[str]:
    """Where a run of as many lines of code stands again, as "file:line and file:line".

    Blank lines, comments, imports, docstrings and the heads of functions do not count.
    """
    first: dict[tuple[str, ...], str] = {}
    found = set()
    for name, text in files.items():
        left_out: set[int] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                left_out |= set(range(node.lineno, node.body[0].lineno))
            text_alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if text_alone or isinstance(node, ast.Import | ast.ImportFrom):
                left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        code = [
            (number, line.strip())
            for number, line in enumerate(text.splitlines(), 1)
            if number not in left_out and line.strip() and not line.strip().startswith("#")
        ]
        for start in range(len(code) - LINES_ALIKE + 1):
            run = code[start : start + LINES_ALIKE]
            place = f"{name}:{run[0][0]}"
            before = first.setdefault(tuple(line for _, line in run), place)
            if before != place:
                found.add(f"{before} and {place}")
    return found


def test_no_run_of_ten_lines_stands_twice(root: Path) -> None:
    rooms = ("thesis_repro", "benchmarks", "tools")
    paths = [path for room in rooms for path in sorted((root / room).rglob("*.py"))]
    assert repeated({p.relative_to(root).as_posix(): p.read_text("utf-8") for p in paths}) == set()


def test_a_run_that_stands_twice_is_seen() -> None:
    run = "".join(f"x{i} = f({i})\n" for i in range(LINES_ALIKE))
    assert repeated({"a.py": "import a\n" + run, "b.py": "# b\ny = 1\n" + run}) == {
        "a.py:2 and b.py:3"
    }
    short = run.partition("\n")[2]
    assert repeated({"a.py": run, "b.py": short}) == set()


def test_each_package_says_what_is_public(root: Path) -> None:
    package = root / "thesis_repro"
    for path in package.rglob("*/__init__.py"):
        here = path.parent.relative_to(package).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        modules = {p.stem for p in path.parent.glob("*.py")} - {"__init__"}
        modules |= {p.parent.name for p in path.parent.glob("*/__init__.py")}
        bound = scopes.names_of(tree.body)
        said = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        assert said, f"{here}/__init__.py needs __all__"
        names = said[0]
        assert len(set(names)) == len(names), here
        assert set(names) <= modules | bound.bound | bound.imported, here
        if len(tree.body) == 2:  # a docstring and the list: modules by name
            lacks, strange = sorted(modules - set(names)), sorted(set(names) - modules)
            assert not lacks, f"__all__ in thesis_repro/{here}/__init__.py lacks {lacks}"
            assert not strange, f"__all__ in thesis_repro/{here}/__init__.py: no module {strange}"


def test_the_architecture_names_every_package_and_no_file_that_is_not_there(
    root: Path, tracked: list[Path]
) -> None:
    text = (root / "ARCHITECTURE.md").read_text("utf-8")
    package = root / "thesis_repro"
    named = set(re.findall(r"`([\w./-]+)`", text))
    packages = {p.parent.relative_to(package).as_posix() for p in package.rglob("*/__init__.py")}
    told = {path.rpartition("/")[2] for path in named}
    assert {path.rpartition("/")[2] for path in packages} - told == set()
    files = {path for path in named if re.search(r"\w\.(py|csv|md|toml)$", path)}
    there = [f"/{path.relative_to(root).as_posix()}" for path in tracked]
    assert [name for name in files if not any(t.endswith(f"/{name}") for t in there)] == []


# chapters

CHAPTERS = publish.chapters(ROOT)


@pytest.mark.parametrize("docname", CHAPTERS)
def test_a_chapter_survives_the_round_trip_through_a_notebook(root: Path, docname: str) -> None:
    text = (root / f"{docname}.md").read_text("utf-8")
    notebook = jupytext.reads(text, fmt="md:myst")
    again = jupytext.reads(jupytext.writes(notebook, fmt="md:myst"), fmt="md:myst")
    assert [(c.cell_type, c.source, c.metadata) for c in notebook.cells] == [
        (c.cell_type, c.source, c.metadata) for c in again.cells
    ]
    assert "jupytext_version" not in sources.header(text)["jupytext"]["text_representation"]


@pytest.mark.parametrize("docname", CHAPTERS)
def test_the_code_of_a_chapter_is_clean(root: Path, docname: str) -> None:
    notebook = jupytext.read(root / f"{docname}.md", fmt="md:myst")
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    long = [line for cell in cells for line in cell.splitlines() if len(line) > 72]
    assert long == [], "longer lines scroll on the page"
    code = "\n\n\n".join(cells) + "\n"
    rules = ["check", "--isolated", "--select", "F,E,B", "--ignore", "B018,E402,E501,E703"]
    command = [
        Path(sys.executable).with_name("ruff"),
        *rules,
        "--config",
        "builtins=['display']",
        "-",
    ]
    done = subprocess.run(command, input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# tables

TABLES = sorted(
    path.relative_to(ROOT / "thesis_repro" / "experiments")
    for path in (ROOT / "thesis_repro" / "experiments").rglob("*.py")
    if re.search(r"^TABLE\b", path.read_text("utf-8"), re.MULTILINE)
)
"""The files of tables, relative to `experiments`: ``a/b_c.py`` defines the table ``a-b-c``."""


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.as_posix())
def test_the_name_of_a_table_is_its_path(root: Path, path: Path) -> None:
    chapter, what = path.parts[0], path.stem
    assert len(path.parts) == 2, "a table lies in the folder of its chapter"
    name = f"{chapter}-{what.replace('_', '-')}"
    spec = find.get(name).spec
    assert spec.name == name
    assert find.module_of(name) == f"thesis_repro.experiments.{chapter}.{what}"
    assert f"book/{spec.chapter}" in CHAPTERS, "_toc.yml lists no such chapter"
    assert spec.chapter.rpartition("/")[2] == chapter, "chapter and folder have one stem"
    test = root / "tests" / "experiments" / chapter / f"test_{what}.py"
    assert test.is_file(), f"the table {name} needs {test.relative_to(root)}"
    code = ast.parse(test.read_text("utf-8"))
    assert find.module_of(name) in _imports(code), f"{test.relative_to(root)} does not import it"


def test_every_table_is_found_and_every_recorded_folder_is_that_of_a_table(root: Path) -> None:
    names = {f"{p.parts[0]}-{p.stem.replace('_', '-')}" for p in TABLES}
    assert len(names) == len(TABLES)
    assert set(find.names()) == names
    folders = {path.name for path in (root / "results").iterdir() if path.is_dir()}
    assert folders - names == {"figures", "models"}


def _imports(tree: ast.AST) -> set[str]:
    """Every module of the package that is imported, with every name that may be one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their module whole"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] == "thesis_repro"}


def test_tables_import_no_figures_and_the_tool_nothing_of_the_thesis(root: Path) -> None:
    package = root / "thesis_repro"
    imported = {
        path.relative_to(package).with_suffix(""): _imports(ast.parse(path.read_text("utf-8")))
        for room in ("experiments", "tables")
        for path in (package / room).rglob("*.py")
    }
    drawn = re.compile(r"thesis_repro\.(?:experiments\.\w+\.)?figures\b")
    tool = re.compile(r"thesis_repro(?:\.(?:__version__|lab|tables)(?:\.[\w.]+)?)?")
    for path, names in imported.items():
        if path.parts[0] == "tables":
            assert [name for name in names if not tool.fullmatch(name)] == [], path
        elif path.name not in ("figures", "moving"):
            assert [name for name in names if drawn.match(name)] == [], path


ANATOMY = {
    "a label, a title and the claim in one sentence": r"^\([a-z-]+\)=\n# .+\n\n\*[^*\n]+\.\*\n",
    "the result first": r"^## The result first$",
    "the card": r"^tables\.card\(\"",
    "a picture before any table": r"^:  figure:\n(?:(?!tables\.(?:show|small)\().*\n)*?figures\.",
    "the box: thesis part": r"^:::\{admonition\} About this chapter\n(?::.*\n)*- \*\*Thesis:\*\*",
    "the box: tables": r"^- \*\*Tables:\*\*",
    "the box: time and needs": r"^- \*\*Time and needs:\*\*",
    "what is learnt": r"^\*\*You will learn\*\*",
    "setting and notation": r"^## Setting and notation$",
    "a definition or theorem": r"^:::\{prf:",
    "an example by hand": r"^##.*[Bb]y hand",
    "a live table": r"tables\.live\(",
    "the recorded table": r"tables\.show\(\s*tables\.recorded\(|^ *run = tables\.recorded\(",
    "thesis against recorded and live": r"tables\.compare\(",
    "what changes when": r"^## What changes when",
    "limits": r"^## Limits$",
    "a summary of three": r"^## Summary\n\n(?:- .+\n){3}\n",
    "exercises": r"^## Exercises$",
    "how to cite": r"^## Cite",
    "the comparison with the committed run": r"assert_reproduces\(",
}


def test_the_architecture_lists_the_parts_of_a_chapter_in_their_order(root: Path) -> None:
    text = " ".join((root / "ARCHITECTURE.md").read_text("utf-8").split())
    assert "; ".join(ANATOMY) in text
    assert "`### From scratch`" in text


@pytest.mark.parametrize("docname", CHAPTERS)
def test_the_parts_of_a_chapter_stand_in_their_order(root: Path, docname: str) -> None:
    text = (root / f"{docname}.md").read_text("utf-8")
    at = 0
    for part, pattern in ANATOMY.items():
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        assert found, f"{part} is missing, or stands before what should precede it"
        at = found.start()
    assert re.search(r"^:label: eq-|\(eq-[\w-]+\)$", text, re.MULTILINE), "no numbered equation"
    exercises = re.findall(r"^:::\{exercise(?:-start)?\}", text, re.MULTILINE)
    assert 2 <= len(exercises) <= 4
    solutions = set(re.findall(r"^:::\{solution(?:-start)?\} (\S+)", text, re.MULTILINE))
    assert solutions <= set(re.findall(r"^:label: (ex-\S+)", text, re.MULTILINE))
    assert len(solutions) >= 2


@pytest.mark.parametrize("docname", CHAPTERS)
def test_each_figure_of_a_chapter_has_caption_and_alternative_text(
    root: Path, docname: str
) -> None:
    notebook = jupytext.read(root / f"{docname}.md", fmt="md:myst")
    drawn = [c.metadata for c in notebook.cells if c.cell_type == "code" and "figures." in c.source]
    figures = [data["mystnb"] for data in drawn if "mystnb" in data]
    assert figures
    for figure in figures:
        assert len(figure["image"]["alt"]) > 40
        assert figure["figure"]["name"].startswith("fig-")
        assert figure["figure"]["caption"].endswith(".")


@pytest.mark.parametrize("docname", CHAPTERS)
def test_a_chapter_holds_no_logic(root: Path, docname: str) -> None:
    """Text and calls: a chapter may define a small function to teach, never a class."""
    tree = ast.parse(fingerprint.code_of((root / f"{docname}.md").read_text("utf-8")))
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno > 12] == []
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "matplotlib" not in imported, "figures are drawn by thesis_repro.figures"
