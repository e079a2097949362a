"""Data sets of one's own: the same Dataset from every source, one line for what does not fit."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from thesis_repro import data
from thesis_repro.data import own
from thesis_repro.data.images import labels

RNG = np.random.default_rng(5)
BYTES = RNG.integers(0, 256, (30, 3, 8, 6), np.uint8)
X = BYTES.astype(np.float32) / 255
Y = np.arange(30) % 3
NAMES = ["ant", "bee", "cat"]


def same(first: data.Dataset, second: data.Dataset) -> bool:
    return data.fingerprint(first) == data.fingerprint(second)


def test_arrays_tensors_and_loaders_give_the_same_set() -> None:
    found = data.from_arrays(X, Y, NAMES)
    assert (found.name, found.classes) == ("own", ("ant", "bee", "cat"))
    assert (len(found.train), len(found.test)) == (24, 6)
    assert (found.train.x.dtype, found.train.y.dtype) == (torch.float32, torch.int64)
    assert found.test.y.bincount().tolist() == [2, 2, 2]
    for split in (found.train, found.test):  # every point with its own label
        for image, label in zip(split.x.numpy(), split.y, strict=True):
            (row,) = np.flatnonzero((image == X).all((1, 2, 3)))
            assert Y[row] == label
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(pairs, batch_size=7)
    text = [NAMES[y] for y in Y]
    for other in (
        data.from_arrays(torch.from_numpy(X), torch.from_numpy(Y), NAMES),
        data.from_arrays(X.astype(np.float64), Y.astype(np.uint8), NAMES),
        data.from_arrays(np.asfortranarray(X), text),
        data.from_arrays(X[::-1][::-1], np.array(text, object), NAMES),
        data.from_loader(loader, NAMES),
    ):
        assert same(found, other)
    read_only = X.copy()
    read_only.flags.writeable = False
    assert same(found, data.from_arrays(read_only, Y, NAMES))
    assert not same(found, data.from_arrays(1 - X, Y, NAMES))
    assert not same(found, data.from_arrays(X, (Y + 1) % 3, NAMES))
    assert not same(found, data.from_arrays(X, Y, NAMES[::-1]))


def test_a_command_resizes_a_folder(tmp_path: Path) -> None:
    for row, image in enumerate(BYTES):
        file = tmp_path / "pets" / NAMES[Y[row]] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).resize((6, 8 + row % 2)).save(file)
    with pytest.raises(ValueError, match=r"resizes them to one, in a command folder:PATH@8x6"):
        data.load_any(f"folder:{tmp_path}/pets")
    found = data.load_any(f"folder:{tmp_path}/pets@16x12")
    assert found.train.x.shape == (24, 3, 16, 12) and found.name == "pets"
    assert same(found, data.from_folder(tmp_path / "pets", (16, 12)))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_what_is_written_into_the_arrays_later_does_not_reach_the_set(kind: Any, given: bool):
    x = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)
    y = np.arange(20) % 2
    test = (kind(x.copy()), kind(y.copy())) if given else None
    parts = [kind(x), kind(y), *(test or ())]
    own = data.from_arrays(*parts[:2], test=test)
    before = data.content(own)
    for part in parts:
        part[:] = 0
    assert data.content(own) == before


def test_a_test_part_that_is_given_is_kept_as_it_is() -> None:
    found = data.from_arrays(X[:20], Y[:20], test=(X[20:], Y[20:]))
    assert found.classes == ("0", "1", "2")
    assert torch.equal(found.test.x, torch.from_numpy(X[20:]))
    text = data.from_arrays(X[:2], ["ant", "bee"], test=(X[2:4], ["cat", "ant"]))
    assert (text.classes, text.test.y.tolist()) == (("ant", "bee", "cat"), [2, 0])


@pytest.mark.parametrize(
    "kind", [list, object, np.uint8, torch.tensor, partial(torch.tensor, dtype=torch.uint16)]
)
def test_whole_numbers_of_any_type_are_the_labels(kind: Any) -> None:
    wanted = list(range(12))  # as text "10" would come before "2"
    y = np.array(wanted, kind) if kind in (object, np.uint8) else kind(wanted)
    found = data.from_arrays(X[:12], y, test=(X[:12], y))
    assert found.train.y.tolist() == wanted
    assert found.classes == tuple(map(str, wanted))


def test_names_in_bytes_are_text() -> None:
    found = data.from_arrays(X, np.array([NAMES[y].encode() for y in Y]))
    assert same(found, data.from_arrays(X, Y, NAMES))
    assert same(found, data.from_arrays(X, Y, np.array([name.encode() for name in NAMES])))


@pytest.mark.parametrize(
    ("x", "y", "options", "says"),
    [
        (X.tolist(), Y, {}, "images need to be a torch tensor or a numpy array, got list"),
        (BYTES, Y, {}, "got uint8: for pixels in 0..255 give x / 255 as float32"),
        (X.astype(str), Y, {}, "images need to be floating-point numbers, got <U"),
        (X.transpose(0, 2, 3, 1), Y, {}, "channels last: x.transpose.0, 3, 1, 2. of an array"),
        (X * 255, Y, {}, "0 to 255: for pixels in 0..255 give x / 255"),
        (X - 0.5, Y, {}, r"pixels need to lie in \[0, 1\], got values from -0.5"),
        (np.full_like(X, np.nan), Y, {}, r"pixels need to lie in \[0, 1\], got values from nan"),
        (X[0], Y, {}, r"one image alone: x\[None\]"),
        (X[:, 0], Y, {}, r"without channels: x\[:, None\]"),
        (X[:0], Y[:0], {}, "with n >= 1"),
        (X, Y[:-1], {}, r"one label for each of 30 images, got shape \(29,\)"),
        (X, Y / 2, {}, "labels need to be whole numbers, got float64"),
        (X, Y - 1, {}, r"labels need to lie in \[0, 2\), got -1 in row 0"),
        (X, Y, {"classes": NAMES[:2]}, r"labels need to lie in \[0, 2\), got 2 in row 2"),
        (X, [NAMES[y] for y in Y], {"classes": NAMES[:2]}, "label 'cat' is none of the classes"),
        (X, Y, {"classes": ["a", "a", "b"]}, "names, each once"),
        (X, Y, {"classes": 3}, "classes need to be a list of names, got 3"),
        (X, Y, {"classes": np.array(3)}, "classes need to be a list of names, got 3"),
        (X, Y, {"classes": np.array([NAMES] * 3)}, r"a list of names, got \[\['ant', 'bee'"),
        (X, Y.astype("datetime64[D]"), {}, r"whole numbers, got datetime64\[D\]"),
        (X, np.zeros(30, [("kind", int)]), {}, r"whole numbers, got \[\('kind'"),
        (X, torch.zeros(30, dtype=torch.complex64), {}, "whole numbers, got complex64"),
        (X, torch.from_numpy(Y).to_sparse(), {}, "labels need to be a dense tensor"),
        (X[:2], Y[:2], {}, "1 images of class 0 are too few to hold out 20%"),
        (X[:8], np.array([0, 0, 0, 1, 1, 1, 2, 2]), {}, "2 images of class 2 are too few"),
        (X[:3], ["ant", "bee", np.nan], {}, "names of classes or all whole numbers, got nan"),
        (X[:3], np.array(["ant", None, "bee"], object), {}, "got None among them"),
        (X[:2], ["ant", 1], {}, "got 1 among them"),
        (X, Y, {"test": (X[:, :, :4], Y)}, "do not fit training images"),
    ],
)
def test_what_does_not_fit_is_one_line(x: Any, y: Any, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        data.from_arrays(x, y, **options)
    assert "\n" not in str(error.value)


def test_text_as_labels_is_named_where_numbers_are_needed() -> None:
    with pytest.raises(ValueError, match="got text: data.from_arrays"):
        labels("y", NAMES, torch.zeros(3, 1, 2, 2))
    with pytest.raises(ValueError, match=r"in \[0, 2\), got 2 in row 2"):
        labels("y", Y, torch.from_numpy(X), 2)


def test_channels_last_is_seen_by_the_shape_that_a_net_takes() -> None:
    with pytest.raises(ValueError, match="channels last"):
        data.images(np.zeros((2, 3, 3, 5), np.float32), (5, 3, 3))
    with pytest.raises(ValueError, match=r"got \(2, 4, 3, 3\)$"):
        data.images(np.zeros((2, 4, 3, 3), np.float32), (5, 3, 3))


def test_a_loader_that_does_not_fit_is_one_line() -> None:
    for loader, says in (
        ([], "yields no batch"),
        ([X], r"pairs \(images, labels\), got ndarray as batch 0"),
        ([(X, Y), (X[:, :, :4], Y)], "has to make them one"),
        ([(X, Y), (X, ["ant"] * 30)], "labels of numbers and text: it has to make them one"),
        ([(X, Y), (X, Y.astype("datetime64[D]"))], r"labels of datetime64\[D\] and numbers"),
        ([(X, torch.zeros(30, dtype=torch.bfloat16))], "whole numbers, got bfloat16"),
        ([(X, torch.from_numpy(Y).to_sparse())], "labels need to be a dense tensor"),
    ):
        with pytest.raises(ValueError, match=says):
            data.from_loader(loader)


def pictures(root: Path, rows: Any, x: Any = BYTES) -> Path:
    for i in rows:
        file = root / NAMES[Y[i]] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i].transpose(1, 2, 0).squeeze()).save(file)
    return root


def test_a_folder_of_pictures_has_the_same_numbers(tmp_path: Path) -> None:
    found = data.from_folder(str(pictures(tmp_path / "zoo", range(30))))
    assert (found.name, found.classes) == ("zoo", tuple(NAMES))
    assert (len(found.train), len(found.test)) == (24, 6)
    for split in (found.train, found.test):
        for image, label, name in zip(split.x.numpy(), split.y, split.names, strict=True):
            row = int(Path(name).stem)
            assert name.startswith(f"{NAMES[label]}/") and Y[row] == label
            assert np.array_equal(image, X[row])
    dealt = pictures(tmp_path / "dealt" / "train", range(20))
    pictures(tmp_path / "dealt" / "val", range(20, 30))
    parts = data.from_folder(dealt.parent)
    assert (len(parts.train), len(parts.test)) == (20, 10)
    assert {int(Path(name).stem) for name in parts.test.names} == set(range(20, 30))


def test_grey_pictures_have_one_channel_and_sizes_are_made_one(tmp_path: Path) -> None:
    found = data.from_folder(pictures(tmp_path / "grey", range(30), BYTES[:, :1]))
    assert found.train.x.shape == (24, 1, 8, 6)
    Image.new("RGB", (9, 9)).save(tmp_path / "grey" / "bee" / "0.png")
    with pytest.raises(ValueError, match=r"9x9 pixels, where .* has 8x6: size="):
        data.from_folder(tmp_path / "grey")
    assert data.from_folder(tmp_path / "grey", size=(4, 5)).test.x.shape[1:] == (3, 4, 5)


def test_a_folder_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(data.DataMissing, match="there is no such folder"):
        data.from_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="one folder of pictures for each class"):
        data.from_folder(tmp_path)
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "1.png").write_bytes(b"no picture")
    with pytest.raises(data.DataDamaged, match=r"1\.png: does not decode"):
        data.from_folder(tmp_path)


def test_a_picture_too_large_to_decode_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, range(30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # of 48: over twice as many are refused
    with pytest.raises(data.DataDamaged, match=r"ant/0\.png: does not decode .*exceeds limit"):
        data.from_folder(tmp_path)


@pytest.mark.parametrize("size", [32, (0, 4), (8,), (8.5, 4), "32"])
def test_a_size_that_is_none_is_one_line(tmp_path: Path, size: Any) -> None:
    pictures(tmp_path, range(30))
    with pytest.raises(ValueError, match=r"size needs to be \(height, width\), each 1 pixel"):
        data.from_folder(tmp_path, size)
    with pytest.raises(ValueError, match=r"each 1 pixel or more, got \(0, 32\)"):
        data.load_any(f"folder:{tmp_path}@0x32")


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    shown = data.from_folder(pictures(tmp_path / "zoo", range(30)))
    for place in (".thumbnails", "ant/.ipynb_checkpoints", "bee/more/.thumbnails/large"):
        pictures(tmp_path / "zoo" / place, range(3))
    for place in ("ant", "__MACOSX"):
        (tmp_path / "zoo" / place).mkdir(exist_ok=True)
        (tmp_path / "zoo" / place / "._0.png").write_bytes(b"no picture")
    found = data.from_folder(tmp_path / "zoo")
    assert same(found, shown) and found.test.names == shown.test.names
    pictures(tmp_path / ".hidden" / "zoo", range(30))  # what is named may lie anywhere
    assert same(data.from_folder(tmp_path / ".hidden" / "zoo"), shown)


@pytest.mark.parametrize("part", ["train", "Train", "test"])
def test_a_part_alone_is_no_class(tmp_path: Path, part: str) -> None:
    pictures(tmp_path / part, range(30))
    with pytest.raises(ValueError, match=f"holds {part}/, which is no class: need train/ and"):
        data.from_folder(tmp_path)
    for i in range(6):  # the vehicle, whose pictures lie in it as those of other classes do
        for kind in ("train", "ship"):
            file = tmp_path / "vehicles" / kind / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), i).save(file)
    assert data.from_folder(tmp_path / "vehicles").classes == ("ship", "train")


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_pictures_of_more_than_eight_bits_are_not_cut(tmp_path: Path, kind: Any) -> None:
    for i in range(6):  # what is above 255 would come out white
        file = tmp_path / NAMES[i % 2] / f"{i}.tif"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 3000 + i).astype(kind)).save(file)
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        data.from_folder(tmp_path)


def test_an_npz_file_has_the_same_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=X, y=Y, classes=NAMES)
    assert same(data.load_any(str(tmp_path / "own.npz")), data.from_arrays(X, Y, NAMES))
    np.savez(tmp_path / "two.npz", x_train=X[:20], y_train=Y[:20], x_test=X[20:], y_test=Y[20:])
    two = data.from_npz(tmp_path / "two.npz")
    assert same(two, data.from_arrays(X[:20], Y[:20], test=(X[20:], Y[20:])))
    np.savez(tmp_path / "half.npz", x=X)
    np.savez(tmp_path / "object.npz", x=np.array([{}], object), y=Y)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "two-names.npz", x=X, y=Y, classes=2)
    np.savez_compressed(tmp_path / "torn.npz", x=X, y=Y)
    torn = bytearray((tmp_path / "torn.npz").read_bytes())
    torn[200:240] = b"\x55" * 40
    (tmp_path / "torn.npz").write_bytes(torn)
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name, says in (
        ("half", "has no y; need x and y"),
        ("object", "npz file of plain arrays"),
        ("text", "npz file of plain arrays"),
        ("two-names", "classes need to be a list of names, got 2"),
        ("torn", "npz file of plain arrays"),
        ("array", "npz file of plain arrays"),
        ("absent", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            data.load_any(str(tmp_path / f"{name}.npz"))
        assert f"{name}.npz" in str(error.value) and "\n" not in str(error.value)


def test_what_a_command_names(tmp_path: Path) -> None:
    assert data.load_any(f"folder:{pictures(tmp_path / 'zoo', range(30))}").name == "zoo"
    named = data.load_any("mnist-5k")
    assert torch.equal(named.test.x, data.held_out("mnist-5k").x)
    with pytest.raises(
        ValueError, match=r"no data set is called 'mnisst'; there are .*folder:PATH"
    ):
        data.load_any("mnisst")


def test_the_fingerprint_of_a_set_in_memory_is_that_of_its_numbers() -> None:
    found = data.from_arrays(X, Y, NAMES)
    assert data.fingerprint(found) == own.content(found)
    found.train.x[0, 0, 0, 0] = 1 - found.train.x[0, 0, 0, 0]
    assert data.fingerprint(found) != data.fingerprint(data.from_arrays(X, Y, NAMES))
