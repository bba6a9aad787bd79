"""Open a data set by directory or name, and load the images of a task's classes."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mvp_edge.core.errors import DataError
from mvp_edge.core.places import resolved
from mvp_edge.core.words import in_short
from mvp_edge.data import archive, table
from mvp_edge.data.folder import LAYOUTS, identity_of, list_folder
from mvp_edge.data.hub import PREFIX, list_hub
from mvp_edge.data.images import ImageSet, OnImage, Pixels, Size, joint_sha256, pixels_sha256
from mvp_edge.data.listing import SPLITS, FileReader, Listing, Split, in_words, renamed, warnings_of
from mvp_edge.data.named import NAMES, open_named
from mvp_edge.names.tasks import canonical, numbered

MAX_UNREADABLE = 0.1
FILES = f"a list of pictures ({' '.join(table.SUFFIXES)}), an archive of a directory ({' '.join(archive.SUFFIXES)})"


@dataclass(frozen=True)
class DataSource:
    """A data set whose images are not loaded yet.

    Attributes:
        name: Name of the directory or of the torchvision set.
        location: Directory of the data.
        listing: Its classes, and where each file went.
    """

    name: str
    location: Path
    listing: Listing = field(repr=False)
    _read: dict[tuple[Split, int, Size], tuple[bytes, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names as the data spells them."""
        return self.listing.classes

    @property
    def place(self) -> str:
        """Where the data are, as the user knows it: not the temporary directory of a data set of the hub."""
        return self.name if self.name.startswith(PREFIX) else str(self.location)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: how the data were split, and pictures that are not used."""
        return (*self.listing.notes, *warnings_of(self.listing))

    @property
    def summary(self) -> str:
        """How many files were given, used and set aside, in one line."""
        found, used = self.listing, {split: self.listing.used(split) for split in SPLITS}
        return in_words(found.given, used, {e.reason: len(e.files) for e in found.aside}, len(self.classes))

    def holds(self, path: Path) -> bool:
        """Return whether a path is in a folder of the data, also of one that a link leads to; only folders hold any."""
        if not self.location.is_dir() or not isinstance(self.listing.reader, FileReader):
            return False
        root, folders = str(self.location), {str(self.location)}
        for paths in (paths for split in self.listing.reader.files.values() for paths in split):
            for folder in {os.path.dirname(path) for path in paths}:  # noqa: PTH120
                while folder.startswith(root) and folder not in folders:
                    folders.add(folder)
                    folder = os.path.dirname(folder)  # noqa: PTH120
        path = resolved(path)
        above = {identity_of(each.stat()) for each in (path, *path.parents) if each.exists()}
        return any(identity_of(status) in above for status in map(os.stat, folders))

    def load(
        self,
        classes: Sequence[str] | None,
        split: Split,
        size: Size,
        on_image: OnImage | None = None,
        at_most: int | None = None,
    ) -> ImageSet:
        """Load the images of some classes.

        Args:
            classes: Names in the order of the labels; case, `_`, `-` and blanks make no difference. None = all classes
                of the data.
            split: `train`, `test`, or `val` where the data have it.
            size: Height and width of the images in the result.
            on_image: Progress callback, called with the number of images finished since the last call.
            at_most: Images of a class, at even distances in their order; None = all.

        Returns:
            The images in the order of the labels, then of the file names. Labels are positions in `classes`.

        Raises:
            DataError: If classes are unknown, repeated or without images (all such problems at once), or if more than
                a tenth of the images or all those of a class cannot be read.
            ValueError: If `split` is not a split, or `size` is not positive.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if min(size) < 1:
            raise ValueError(f"size must be positive, not {size}")
        names = self.classes if classes is None else tuple(classes)
        pixels = self.listing.reader.read(split, self._positions(names, split), size, on_image, at_most)
        self._check_readable(pixels, names)
        skipped = tuple(path for path, _ in pixels.failures)
        return ImageSet(pixels.images, pixels.labels, names, skipped, pixels.files, pixels.origins)

    def count(self, classes: Sequence[str] | None, split: Split) -> int:
        """Return how many images `load` will read, for a progress bar.

        Raises:
            DataError: As `load` does, except for unreadable images.
        """
        names = self.classes if classes is None else tuple(classes)
        return sum(self.listing.reader.count(split, index) for index in self._positions(names, split))

    def covered(self, classes: Sequence[str], split: Split) -> tuple[str, ...]:
        """Return those of some classes that have images in a split."""
        known = numbered(self.classes)
        places = ((name, known.get(canonical(name))) for name in classes)
        return tuple(name for name, at in places if at is not None and self.listing.reader.count(split, at))

    def sha256(self, classes: Sequence[str], split: Split, size: Size) -> str:
        """Return the checksum of the images that `load` returns, with one class in memory at a time; each is read once.

        Raises:
            DataError: As `load` does, except for unreadable images.
        """
        found = []
        for position in self._positions(tuple(classes), split):
            key = split, position, size
            if key not in self._read:
                images = self.listing.reader.read(split, [position], size, None).images
                self._read[key] = pixels_sha256(images), len(images)
            found.append(self._read[key])
        labels = torch.arange(len(found)).repeat_interleave(torch.tensor([count for _, count in found]))
        return joint_sha256((digest for digest, _ in found), labels)

    def _positions(self, names: tuple[str, ...], split: Split) -> list[int]:
        """Return the positions of the classes in the data, or report all problems at once."""
        known = numbered(self.classes)
        keys = [canonical(name) for name in names]
        unknown = [name for name, key in zip(names, keys, strict=True) if key not in known]
        problems = [self._unknown(name) for name in unknown]
        if unknown and all(re.fullmatch(r"n\d{8}", name) for name in self.classes):
            problems.append("the folders are named by WordNet ids; write ids in the class list")
        repeated = sorted({name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1})
        if repeated:
            problems.append(f"given more than once: {', '.join(repeated)}; write each class once")
        empty = [
            name
            for name, key in zip(names, keys, strict=True)
            if key in known and not self.listing.reader.count(split, known[key])
        ]
        if empty:
            problems.append(f"no {split} images for {in_short(empty)}; add some to {self.place} or remove the classes")
        if not names:
            problems.append("the class list is empty; name at least one class")
        if problems:
            shown = self.name if self.place == self.name else f"{self.name} ({self.place})"
            raise DataError("\n".join([f"data {shown} does not fit the classes:", *problems]))
        return [known[key] for key in keys]

    def _unknown(self, name: str) -> str:
        spelling = {canonical(own): own for own in self.classes}
        near = [spelling[key] for key in difflib.get_close_matches(canonical(name), spelling, n=3, cutoff=0.0)]
        return f"unknown class {name!r}; write the name of a class folder, such as {', '.join(near)}"

    def _check_readable(self, pixels: Pixels, names: tuple[str, ...]) -> None:
        examples = [f"{path} ({reason})" for path, reason in pixels.failures[:5]]
        bad = len(pixels.failures)
        if bad > MAX_UNREADABLE * pixels.requested:
            raise DataError(
                f"{bad} of {pixels.requested} images cannot be read, more than the allowed {MAX_UNREADABLE:.0%}; "
                "repair or delete them, for example:\n" + "\n".join(examples)
            )
        left = set(pixels.labels.tolist())
        gone = [name for label, name in enumerate(names) if label not in left]
        if gone:
            raise DataError(
                f"no image of {in_short(gone)} in {self.place} can be read; repair or replace them, for example:\n"
                + "\n".join(examples)
            )


