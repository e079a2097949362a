"""Chapters at the paper's scale on a GPU, from stored cells to a rendered page, end to end.

There is no GPU here: each chapter runs on a machine that says it has one, which refuses to compute
a cell for it, and finds the cells of tiny recipes, computed on the CPU, under a GPU's keys.
"""

import dataclasses
import importlib
import inspect
import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup

from thesis_repro import data, tables
from thesis_repro.experiments import nets
from thesis_repro.experiments.certifiers import scaling
from thesis_repro.experiments.gloro import vra
from thesis_repro.experiments.membership import contests
from thesis_repro.experiments.relaxed import rejection
from thesis_repro.lab import profiles
from thesis_repro.lab.cells import Cell, compute
from thesis_repro.lab.store import Store
from thesis_repro.publish.render import render
from thesis_repro.publish.sources import Run
from thesis_repro.robustness import recipes
from thesis_repro.tables import records
from thesis_repro.weaknesses.membership.contest import Contest
from thesis_repro.weaknesses.membership.guesses import NAIVE
from thesis_repro.weaknesses.membership.victims import Victim

execute, stage = (  # not the functions
    importlib.import_module(f"thesis_repro.publish.{name}") for name in ("execute", "stage")
)
RUN = Run("paper", 0, "cuda")
TWO_SEEDS = 2
"""Of three: the last one is not computed yet."""


def pretend(patch):
    """Make this a machine with a GPU and all data sets, on which no cell of a GPU is computed."""
    import dataclasses

    import torch

    from thesis_repro import data
    from thesis_repro.lab import cells, profiles

    here, content = data.available, data.fingerprint
    call, profile = cells._call, profiles.profile

    def fingerprint(name):
        return content(name) if not isinstance(name, str) or here(name) else "0" * 64

    def on_any(name, device="cpu", seeds=None):
        return dataclasses.replace(profile(name, "cpu", seeds), device=device)

    def on_cpu(cell, running):
        assert cell.device == "cpu", f"{cell} is computed"
        return call(cell, running)

    patch(torch.cuda, "get_device_name", lambda *_: "a card")
    patch(data, "available", lambda name: True)
    patch(data, "fingerprint", fingerprint)
    patch(profiles, "profile", on_any)
    patch(cells, "_call", on_cpu)


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """The project with a build folder, a store and results of its own, on a machine with a GPU."""
    place = tmp_path / "project"
    place.mkdir()
    for path in root.iterdir():
        if path.name not in ("_build", ".git", ".venv", "results"):
            (place / path.name).symlink_to(path)
    shutil.copytree(
        root / "results", place / "results", ignore=shutil.ignore_patterns("paper-cuda.*")
    )
    machine = f"{inspect.getsource(pretend)}\n\npretend(setattr)\n"
    (place / "sitecustomize.py").write_text(machine)  # with it every Python there begins
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "cells"))
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(place / "results"))
    pretend(monkeypatch.setattr)
    return place


@pytest.fixture
def few():
    """Digits for tiny trainings: so many to test that a rate of them is shown."""
    digits = data.load("mnist-5k")
    parts = {
        part: dataclasses.replace(found, x=found.x[:count], y=found.y[:count])
        for part, found, count in (("train", digits.train, 1000), ("test", digits.test, 200))
    }
    return dataclasses.replace(digits, **parts)


def tiny(training, few):
    """A training on the digits in an epoch, as the plan of a GPU has it, and its net."""
    recipe = dataclasses.replace(
        training.recipe, net="2c2f", epochs=1, batch_size=100, device="cpu", graph=False
    )
    recipe = dataclasses.replace(recipe, autocast=False, guarantee=None)
    net, _ = recipes.train(recipe, few)
    return dataclasses.replace(training, dataset="mnist-5k", recipe=recipe, augment="none"), net


def planned(table):
    """Rows and cells of a GPU's plan."""
    return tables.get(table).cells(profiles.profile(RUN.profile, RUN.device))


