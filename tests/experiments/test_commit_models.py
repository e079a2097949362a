"""Which models are committed, how they are trained, and how hard they are attacked before."""

from thesis_repro.experiments import commit_models
from thesis_repro.experiments import nets as gloro_recipes
from thesis_repro.experiments.gloro import cifar10
from thesis_repro.robustness import models, recipes


def test_a_gpu_trains_for_the_epochs_of_the_paper_in_recorded_steps():
    for name, training in commit_models.trainings("cuda").items():
        recipe = training.recipe
        assert recipe.epochs == recipe.epochs_paper > 0, name
        assert recipe.graph and recipe.device == "cuda"
    wide = commit_models.trainings("cuda")["cifar10-liresnet-gloro"].recipe
    assert wide.net == "liresnet-l6w128" and not wide.autocast
    hard = cifar10.WAYS["adversarial (PGD)", "36/255"]
    assert not gloro_recipes.at_scale(hard, 0, "cuda").graph  # its loss reads values back


def test_the_models_of_other_chapters_have_their_names():
    known = commit_models.trainings()
    assert known["cifar10-6c2f-relu-gloro"].recipe.activation == "relu"
    noisy = known["cifar10-6c2f-noise"].recipe
    assert (noisy.method, noisy.noise, noisy.activation) == ("standard", 0.25, "relu")
    for training in known.values():
        recipes.build(training.recipe, (3, 32, 32), 10)


def test_a_large_net_is_attacked_in_full_on_a_gpu_and_lighter_on_a_cpu():
    full = (commit_models.STEPS, commit_models.RESTARTS, commit_models.NEAREST)
    for device, name, as_full in (
        ("cpu", "mnist-2c2f-gloro", True),
        ("cpu", "cifar10-6c2f-gloro", False),
        ("cuda", "cifar10-6c2f-gloro", True),
    ):
        attack = commit_models.gate_of(commit_models.trainings(device)[name])
        assert ((attack.steps, attack.restarts, attack.nearest) == full) is as_full
        assert min(attack.steps, attack.restarts, attack.nearest) >= 1


def test_every_committed_model_stands_for_its_training(monkeypatch):
    """A recipe that is changed would leave its model behind, and be trained for hours."""
    known = commit_models.trainings()
    for name in models.names():
        monkeypatch.setattr(
            models.data, "fingerprint", lambda _, n=name: models.card(n)["data_sha256"]
        )
        assert models.standing_for(known[name]) == name
        assert models.fingerprints(known[name])[1:] == ((name, models.card(name)["sha256"]),)
