"""The quick tables of the chapter, with one epoch per net, in a store that its tests share."""

import dataclasses

import pytest

from thesis_repro import tables
from thesis_repro.experiments.relaxed import rejection


@pytest.fixture(scope="session")
def brief_nets(tmp_path_factory):
    """The folder that keeps the nets of one epoch."""
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture
def short(brief_nets, monkeypatch):
    """The quick table of rejection, with one epoch per net."""
    monkeypatch.setenv("THESIS_REPRO_STORE", brief_nets)
    brief = dataclasses.replace(rejection.QUICK, epochs=1, train_epsilon=0.1, epsilon=0.1)
    monkeypatch.setattr(rejection, "QUICK", brief)
    return tables.live("relaxed-rejection")
