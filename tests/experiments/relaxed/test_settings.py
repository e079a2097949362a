import pytest

from thesis_repro import data
from thesis_repro.experiments.relaxed import groupings
from thesis_repro.experiments.relaxed.settings import SETTINGS


def test_groups_name_every_class_of_their_data_set():
    assert SETTINGS["mnist-5k"].classes == data.load("mnist-5k").classes
    sizes = {name: len(SETTINGS[name].classes) for name in SETTINGS}
    assert sizes == {
        "mnist-5k": 10,
        "eurosat": 10,
        "cifar10": 10,
        "cifar100": 100,
        "tiny-imagenet": 0,
    }
    assert len(SETTINGS["cifar100"].groups) == 20
    for name, setting in SETTINGS.items():
        for guarantee in setting.guarantees.values():
            guarantee.check(200 if name == "tiny-imagenet" else len(setting.classes))
    for sets in groupings.SLIDES.values():
        assert {one for chosen in sets for one in chosen} <= {
            one for setting in SETTINGS.values() for one in setting.classes
        }
    with pytest.raises(ValueError, match="the groups of EuroSAT name the classes AnnualCrop"):
        SETTINGS["eurosat"].check(("a", "b"))
