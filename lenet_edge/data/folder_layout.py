"""Layout of a folder of images: its training and test parts, its classes, and their files.

Downloads differ in their layout. An archive has its own folder on top, parts have many names, and
operating systems leave files of their own. The functions look at names only, and decode nothing.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lenet_edge.data.image_file import SUFFIXES
from lenet_edge.errors import DataError

Part = Literal["train", "validation", "test"]
_PART = re.compile(
    r"(?P<prefix>.*[-_ .])?(?P<part>train|training|val|valid|validation|dev|test|testing|tests)"
    r"(?:[-_ .]?(?:set|data|dataset|images|imgs|samples))?"
)
_PART_NAMES: dict[str, Part] = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "tests": "test",
}  # fmt: skip
# Files and folders of operating systems, editors and network drives. Hidden names are skipped too.
_JUNK = {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir",
         "$recycle.bin", "system volume information", "lost+found"}  # fmt: skip
# Suffixes of images that `image_file.decode_image` refuses. Beside class folders, only these are
# reported: a README there is usual.
_OTHER_IMAGES = {".avif", ".bmp", ".cr2", ".dng", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2",
                 ".jxl", ".nef", ".pbm", ".pgm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff",
                 ".webp"}  # fmt: skip
_DETECTION = ({"images", "labels"}, {"images", "annotations"}, {"images", "masks"})
_MAX_DEPTH = 8  # folders on top of the class folders
_MAX_NAMES = 5  # in a message


@dataclass(frozen=True)
class FolderLayout:
    """The image files of a folder.

    Attributes:
        training: the image files of each class, in the order of the classes.
        test: the image files of each class, in the same order; None if the folder has no parts.
        remarks: a sentence for each file or folder that is not used, and for each choice.
    """

    training: dict[str, list[Path]]
    test: dict[str, list[Path]] | None
    remarks: tuple[str, ...]


@dataclass
class _Listing:
    """The folders, images and other files directly inside a folder."""

    path: Path
    folders: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    data_files: list[Path] = field(default_factory=list)


@dataclass
class _Remarks:
    """Collector of the remarks of a layout."""

    sentences: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def all(self) -> tuple[str, ...]:
        if not self.others:
            return tuple(self.sentences)
        left_out = "Left out, because only PNG and JPEG files are used: " + _counts(self.others)
        return (*self.sentences, left_out)


def find_layout(folder: Path) -> FolderLayout:
    """Find the parts, classes and image files of a folder.

    Raises:
        DataError: the folder has no usable layout. The message names the expected one.
    """
    remarks = _Remarks()
    top = _descend(folder, remarks)
    parts = _find_parts(top, remarks)
    if parts is None:
        return FolderLayout(_find_classes(top, remarks), None, remarks.all())
    training_part, test_part = parts
    training = _find_classes(training_part, remarks)
    if test_part is None:
        return FolderLayout(training, None, remarks.all())
    test = _find_test_classes(test_part, training, remarks)
    return FolderLayout(training, test, remarks.all())


def has_classes(folder: Path) -> bool:
    """Return whether a folder holds two or more folders, which are classes or parts."""
    return len(_descend(folder, _Remarks()).folders) > 1


def find_images(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Find the image files in a folder and in all folders below it.

    Returns:
        The files sorted by path, and a remark about files of other formats.

    Raises:
        DataError: there are no images.
    """
    images, others = [], Counter[str]()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_junk(name))
        for name in names:
            suffix = Path(name).suffix.lower()
            if _is_junk(name):
                continue
            if suffix in SUFFIXES:
                images.append(Path(place, name))
            elif suffix in _OTHER_IMAGES:
                others[suffix] += 1
    if not images:
        raise DataError(
            f"{folder} holds no images ({', '.join(SUFFIXES)})"
            + (f", only {_counts(others)}; convert them to PNG" if others else "; name another")
        )
    remarks = _Remarks(others=others)
    return sorted(images), remarks.all()