def of_row(table, row):
    """The cells of a row, of the seeds that are finished."""
    return [cell for found, cell in planned(table) if found == row][:TWO_SEEDS]


def percent(count):
    return f"{100 * count['k'] / count['n']:.1f}"


# for each chapter: the table, the results by key, and what a row of it has to show


def gloro(monkeypatch, few):
    row = (nets.TITLES["mnist"], "0.3", "GloRo 2C2F")
    cells = of_row("gloro-vra", row)
    training, net = tiny(cells[0].config.training, few)
    with monkeypatch.context() as patch:
        patch.setattr(vra.models, "trained", lambda _: net)
        patch.setattr(vra.data, "held_out", lambda _: few.test)
        result = vra.evaluate(vra.VraConfig(training, 0, 1, 1, 5, 1, 1))
    shown = [percent(result.values[name]) for name in ("clean", "vra", "rejected")]
    return "gloro-vra", dict.fromkeys(cells, result), {row: shown}


def certifiers(monkeypatch, few):
    side, found, shown = scaling.VARIED["pixels"], {}, {}
    for method in scaling.SCALED[:2]:
        method = dataclasses.replace(method, points=4, calls=2, batch_size=4)
        sizes, operations = scaling.SIZES["paper"]["pixels"], []
        row = (side, method.name)
        cells = [cell for name, cell in planned("certifiers-scaling") if name == row]
        for cell, size in zip(cells, sizes, strict=True):
            found[cell] = scaling.scaling(scaling.config_at("pixels", size, method))
            operations.append(found[cell].values["operations"])
        slope = np.polyfit(np.log(sizes), np.log(operations), 1)[0]
        shown[row] = [f"{slope:.2f}"]
    return "certifiers-scaling", found, shown


def relaxed(monkeypatch, few):
    found, shown = {}, {}
    for guarantee in ("top-1", "RT3"):
        row = ("CIFAR-10", guarantee, "GloRo")
        cells = of_row("relaxed-rejection", row)
        training, net = tiny(cells[0].config.training, few)
        config = dataclasses.replace(
            cells[0].config, training=training, attacked=5, steps=1, restarts=1
        )
        with monkeypatch.context() as patch:
            patch.setattr(rejection.models, "trained", lambda _, net=net: net)
            patch.setattr(rejection.data, "load", lambda _: few)
            result = rejection.evaluate(config)
        found |= dict.fromkeys(cells, result)
        shown[row] = [percent(result.values[name]) for name in ("topk", "vra", "rejected")]
    return "relaxed-rejection", found, shown


def membership(monkeypatch, few):
    row = (contests.PLAIN, NAIVE)
    victim = Victim("mnist-5k", "mlp", 100, 2, 0.1, width=16)
    result = compute(Cell(contests.contest, Contest(victim, (0, 1, 2), contests.SHADOWS)))
    answers = [t["attacks"][NAIVE]["accuracy"] for t in result.values["targets"]]
    shown = [f"{np.mean([100 * a['k'] / a['n'] for a in answers]):.1f}"]
    (cell,) = of_row("membership-mnist", row)
    return "membership-mnist", {cell: result}, {row: shown}


