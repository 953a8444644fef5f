"""Tests of folders of images, as downloads lay them out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.keras_file import read_input_shape
from lenet_edge.data import image_folder, mnist
from lenet_edge.data.handwriting import preprocessing_after_training
from lenet_edge.data.image_file import resize_image
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError
from lenet_edge.flows import datasets
from lenet_edge.flows.predict import find_images

RANDOM = np.random.default_rng(0)
TWO = ("cat", "dog")


def write_images(root: Path, classes: Any = TWO, count: int = 6, suffix: str = "png") -> None:
    """Write small drawings, one folder for each class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((10, 12), 20 * number + i, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.{suffix}")


def write_layout(root: Path, name: str) -> None:
    """Write the images of one layout."""
    parts = {
        "mnist_png": ("training", "testing"), "train_val": ("train", "val"),
        "roboflow": ("train", "valid", "test"), "capital": ("Train", "Test"),
        "three": ("train", "validation", "test"), "on_top": ("set/train", "set/test"),
        "doubled": ("seg_train/seg_train", "seg_test/seg_test", "seg_pred/seg_pred"),
    }.get(name)  # fmt: skip
    if parts:
        for part in parts:
            write_images(root / part)
    elif name == "nested":
        write_images(root / "dataset")
    elif name == "twelve":
        write_images(root, map(str, range(12)))
    elif name == "upper":
        write_images(root, suffix="JPG")
    elif name == "deep":
        write_images(root, ("cat/siamese", "cat/persian", "dog/pug"))
    elif name == "one":
        write_images(root, ("cat",))
    elif name == "vehicles":
        write_images(root, ("train", "bus", "test"))
    elif name in ("testonly", "trainonly"):
        full, partial = ("train", "test") if name == "testonly" else ("test", "train")
        write_images(root / partial)
        write_images(root / full, (*TWO, "bird"))
    elif name == "unlabelled":
        write_images(root / "train")
        write_images(root, ("test",))
    elif name == "no training":
        write_images(root / "test")
        write_images(root / "val")
    elif name == "flat":
        write_images(root.parent, (root.name,))
    elif name in ("empty", "csv"):
        root.mkdir()
        if name == "csv":
            (root / "mnist_train.csv").write_text("label,pixel0\n")
    elif name == "detection":
        for part in ("train", "valid"):
            write_images(root / part, ("images",))
            (root / part / "labels").mkdir()
    else:
        write_images(root)
    add_files(root, name)


def add_files(root: Path, name: str) -> None:
    """Add the files that operating systems, editors and cameras leave."""
    if name == "macosx":
        (root / "__MACOSX/cat").mkdir(parents=True)
        (root / "__MACOSX/cat/._1.png").write_bytes(b"\0\5\x16\7")
    elif name == "appledouble":
        (root / "cat/._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
        (root / ".DS_Store").write_bytes(b"x")
    elif name == "notebook":
        (root / ".ipynb_checkpoints").mkdir()
    elif name == "thumbs":
        (root / "cat/Thumbs.db").write_bytes(b"x")
        (root / "labels.txt").write_text("cat\ndog\n")
    elif name == "heic":
        (root / "cat/0.png").rename(root / "cat/0.heic")
        (root / "dog/0.xml").write_text("<annotation/>")
        (root / "dog/1.xml").write_text("<annotation/>")
    elif name == "only heic":
        for path in (root / "cat").iterdir():
            path.rename(path.with_suffix(".heic"))
    elif name == "beside":
        (root / "cover.png").write_bytes((root / "cat/0.png").read_bytes())
        (root / "cat/originals").mkdir()


TAKEN = {  # the numbers of training and test images, and a word of each remark
    "plain": (10, 2, []),
    "mnist_png": (12, 12, []),
    "train_val": (12, 12, ["train_val/val is the test part"]),
    "roboflow": (12, 12, ["roboflow/valid is not used, because"]),
    "capital": (12, 12, []),
    "three": (12, 12, ["three/validation is not used"]),
    "on_top": (12, 12, ["on_top holds only one folder; "]),
    "doubled": (12, 12, ["doubled/seg_pred is not used"]),
    "nested": (10, 2, ["nested holds only one folder; "]),
    "macosx": (10, 2, []),
    "appledouble": (10, 2, []),
    "notebook": (10, 2, []),
    "thumbs": (10, 2, []),
    "twelve": (60, 12, []),
    "upper": (10, 2, []),
    "heic": (9, 2, ["only PNG and JPEG files are used: 2 .xml, 1 .heic"]),
    "vehicles": (15, 3, []),
    "testonly": (18, 12, ["testonly/test has no images of bird"]),
    "unlabelled": (10, 2, ["unlabelled/test is not used, because it has no class folders"]),
    "beside": (10, 2, ["beside/cat are not used: originals", "1 images beside the class folders"]),
}
REFUSED = {
    "deep": "deep/cat holds folders (persian, siamese) instead of images; move their images",
    "one": "one has one class folder, cat; create a folder for each of two or more classes",
    "flat": "flat holds 6 images and no class folders; put the images of each class into a folder",
    "empty": "empty holds no images and no class folders; put",
    "only heic": "only heic/cat holds no PNG or JPEG images, only 6 .heic; convert them",
    "trainonly": "test has the class bird, and the training part has cat, dog; give both",
    "csv": "csv holds no images and no class folders; name one file: ",
    "detection": "detection/train holds images, labels, as for object detection; put the images",
    "no training": "no training has test and val but no training part; give",
}


@pytest.mark.parametrize("name", TAKEN)
def test_layouts_of_downloads_are_taken(tmp_path: Path, name: str) -> None:
    num_training, num_test, remarks = TAKEN[name]
    write_layout(tmp_path / name, name)
    training, test = datasets.load(str(tmp_path / name))
    assert (len(training), len(test)) == (num_training, num_test)
    assert len(training.files.remarks) == len(remarks)
    for remark, words in zip(training.files.remarks, remarks, strict=True):
        assert words in remark
    assert training.class_names == test.class_names
    if name == "twelve":  # by number, and the images with their class
        assert training.class_names == tuple(map(str, range(12)))
        assert (training.images[:, 0, 0, 0] // 20).tolist() == training.labels.tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_other_layouts_get_one_line(tmp_path: Path, name: str) -> None:
    write_layout(tmp_path / name, name)
    with pytest.raises(DataError) as caught:
        datasets.load(str(tmp_path / name))
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_training_parts_are_an_error(tmp_path: Path) -> None:
    for part in ("train", "Training", "test"):
        write_images(tmp_path / part)
    with pytest.raises(DataError, match="each looks like the train part; rename"):
        image_folder.load(tmp_path)


def test_the_split_is_always_the_same(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", "ab", count=20)
    training, test = image_folder.load(tmp_path / "photos")
    assert (training.name, test.name) == ("photos-train", "photos-test")
    assert np.bincount(training.labels).tolist() == [17, 17]
    assert np.bincount(test.labels).tolist() == [3, 3]
    again, _ = image_folder.load(tmp_path / "photos")
    np.testing.assert_array_equal(training.images, again.images)


def test_a_class_of_one_image_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, count=1)
    with pytest.raises(DataError, match=r"class cat in .* has one image; add at least one more"):
        image_folder.load(tmp_path)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def photo() -> Image.Image:
    """Return a colour photo of noise."""
    return Image.fromarray(RANDOM.integers(0, 256, (60, 90, 3), np.uint8))


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(RANDOM.integers(0, 256, (60, 90), np.uint8)))
    return image


def sixteen_bits() -> bytes:
    return encode(Image.fromarray(RANDOM.integers(0, 65_536, (60, 90)).astype(np.uint16)))


KINDS = {
    "rotated": encode(photo(), "JPEG", exif=rotated(6)),
    "mirrored": encode(photo(), exif=rotated(4)),
    "alpha": encode(with_alpha(photo())),
    "palette": encode(photo().quantize(16)),
    "16 bits": sixteen_bits(),
    "CMYK": encode(photo().convert("CMYK"), "JPEG"),
    "large": encode(photo().resize((2400, 1600)), "JPEG"),
    "grey": encode(photo().convert("L")),
}


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "grey"])
def test_training_and_prediction_see_the_same_pixels(tmp_path: Path, colour: bool) -> None:
    kinds = KINDS if colour else {name: KINDS[name] for name in ("16 bits", "grey")}
    for name in TWO:
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for kind, content in kinds.items():
            (tmp_path / "train" / name / f"{kind}.png").write_bytes(content)
            (tmp_path / "test" / name / f"{kind}.png").write_bytes(content)
    training, _ = image_folder.load(tmp_path)
    channels = 3 if colour else 1
    assert training.image_shape == (28, 28, channels)
    facts = model_facts(channels)
    calibration = load_images(tmp_path / "train", (28, 28, channels), TWO)
    for index, kind in enumerate(sorted(kinds)):
        path = tmp_path / "train" / "cat" / f"{kind}.png"
        predicted = prediction.load_pixels(facts, "x", str(path), "path")
        np.testing.assert_array_equal(training.images[index], predicted, err_msg=kind)
        np.testing.assert_array_equal(calibration.images[index], predicted, err_msg=kind)


