"""The data sets of the chapter robustness/relaxed: guarantees, and classes that belong together."""

from collections.abc import Mapping
from dataclasses import dataclass

from thesis_repro.robustness import relaxed
from thesis_repro.robustness.relaxed import Guarantee

TOP, AFFINITY = "top-1", "affinity"
PLAIN, RELAXED = "GloRo", "relaxed"
"""Training objectives: the plain bottom class, and that of the guarantee that is scored."""
MNIST_5K, EUROSAT, CIFAR10, CIFAR100, TINY = (
    "mnist-5k",
    "eurosat",
    "cifar10",
    "cifar100",
    "tiny-imagenet",
)
PICTURES = (EUROSAT, CIFAR10, CIFAR100, TINY)
"""The data sets of the paper profile."""


@dataclass(frozen=True)
class Setting:
    """A data set in the tables of this chapter.

    sizes : the K of its relaxed top-K rows
    groups : names of classes that a person would put together; in them every class
    whose : whose groups these are
    whole : number of images in the whole set, where a part of it may be used; else 0
    whole_part : number of its training images, where it comes with a test part; else 0
    """

    title: str
    sizes: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    whose: str = ""
    whole: int = 0
    whole_part: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the data set's order, which is alphabetical in all of ours."""
        return tuple(sorted({name for group in self.groups for name in group}))

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The groups as class indices."""
        at = {name: index for index, name in enumerate(self.classes)}
        return tuple(tuple(sorted(at[name] for name in group)) for group in self.groups)

    @property
    def guarantees(self) -> Mapping[str, Guarantee]:
        """Guarantees by the name that a row has."""
        found = {TOP: relaxed.up_to(1)} | {f"RT{k}": relaxed.up_to(k) for k in self.sizes}
        return found | ({AFFINITY: relaxed.within(self.sets)} if self.groups else {})

    def check(self, classes: tuple[str, ...]) -> None:
        """Refuse a data set with other classes than the groups name.

        Raises
        ------
        ValueError
        """
        if self.groups and classes != self.classes:
            raise ValueError(
                f"the groups of {self.title} name the classes {', '.join(self.classes[:3])}…, the "
                f"data set has {', '.join(classes[:3])}…"
            )

    def note(self, train: int, test: int) -> str:
        """What share of the set was used, where that is not all of it."""
        if train < self.whole_part:
            return f"{train:,} of {self.whole_part:,} training images"
        images = train + test
        return f"{images:,} of {self.whole:,} images" if images < self.whole else ""


def contenders(setting: Setting) -> list[tuple[str, str]]:
    """Guarantees and objectives of a data set's rows; the post-hoc row before the trained one."""
    rows = [(TOP, PLAIN)]
    for guarantee in setting.guarantees:
        if guarantee != TOP:
            rows += [(guarantee, PLAIN), (guarantee, RELAXED)]
    return rows


SUPERCLASSES = """
beaver dolphin otter seal whale
aquarium_fish flatfish ray shark trout
orchid poppy rose sunflower tulip
bottle bowl can cup plate
apple mushroom orange pear sweet_pepper
clock keyboard lamp telephone television
bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach
bear leopard lion tiger wolf
bridge castle house road skyscraper
cloud forest mountain plain sea
camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk
crab lobster snail spider worm
baby boy girl man woman
crocodile dinosaur lizard snake turtle
hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree
bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor
"""
"""The twenty superclasses of CIFAR-100, one a line; source: Krizhevsky 2009."""

PLANE = Setting("plane", (2,))

SETTINGS = {
    MNIST_5K: Setting(
        "MNIST-5k",
        (3,),
        (("3", "5", "8"), ("4", "7", "9"), ("1", "2", "7"), ("0", "6")),
        "ours, by the look of the digits",
    ),
    EUROSAT: Setting(
        "EuroSAT",
        (3,),
        (
            ("Highway", "River"),
            ("Highway", "Industrial", "Residential"),
            ("AnnualCrop", "HerbaceousVegetation", "Pasture", "PermanentCrop"),
            ("Forest", "SeaLake"),
        ),
        "ours, by what shares a picture",
        whole=27_000,
    ),
    CIFAR10: Setting(
        "CIFAR-10",
        (3,),
        (
            ("airplane", "automobile", "ship", "truck"),
            ("bird", "cat", "deer", "dog", "frog", "horse"),
        ),
        "vehicles and animals",
    ),
    CIFAR100: Setting(
        "CIFAR-100",
        (5,),
        tuple(tuple(line.split()) for line in SUPERCLASSES.split("\n") if line),
        "the data set's superclasses",
        whole_part=50_000,
    ),
    TINY: Setting("Tiny-ImageNet", (5,)),
}