def drifted(values):
    """The values of a cell with every share and measure moved far."""
    if isinstance(values, list):
        return [drifted(value) for value in values]
    if not isinstance(values, dict):
        return abs(values) ** 1.5 if isinstance(values, float) else values
    if values.keys() == {"k", "n"}:
        n = values["n"]
        return {"k": (values["k"] + n // 2) % max(n, 1), "n": n}
    return {name: drifted(value) for name, value in values.items()}


CHAPTERS = {
    "robustness/gloro": gloro,
    "robustness/certifiers": certifiers,
    "robustness/relaxed": relaxed,
    "weaknesses/membership": membership,
}


def outputs(cells):
    """What cells of a notebook show, as HTML."""
    found = [o for cell in cells for o in cell.get("outputs", ())]
    return "\n".join(o.get("data", {}).get("text/html", "") for o in found)


def missing(html, shown):
    """Rows whose values no line of a table has, or whose keys are not said with it."""
    soup = BeautifulSoup(html, "html.parser")
    found = [
        {cell.get_text(" ", strip=True).partition(" ")[0] for cell in line.find_all(["th", "td"])}
        for line in soup.find_all("tr")
    ]
    text = soup.get_text(" ")  # what all rows of a table have is said once, below it
    return [
        row
        for row, values in shown.items()
        if not (any(set(values) <= line for line in found) and all(key in text for key in row))
    ]


def page_of(project, name, notebook):
    """What a reader sees: a book of the cells of one executed chapter that show a table."""
    place = project.parent / "page"
    source = place / "_build" / "source"
    shown = [cell for cell in notebook.cells if "<table" in outputs([cell])]
    cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *shown]
    one = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    linked = set(re.findall(r"<(book/[\w./-]+)>", json.dumps(shown).replace("</book", "<book")))
    files = {target: "" for target in linked if Path(target).suffix}  # downloads
    names = ["book/index", "book/one", *sorted(linked - {*files})]
    files |= {f"{target}.md": f"# {target}\n" for target in names}
    chapters = [{"file": target} for target in names[1:]]
    files["_toc.yml"] = yaml.safe_dump(
        {"format": "jb-book", "root": names[0], "chapters": chapters}
    )
    files |= {"_config.yml": stage._config(project).decode(), "book/references.bib": ""}
    for root in (place, source):  # sources and what is staged of them
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    (source / "book" / "one.md").unlink()
    nbformat.write(one, source / "book" / "one.ipynb")
    shutil.copytree(project / "book" / "_static", source / "book" / "_static")
    (place / "thesis_repro").symlink_to(project / "thesis_repro")
    render(place, "one", say=lambda _: None)
    return (place / "_build" / "html" / "book" / "one.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_on_a_gpu_shows_stored_cells_and_is_checked(
    project, few, monkeypatch, capfd, page
):
    table, found, shown = CHAPTERS[page](monkeypatch, few)
    store = Store()
    for cell, result in found.items():
        assert cell.device == "cuda"
        store.put(cell.key, result)
    records.write(tables.live(table, RUN.profile, RUN.seed, RUN.device))
    assert (project / "results" / table / "paper-cuda.csv").is_file()

    # papermill
    name = f"book/{page}"
    executed = project / "_build" / "source" / f"{name}.ipynb"
    assert execute._all(project, RUN, {name: executed}, 1, lambda _: None) == []
    notebook = nbformat.read(executed, as_version=4)
    assert notebook.metadata.papermill["parameters"] == RUN.parameters()
    assert missing(outputs(notebook.cells), shown) == []
    said = json.dumps(notebook.cells)
    assert re.search(rf"{table}[^\"]*: \d+ values within tolerance", said)

    # nbval: again the same
    assert execute.validate(project, jobs=1) == 0, capfd.readouterr().out

    # the page
    assert missing(page_of(project, page, notebook), shown) == []

    # and not where the store has other numbers than those that were executed and recorded
    asking = ("import ", "profile = ", "tables.live(", "assert_reproduces(")
    notebook.cells = [c for c in notebook.cells if any(word in c.source for word in asking)]
    nbformat.write(notebook, executed)
    for cell, result in found.items():
        store.drop(cell.key)
        store.put(cell.key, dataclasses.replace(result, values=drifted(result.values)))
    assert execute.validate(project, jobs=1) == 1
    out = capfd.readouterr().out
    assert "drifted" in out
    live = [cell for cell in notebook.cells if "tables.live(" in cell.source]
    compared = any("nbval-check-output" in cell.metadata.get("tags", ()) for cell in live)
    assert ("Cell outputs differ" in out) == compared