@pytest.mark.parametrize("paper", ["black", "white"])
def test_digits_are_predicted_as_they_were_trained(tmp_path: Path, paper: str) -> None:
    """Cut out digits only for a model of digits that were cut out in training, as in MNIST."""
    data = mnist.load("test")
    for digit in range(10):
        (tmp_path / "digits" / str(digit)).mkdir(parents=True)
        for i, image in enumerate(data.images[data.labels == digit][:10]):
            pixels = image[..., 0] if paper == "black" else 255 - image[..., 0]
            Image.fromarray(pixels).save(tmp_path / "digits" / str(digit) / f"{i}.png")
    training, _ = image_folder.load(tmp_path / "digits")
    rule = preprocessing_after_training(training)
    assert rule.resize == (None if paper == "black" else "stretch")
    facts = {**model_facts(1), "labels": list("0123456789"), "preprocessing": rule.to_json()}
    path = tmp_path / "digits/0/0.png"
    predicted = np.array(prediction.load_pixels(facts, "x", str(path), "path"), np.uint8)
    if paper == "white":
        np.testing.assert_array_equal(predicted[..., 0], np.asarray(Image.open(path)))
    photo = tmp_path / "photo.png"
    Image.open(path).resize((300, 300)).save(photo)
    predicted = np.array(prediction.load_pixels(facts, "x", str(photo), "path"), np.float32)
    difference = np.abs(predicted[..., 0] - np.asarray(Image.open(path), np.float32)).mean()
    assert difference < 20


