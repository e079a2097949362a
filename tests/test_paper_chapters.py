"""Chapters at the paper's scale on a GPU: they show what the store has, and compute none of it.

There is no GPU here: cells of tiny recipes, computed on the CPU, stand under the keys of a GPU's.
"""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from thesis_repro import data, tables
from thesis_repro.experiments import evidence, nets
from thesis_repro.experiments.certifiers import figures as certifiers_figures
from thesis_repro.experiments.certifiers import scaling
from thesis_repro.experiments.gloro import figures, vra
from thesis_repro.experiments.membership import figures as membership_figures
from thesis_repro.experiments.membership import low_fpr
from thesis_repro.experiments.relaxed import figures as relaxed_figures
from thesis_repro.lab import cells, profiles
from thesis_repro.lab.store import Result, Store
from thesis_repro.publish.sources import Run
from thesis_repro.robustness import recipes
from thesis_repro.tables import records

execute = importlib.import_module("thesis_repro.publish.execute")  # not the function
CHAPTERS = ("robustness/gloro", "robustness/certifiers", "robustness/relaxed")
CHAPTERS += ("weaknesses/membership",)
ONE_SCALE = {"gloro-attainable"}
"""Computed in seconds on any machine, from digits alone: no plan of evidence is needed."""

TABLES = {
    "gloro-vra",
    "certifiers-cost",
    "certifiers-capacity",
    "certifiers-scaling",
    "relaxed-rejection",
    "relaxed-groupings",
    *(
        f"membership-{name}"
        for name in ("mnist", "sets", "low-fpr", "calibrated", "point", "dp", "search")
    ),
}


def sized(name, device="cpu", seeds=None):
    """A profile of a device that is not looked for."""
    chosen = profiles.SEEDS[name] if seeds is None else seeds
    return profiles.Profile(name, device, (chosen,) if isinstance(chosen, int) else chosen)