def sort_classes(names: Iterable[str]) -> list[str]:
    """Return the names of classes in their order: by number if all are numbers, else by name."""
    unique = set(names)
    if all(name.isascii() and name.isdigit() for name in unique):
        return sorted(unique, key=lambda name: (int(name), name))
    return sorted(unique)


def list_names(names: Iterable[str]) -> str:
    """Return the first names of a list, and the number of the others."""
    listed = list(names)
    more = len(listed) - _MAX_NAMES
    return ", ".join(listed[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _list(folder: Path) -> _Listing:
    listing = _Listing(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                suffix = Path(entry.name).suffix.lower()
                if _is_junk(entry.name):
                    continue
                if entry.is_dir():
                    listing.folders.append(Path(entry.path))
                elif suffix in SUFFIXES:
                    listing.images.append(Path(entry.path))
                else:
                    listing.others[suffix] += 1
                    if suffix in (".csv", ".npz"):
                        listing.data_files.append(Path(entry.path))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}); check its permissions"
        ) from error
    return listing


def _descend(folder: Path, remarks: _Remarks) -> _Listing:
    """Enter folders that hold nothing but one folder of folders, such as an archive's own."""
    listing = _list(folder)
    for _ in range(_MAX_DEPTH):
        if listing.images or len(listing.folders) != 1:
            break
        inner = _list(listing.folders[0])
        if inner.images or not inner.folders:
            break
        listing = inner
    if listing.path != folder:
        remarks.add(f"{folder} holds only one folder; {listing.path} is used")
    return listing


def _find_parts(top: _Listing, remarks: _Remarks) -> tuple[_Listing, _Listing | None] | None:
    """Return the training part and the test part.

    Returns:
        None if the folders are classes. The test part is None if there is only a training part.
    """
    found: dict[Part, list[_Listing]] = {"train": [], "validation": [], "test": []}
    for folder in top.folders:
        if part := _part_of(folder):
            # A class may have such a name too: a train is a vehicle. Its folder holds images.
            listing = _descend(folder, _Remarks())
            if listing.folders:
                found[part].append(listing)
    if not any(found.values()):
        return None
    chosen = {part: _choose(part, listings) for part, listings in found.items() if listings}
    training = chosen.get("train")
    if training is None:
        if any(_list(folder).images for folder in top.folders):
            return None
        names = " and ".join(folder.name for folder in top.folders if _part_of(folder))
        raise DataError(
            f"{top.path} has {names} but no training part; give the folder train/CLASS/IMAGE.png"
        )
    test = chosen.get("test") or chosen.get("validation")
    if test and test is chosen.get("validation"):
        remarks.add(f"{test.path} is the test part")
    used = [listing.path for listing in (training, test) if listing]
    for folder in top.folders:
        if not any(path == folder or folder in path.parents for path in used):
            why = ""
            if test and _part_of(folder) == "validation":
                why = f", because {test.path} is the test part"
            elif _part_of(folder) and not _list(folder).folders:
                why = ", because it has no class folders"
            remarks.add(f"{folder} is not used{why}")
    return training, test


def _part_of(folder: Path) -> Part | None:
    match = _PART.fullmatch(folder.name.lower())
    return _PART_NAMES[match["part"]] if match else None


def _choose(part: Part, listings: list[_Listing]) -> _Listing:
    """Return the only folder of a part; a plain name precedes one with a prefix."""
    plain = [listing for listing in listings if listing.path.name.lower() in _PART_NAMES]
    candidates = plain or listings
    if len(candidates) > 1:
        names = ", ".join(str(listing.path) for listing in candidates)
        raise DataError(f"{names}: each looks like the {part} part; rename or remove the others")
    return candidates[0]