def open_source(spec: str, group_by: str | None = None) -> DataSource:
    """Open a data set.

    Args:
        spec: A directory in one of the layouts of `list_folder`, a zip or tar of one, a CSV or JSON Lines file of paths
            and classes, `hf://datasets/ORG/NAME`, or, if there is no such path, the name of a torchvision set, which is
            downloaded into the cache on first use.
        group_by: As for `list_folder`.

    Returns:
        The data set, its classes listed but no image loaded.

    Raises:
        DataError: If the data do not exist, are damaged, have another layout, or cannot be downloaded.

    Example:
        >>> source = open_source("cifar100")  # doctest: +SKIP
        >>> source.load(["apple", "sweet pepper"], "test", (32, 32)).images.shape  # doctest: +SKIP
        torch.Size([200, 3, 32, 32])
    """
    if spec.startswith(PREFIX):
        listing, location = list_hub(spec, group_by)
        return DataSource(spec, location, listing)
    path = Path(spec)
    try:
        path = path.expanduser()
    except RuntimeError as e:
        raise DataError(f"{spec!r}: {path.parts[0]} has no home directory; write the whole path") from e
    if spec.strip() and path.exists():
        return DataSource(path.resolve().name, path, _list_path(path, group_by))
    name = spec.strip().lower().replace("-", "").replace("_", "")
    if name in NAMES:
        listing, location = open_named(name)
        return DataSource(name, location, listing)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise DataError(
        f"{spec!r} does not exist and is not a known data set{hint}; give a directory "
        f"DIR/{{train,test}}/CLASS/* or DIR/CLASS/*, a list of pictures (.csv, .jsonl), an archive "
        f"(.zip, .tar), {PREFIX}ORG/NAME, or one of {', '.join(NAMES)}"
    )


def _list_path(path: Path, group_by: str | None) -> Listing:
    if path.is_dir():
        return list_folder(path, group_by)
    if path.is_file() and path.suffix.lower() in table.SUFFIXES:
        return table.list_table(path, group_by)
    if path.is_file() and archive.is_archive(path):
        folder, aside = archive.unpacked(path)
        try:
            return renamed(list_folder(folder, group_by, aside), str(folder), str(path))
        except DataError as error:
            raise DataError(str(error).replace(str(folder), str(path))) from error
    raise DataError(f"{path} is a file of another kind; give a directory in the layout {LAYOUTS}, or {FILES}")