class Computed(Exception):
    pass


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine that says it has a GPU, an empty store, and nothing that may be computed."""
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("THESIS_REPRO_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(profiles, "profile", sized)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a card")
    monkeypatch.setattr(data, "available", lambda name: name == "mnist-5k")

    def computed(cell, running):
        raise Computed(str(cell))

    monkeypatch.setattr(cells, "_call", computed)
    yield Store()
    plt.close("all")


@pytest.fixture
def tiny(gpu, monkeypatch):
    """The cells of gloro-vra for two seeds of the radius 0.3, from trainings of one epoch."""
    monkeypatch.setitem(nets.DATASETS, "0.3", ("mnist-5k", "none"))
    part = data.load("mnist-5k")
    few = dataclasses.replace(
        part,
        train=dataclasses.replace(part.train, x=part.train.x[:64], y=part.train.y[:64]),
        test=dataclasses.replace(part.test, x=part.test.x[:20], y=part.test.y[:20]),
    )
    plan = [cell for _, cell in vra.cells(sized("paper", "cuda"))]
    recipe = plan[0].config.training.recipe
    recipe = dataclasses.replace(recipe, epochs=1, device="cpu", graph=False, autocast=False)
    training = dataclasses.replace(plan[0].config.training, recipe=recipe)
    config = vra.VraConfig(training, 0, 1, 1, 5, 1, 1)
    result = tiny_result(monkeypatch, config, few)
    for cell in plan[:2]:
        gpu.put(cell.key, result)
    return plan


def tiny_result(monkeypatch, config, few):
    net, _ = recipes.train(config.training.recipe, few)
    with monkeypatch.context() as patch:
        patch.setattr(vra.models, "trained", lambda _: net)
        patch.setattr(vra.data, "held_out", lambda _: few.test)
        return vra.evaluate(config)


def test_a_chapter_shows_the_cells_of_the_store_and_computes_none(gpu, tiny):
    live = tables.live("gloro-vra", "paper", 0, "cuda")
    ran = live.data[live.data["status"] == "run"]
    assert list(ran["seeds"]) == [2]  # of three: the third was not computed
    assert live.run == "paper-cuda"
    assert "paper-cuda" in str(tables.show(live).data) or "GloRo 2C2F" in str(
        tables.show(live).data
    )
    assert list(vra.curves("paper", 0, "cuda")) == ["MNIST-5k, trained for radius 0.3"]
    assert "no paper-cuda run is recorded" in tables.assert_reproduces(live)
    records.write(live)
    assert re.search(r": \d values within tolerance", tables.assert_reproduces(live))
    other = live.data.assign(vra=live.data["vra"] + 9)
    with pytest.raises(AssertionError, match=r"paper-cuda\) drifted: .*vra"):
        tables.assert_reproduces(dataclasses.replace(live, data=other))
    fewer = live.data.assign(seeds=1)
    found = tables.assert_reproduces(dataclasses.replace(live, data=fewer))
    assert "no row with the seeds of the paper-cuda run" in found


def test_without_a_cell_every_row_reads_not_run(gpu, monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)  # each row has cells to look for
    monkeypatch.setattr(data, "fingerprint", lambda name: "0" * 64)
    for name in sorted(TABLES):
        live = tables.live(name, "paper", 0, "cuda")
        assert set(live.data["status"]) <= {"not run"}, name
        tables.show(live)


def test_the_plan_of_evidence_has_cells_of_every_table_that_a_chapter_shows(gpu, monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(data, "fingerprint", lambda name: "0" * 64)
    monkeypatch.setattr(evidence, "profile", sized)
    items = evidence.read()
    planned = {item.table for item in items}
    for name in sorted(TABLES - planned):
        ours = {str(cell) for _, cell in tables.get(name).cells(sized("paper", "cuda", 0)) if cell}
        assert any(
            ours & {str(cell) for found in evidence.rows(item, chosen).values() for cell in found}
            for item in items
            for chosen in [evidence.size(item, "cuda")]
        ), f"{name} is not in the plan, nor is any of its cells"


def test_figures_of_what_the_store_has_not_say_so(gpu):
    def frame(name):
        return tables.live(name, "paper", 0, "cuda")

    drawn = [
        figures.vra_curves(vra.curves("paper", 0, "cuda")),
        certifiers_figures.cost(frame("certifiers-cost")),
        certifiers_figures.growth(scaling.curves("paper", "cuda")),
        relaxed_figures.rejection(frame("relaxed-rejection")),
        membership_figures.accuracies(frame("membership-mnist")),
        membership_figures.roc(low_fpr.results(sized("paper", "cuda"))),
        membership_figures.defences(frame("membership-dp")),
    ]
    assert [[t.get_text() for t in figure.axes[0].texts] for figure in drawn] == [["not run"]] * 7


def test_every_net_of_the_paper_has_its_curve():
    result = Result({}, {"correct": np.ones(3, bool), "radius": np.array([0.1, 0.5, 2.0])})
    radii = ("0.3", "1.58, float64", "36/255", "36/255, float64")
    titles = [f"a data set, trained for radius {radius}" for radius in radii]
    axis = figures.vra_curves(dict.fromkeys(titles, result)).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == titles
    marks = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
    assert marks == pytest.approx([0.3, 1.58, 36 / 255, 36 / 255])


@pytest.mark.parametrize("page", CHAPTERS)
def test_what_a_chapter_asks_for_at_the_scale_of_its_parameters(root, page):
    """Live tables, figures from the store, and nothing that trains: that names quick and cpu."""
    text = (root / "book" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", text, re.S | re.M)
    asked = {
        call
        for block in blocks
        if "parameters]" not in block
        for call in re.findall(r"([\w.]+)\([^()]*\b(?:profile|device)\b(?!=)", block)
    }
    asked |= {c for b in blocks for c in re.findall(r"([\w.]+)\([^()]*profile=profile", b)}
    allowed = {"tables.live", "tables.prepare", "experiments.curves", "curves", "sized"}
    assert asked <= allowed
    named = {
        name for b in blocks for name in re.findall(r'tables\.live\(\s*"([\w-]+)", profile', b)
    }
    assert named <= TABLES | ONE_SCALE


def test_no_cell_names_the_device_of_a_recorded_run(root):
    """What is recorded later on another device is shown then, without a change of a page."""
    cells = [
        (path.stem, code)
        for path in sorted((root / "book").rglob("*.md"))
        for code in re.findall(
            r"^```\{code-cell\}[^\n]*\n(.*?)^```$", path.read_text("utf-8"), re.S | re.M
        )
    ]
    assert len(cells) > 100
    assert [page for page, code in cells if re.search(r"paper-(cpu|cuda)", code)] == []


# where the cells of a chapter are, and when it is executed again


def test_a_paper_run_reads_the_users_store_and_a_quick_one_the_books(gpu, tmp_path):
    assert (
        execute.store(tmp_path) == execute.store(tmp_path, Run()) == tmp_path / "_build" / "store"
    )
    assert execute.store(tmp_path, Run("paper", 0, "cuda")) == tmp_path / "store"


@pytest.mark.parametrize(("kind", "again"), [("quick", False), ("paper", True)])
def test_a_paper_chapter_is_executed_again_as_the_store_is_in_no_key(
    small_book, monkeypatch, kind, again
):
    run, due = Run(kind, 0, "cpu"), []
    monkeypatch.setattr(execute, "_all", lambda root, run, paths, *_: due.append(paths) or [])
    monkeypatch.setattr(execute, "_describe", lambda *_: None)
    key = execute.fingerprint.key(small_book, "book/one", run)
    kept = small_book / "_build" / "executed" / "book" / "one" / f"{key}.ipynb"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    execute.execute(small_book, run, say=lambda line: None)
    assert list(due[0]) == (["book/one"] if again else [])


def test_what_was_executed_at_the_papers_scale_is_checked_against_the_same_store(
    tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setenv("THESIS_REPRO_STORE", str(tmp_path / "mine"))
    run = lambda command, **options: seen.append(options["env"]) or 0  # noqa: E731
    monkeypatch.setattr(execute, "ended", run)
    page = tmp_path / "_build" / "source" / "book" / "one.ipynb"
    page.parent.mkdir(parents=True)
    for parameters in (Run(), Run("paper", 0, "cuda")):
        about = {"papermill": {"parameters": parameters.parameters()}}
        page.write_text(json.dumps({"metadata": about}))
        execute.validate(tmp_path, jobs=1)
    first, second = (Path(env["THESIS_REPRO_STORE"]) for env in seen)
    assert first != tmp_path / "mine" == second
