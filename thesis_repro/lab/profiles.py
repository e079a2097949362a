"""Profiles: how large an experiment is run."""

from dataclasses import dataclass

SEEDS = {"quick": (0,), "paper": (0, 1, 2)}
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Profile:
    """A size of experiment, a device and the seeds.

    `quick`: embedded data, minutes on two cores. `paper`: the paper's data and schedules.
    """

    name: str
    device: str
    seeds: tuple[int, ...]

    @property
    def run(self) -> str:
        """The name a recorded run carries: quick, paper-cpu or paper-cuda."""
        return self.name if self.name == "quick" else f"{self.name}-{self.device}"


def profile(name: str, device: str = "cpu", seeds: int | tuple[int, ...] | None = None) -> Profile:
    """Build a profile.

    Parameters
    ----------
    name : "quick" or "paper"
    device : "cpu" or "cuda"
    seeds : one seed, several, or the profile's own (quick: 0; paper: 0, 1, 2)

    Raises
    ------
    ValueError
        On an unknown name or device, no or repeated or negative seeds, or CUDA asked for where
        there is none.
    """
    if name not in SEEDS:
        raise ValueError(f"no profile is called {name!r}; there are {', '.join(SEEDS)}")
    if device not in DEVICES:
        raise ValueError(f"no device is called {device!r}; there are {', '.join(DEVICES)}")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("device cuda was asked for, but torch finds no GPU; use --device cpu")
    chosen = SEEDS[name] if seeds is None else (seeds,) if isinstance(seeds, int) else seeds
    if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
        raise ValueError(f"seeds need to be different integers >= 0, got {chosen}")
    return Profile(name, device, tuple(chosen))