def _find_classes(part: _Listing, remarks: _Remarks) -> dict[str, list[Path]]:
    """Return the image files of each class.

    Raises:
        DataError: there are fewer than two classes, or one has no images or only folders.
    """
    _check_not_flat(part)
    if {folder.name.lower() for folder in part.folders} in _DETECTION:
        names = list_names(folder.name for folder in part.folders)
        raise DataError(
            f"{part.path} holds {names}, as for object detection; put the images of each class into"
            f" a folder with its name: {part.path}/CLASS/IMAGE.png"
        )
    classes = {}
    for name in sort_classes(folder.name for folder in part.folders):
        listing = _list(part.path / name)
        if not listing.images:
            raise DataError(_no_images(listing))
        classes[name] = _take_images(listing, remarks)
    if len(classes) < 2:
        raise DataError(
            f"{part.path} has one class folder, {next(iter(classes))}; create a folder for each of"
            " two or more classes"
        )
    _report_others(part, remarks)
    return classes


def _find_test_classes(
    part: _Listing, training: dict[str, list[Path]], remarks: _Remarks
) -> dict[str, list[Path]]:
    """Return the image files of each class of the training part; a class may have none.

    Raises:
        DataError: there are no images, or a class is missing in the training part.
    """
    _check_not_flat(part)
    listings = {folder.name: _list(folder) for folder in part.folders}
    if unknown := [name for name in listings if name not in training]:
        raise DataError(
            f"{part.path} has the class {list_names(unknown)}, and the training part"
            f" has {list_names(training)}; give both parts the same classes"
        )
    for listing in listings.values():
        if not listing.images and listing.folders:
            raise DataError(_no_images(listing))
    classes = {
        name: _take_images(listings[name], remarks) if name in listings else [] for name in training
    }
    if not any(classes.values()):
        raise DataError(f"{part.path} holds no images; add some ({', '.join(SUFFIXES)})")
    if empty := [name for name, images in classes.items() if not images]:
        remarks.add(f"{part.path} has no images of {list_names(empty)}")
    _report_others(part, remarks)
    return classes


def _check_not_flat(part: _Listing) -> None:
    if part.folders:
        return
    holds = f"{len(part.images)} images" if part.images else "no images"
    if others := Counter({s: n for s, n in part.others.items() if s in _OTHER_IMAGES}):
        holds += f" ({_counts(others)} are left out)"
    for path in part.data_files[:1]:
        raise DataError(f"{part.path} holds {holds} and no class folders; name one file: {path}")
    raise DataError(
        f"{part.path} holds {holds} and no class folders; put the images of each class into a"
        f" folder with its name: {part.path}/CLASS/IMAGE.png"
    )


def _no_images(listing: _Listing) -> str:
    """Return the message for a class folder without images."""
    start = f"class folder {listing.path} holds"
    if listing.folders:
        names = list_names(folder.name for folder in listing.folders)
        return (
            f"{start} folders ({names}) instead of images; move their images into"
            f" {listing.path}, or make each of them a class folder beside the others"
        )
    if listing.others:
        return f"{start} no PNG or JPEG images, only {_counts(listing.others)}; convert them to PNG"
    return f"{start} no images; add some ({', '.join(SUFFIXES)}) or remove the folder"


def _take_images(listing: _Listing, remarks: _Remarks) -> list[Path]:
    """Return the images of a class folder, and report what else it holds."""
    name = listing.path.name
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name of class folder {listing.path} is not UTF-8; rename it"
        ) from None
    if listing.folders:
        names = list_names(folder.name for folder in listing.folders)
        remarks.add(f"Folders inside class folder {listing.path} are not used: {names}")
    remarks.others.update(listing.others)
    return listing.images


def _report_others(part: _Listing, remarks: _Remarks) -> None:
    """Report images beside the class folders."""
    if part.images:
        remarks.add(
            f"{len(part.images)} images beside the class folders of {part.path} are not used"
        )
    remarks.others.update({s: n for s, n in part.others.items() if s in _OTHER_IMAGES})


def _counts(others: Counter[str]) -> str:
    return ", ".join(
        f"{count} {suffix or 'without a suffix'}"
        for suffix, count in others.most_common(_MAX_NAMES)
    ) + (f" and {len(others) - _MAX_NAMES} other suffixes" if len(others) > _MAX_NAMES else "")
