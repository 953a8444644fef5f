"""Check of a model file before it is read: its name, its suffix and its content."""

from __future__ import annotations

from pathlib import Path

from lenet_edge import formats
from lenet_edge.errors import ModelFileError
from lenet_edge.extras import host_command

MAX_BYTES = 2**31  # size limit of FlatBuffers and Protocol Buffers


def check_path_encoding(path: Path) -> None:
    """Check that a path is text: runtimes and TensorFlow encode paths as UTF-8.

    Raises:
        ModelFileError: the path contains bytes that are not text.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ModelFileError(
            f"{path}: the name is not valid UTF-8; rename it, or set a UTF-8 locale"
        ) from None


def check_format(path: Path) -> str:
    """Return the name of a model file's format, after checking the suffix and the content.

    Raises:
        ModelFileError: the file is missing, empty, too large or of an unknown format; its name is
            not valid UTF-8; its content does not match its suffix; or it is unsafe: it would run
            code of its own, or read files outside its folder.
    """
    check_path_encoding(path)
    advice = formats.ADVICE.get(path.suffix.lower())
    if path.is_dir():  # some formats of other tools are folders
        raise ModelFileError(f"{path} is {advice or _describe_folder(path)}")
    if not path.is_file():
        maker = "train" if path.suffix == ".keras" else "export"
        command = host_command(f"lenet-edge {maker}")
        raise ModelFileError(f"{path}: no such file; make the files with: {command}")
    format = formats.format_of(path)
    if format is None:
        if advice:
            raise ModelFileError(f"{path} is {advice}")
        expected = ", ".join(formats.BY_SUFFIX)
        raise ModelFileError(f"{path}: not a model file; expected one of {expected}")
    with path.open("rb") as file:
        head = file.read(formats.HEAD_BYTES)
    if not head:
        raise ModelFileError(f"{path} is empty; export it again")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFileError(
            f"{path} has {path.stat().st_size:,} bytes, and a model file has at most"
            f" {MAX_BYTES:,}; check where it came from"
        )
    if format.magic.match(head):
        if format.check:
            formats.load(format.check)(path)
        return format.name
    actual = formats.recognize(head)
    description = f"a {actual.name} file" if actual else "not a model"
    raise ModelFileError(
        f"{path} is named {path.suffix} but is {description}; check where it came from"
    )


def _describe_folder(path: Path) -> str:
    """Return the end of a message about a folder that was given as a model file."""
    if not (path / "saved_model.pb").exists():
        return "a folder; name the files in it"
    if (path / "keras_metadata.pb").exists():
        return (
            "a SavedModel folder of Keras 2, whose code lenet-edge does not run; make an .h5 file"
            ' of it: pip install tf_keras, then python -c "import tf_keras;'
            f" tf_keras.models.load_model('{path}').save('{path.name}.h5')\""
        )
    return (
        "a SavedModel folder, whose code lenet-edge does not run; save the model as .keras where it"
        ' was made, or make a .tflite file of it: python -c "import tensorflow as tf;'
        f" open('{path.name}.tflite', 'wb').write(tf.lite.TFLiteConverter"
        f".from_saved_model('{path}').convert())\""
    )