def test_the_rules_of_resizing_are_applied() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255  # a white square in the middle
    assert resize_image(image, (10, 10, 1), "crop").min() > 200
    box = resize_image(image, (12, 12, 1), "letterbox")[..., 0]
    assert box[:4].max() == box[8:].max() == 0
    assert box[4:8, 4:8].min() > 200
    stretched = resize_image(image, (12, 12, 3), "stretch", "nearest")
    np.testing.assert_array_equal(stretched, resize_image(image, (12, 12, 3), None, "nearest"))
    assert (stretched[:, 4:8] == 255).all()
    assert stretched.sum() == 255 * 12 * 4 * 3


def model_facts(channels: int) -> dict[str, Any]:
    """Return the facts of a model of cats and dogs."""
    shape = (None, 28, 28, channels)
    return Artifact(
        path=Path("x.tflite"), format="tflite", precision="float32", batch_size=None,
        inputs=(TensorSpec("image", shape, "float32"),),
        outputs=(TensorSpec("logits", (None, 2), "float32"),), size_bytes=1, sha256="0" * 64,
        parent_sha256=None, converter="keras", calibration=None, created_at="", labels=TWO,
    ).to_json()  # fmt: skip


def test_unusable_images_are_listed_together(tmp_path: Path) -> None:
    write_images(tmp_path, count=20)
    good = (tmp_path / "cat/0.png").read_bytes()
    bad = {
        "cat/1.png": good[:40],
        "cat/2.png": b"",
        "dog/3.png": b"Dear diary",
        "dog/4.png": encode(photo(), "WEBP"),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dog/5.png").unlink()
    os.mkfifo(tmp_path / "dog/5.png")
    (tmp_path / "dog/6.png").unlink()
    (tmp_path / "dog/6.png").symlink_to("nowhere.png")
    with pytest.raises(DataError) as caught:
        image_folder.load(tmp_path)
    message = str(caught.value)
    assert message.startswith("6 of 40 images in")
    assert message.endswith("; replace or remove them")
    for name in (*bad, "dog/5.png", "dog/6.png"):
        assert name in message
    for i in range(7, 20):
        (tmp_path / f"dog/{i}.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"19 of 40 images .* and 9 more; replace"):
        image_folder.load(tmp_path)


def test_an_eps_file_named_png_starts_no_program(tmp_path: Path) -> None:
    """Pillow decodes EPS with Ghostscript, which executes the file."""
    write_images(tmp_path / "photos")
    (tmp_path / "photos/cat/0.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    code = "import sys; from lenet_edge.flows import datasets; datasets.load(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "photos"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "cat/0.png is not a PNG or JPEG image" in done.stderr
    assert not (tmp_path / "started").exists()


def test_images_for_calibration_are_labelled_by_the_classes_of_the_model(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    images = load_images(tmp_path / "photos", (16, 16, 3), ("dog", "bird", "cat"))
    assert images.images.shape == (12, 16, 16, 3)
    assert images.labels is not None
    assert images.labels.tolist() == [2] * 6 + [0] * 6
    with pytest.raises(DataError, match="has the class 'cat', and the known classes are dog, bird"):
        load_images(tmp_path / "photos", (16, 16, 3), ("dog", "bird"))
    flat = load_images(tmp_path / "photos/dog", (16, 16, 1))
    assert flat.images.shape == (6, 16, 16, 1)
    assert flat.labels is None
    for part in ("train", "test"):
        write_images(tmp_path / "parts" / part, count=2 if part == "test" else 5)
    assert len(load_images(tmp_path / "parts", (16, 16, 1)).images) == 4
    assert len(load_images(tmp_path / "parts", (16, 16, 1), part="train").images) == 10
    with pytest.raises(DataError, match="cannot be scaled to the input"):
        load_images(tmp_path / "photos", (None, None, 3))


def write_keras(path: Path, batch_shape: list[int | None]) -> Path:
    """Write a .keras file of one input, without weights."""
    layer = {"class_name": "InputLayer", "config": {"batch_shape": batch_shape}}
    graph = {"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(graph))
        archive.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        archive.writestr("model.weights.h5", b"")
    return path


@pytest.mark.parametrize(
    ("batch_shape", "shape"),
    [
        ([None, 16, 20, 3], (16, 20, 3)),
        ([None, 3, 16, 20], (16, 20, 3)),
        ([None, 30, 30], (30, 30, 1)),
        ([None, 784], (28, 28, 1)),
        ([None, None, None, 3], (28, 28, 1)),  # the exporter reports that they do not fit
    ],
    ids=str,
)
def test_images_are_scaled_to_the_model_to_export(
    tmp_path: Path, batch_shape: list[int | None], shape: tuple[int, ...]
) -> None:
    write_images(tmp_path / "photos")
    model = write_keras(tmp_path / "foreign.keras", batch_shape)
    training, test = datasets.load(str(tmp_path / "photos"), model=model)
    assert training.image_shape == test.image_shape == shape


def test_images_are_scaled_to_checkpoints_of_all_kinds(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    golden = Path(__file__).parents[1] / "golden" / "keras2"
    exported = Path(__file__).parents[2] / "exported" / "lenet.keras"
    for path, shape in (
        (exported, (28, 28, 1)),
        (golden / "teachable.h5", read_input_shape(golden / "teachable.h5")),
        (golden / "transfer.keras", read_input_shape(golden / "transfer.keras")),
    ):
        assert shape is not None
        training, _ = datasets.load(str(tmp_path / "photos"), model=path)
        assert training.image_shape == tuple(shape)[-3:]


def test_images_of_predict_are_found_in_all_folders(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints/0-checkpoint.png").write_bytes(b"x")
    (tmp_path / "cat/1.png").rename(tmp_path / "cat/1.heic")
    remarks: list[str] = []
    sources = find_images([str(tmp_path)], note=remarks.append)
    assert len(sources) == 11
    assert "1 .heic" in remarks[0]
    for source in sources:
        Path(source.name).unlink()
    with pytest.raises(DataError, match=r"holds no images .*, only 1 .heic; convert"):
        find_images([str(tmp_path)])
