"""Data sets of the Hugging Face hub, read by its package `datasets`."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from mvp_edge.core.errors import DataError
from mvp_edge.core.places import scratch_dir, stand_in
from mvp_edge.data.listing import Found, Listing, grouping, renamed
from mvp_edge.data.table import LABELS, ROLES, Row, listed
from mvp_edge.names.tasks import canonical

PREFIX = "hf://datasets/"
FORM = f"{PREFIX}ORG/NAME[@REVISION][?config=...&label=...]"
INSTALL = "pip install 'mvp-edge[hub]'"
_SPEC = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^?]+))?(?:\?(?P<options>.*))?")
_copied: dict[str, tuple[Path, tuple[Row, ...], Found]] = {}


def list_hub(spec: str, group_by: str | None = None) -> tuple[Listing, Path]:
    """Return the listing of a data set of the hub, and the directory of its pictures.

    `datasets` downloads it into its own cache; the pictures are copied into a temporary directory, which is deleted
    when the process ends.

    Args:
        spec: `FORM`. `config` is needed where the data set has several, `label` where it has several columns of
            classes.
        group_by: As for `list_folder`.

    Raises:
        DataError: `datasets` is not installed, there is no such data set, it cannot be downloaded, or it has no column
            of pictures or of classes, or several.
    """
    found = _SPEC.fullmatch(spec.removeprefix(PREFIX))
    options = dict(parse_qsl((found and found["options"]) or "", keep_blank_values=True))
    if found is None or not options.keys() <= {"config", "label"}:
        raise DataError(f"{spec!r} is not of the form {FORM}")
    if spec not in _copied:
        splits = _load(spec, found["name"], found["revision"], options.get("config"))
        scratch, aside, label = scratch_dir(), Found(), options.get("label")
        try:
            rows = tuple(row for each in splits for row in _copy(spec, each, splits[each], label, scratch, aside))
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise DataError(
                f"{spec} cannot be copied into {scratch}: {error.strerror}; TMPDIR names another directory"
            ) from error
        _copied[spec] = scratch, rows, aside
    scratch, rows, aside = _copied[spec]
    stand_in(spec, scratch)
    group = None if group_by is None else grouping(group_by, str(scratch))
    copied = {why: list(files) for why, files in aside.items()}
    return renamed(listed(rows, copied, group, spec, lambda _: None), str(scratch), spec), scratch


def _load(spec: str, name: str, revision: str | None, config: str | None) -> dict[str, Any]:
    """Return the splits of a data set.

    Raises:
        DataError: it cannot be loaded.
    """
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
        from datasets.exceptions import DatasetsError  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(f"{spec} needs the package datasets: {INSTALL}") from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # not a line for each of its attempts
    try:
        loaded: Any = load_dataset(name, config, revision=revision)
        return dict(loaded)
    except (DatasetsError, OSError, ValueError, RuntimeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{spec} cannot be loaded: {reason}; check its name and the network; the form is {FORM}"
        ) from error


def _copy(spec: str, split: str, rows: Any, label: str | None, folder: Path, aside: Found) -> Iterator[Row]:
    """Write the pictures of a split into a folder, and yield a row for each."""
    from datasets import Image  # pyright: ignore[reportMissingImports]

    image, label = _columns(spec, rows.features, label)
    names = getattr(rows.features[label], "names", None)
    if split.lower() not in ROLES:
        why = f"of split {split}, which is not one of train, val and test"
        aside.setdefault((why, True), []).extend(f"{spec}: {split}, row {i}" for i in range(len(rows)))
        return
    (folder / split).mkdir()
    for number, row in enumerate(rows.select_columns([image, label]).cast_column(image, Image(decode=False))):
        picture, value = row[image] or {}, row[label]
        if picture.get("bytes"):
            path = folder / split / f"{number:07d}{Path(picture.get('path') or '').suffix}"
            path.write_bytes(picture["bytes"])
        else:
            path = picture.get("path") or ""
        if names is not None:
            value = names[value] if value is not None and value >= 0 else ""  # -1: not known
        yield Row(str(path), "" if value is None else str(value).strip(), split)


def _columns(spec: str, features: Any, label: str | None) -> tuple[str, str]:
    """Return the names of the columns of pictures and of classes.

    Raises:
        DataError: there is none, or there are several.
    """
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    plain = ("string", "large_string", "int64", "int32")
    labels = labels or [
        name
        for name, feature in features.items()
        if canonical(name) in LABELS and getattr(feature, "dtype", None) in plain
    ]
    if label is not None:
        labels = [label] if label in features else []
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    shown = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    hint = f"; choose one with ?label=, such as {spec.partition('?')[0]}?label={labels[0]}" if len(labels) > 1 else ""
    raise DataError(f"{spec} must have one column of images and one of classes, and has {shown}{hint}")
