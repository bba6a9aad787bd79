"""Publishing a zoo: its index, its card, and its files, to the Hub, an object store or a directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ZooError
from mvp_edge.core.progress import Progress
from mvp_edge.core.templates import load_template
from mvp_edge.zoo.bodies import BodyZoo
from mvp_edge.zoo.catalogue import DESCRIPTION
from mvp_edge.zoo.location import read_zoo_file
from mvp_edge.zoo.mirror import Entry, Index
from mvp_edge.zoo.remote import INDEX, destination, upload
from mvp_edge.zoo.store import Zoo

CARD = "README.md"
WAYS = 5  # names of the lists for which a card tells what is expected of a body
_LICENCES = {"Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0"}


def publish_zoo(zoo: Zoo, bodies: BodyZoo | None, target: str, *, private: bool, progress: Progress) -> str:
    """Publish a zoo with an index and a card; return its address, with the commit if there is one.

    Args:
        zoo: The zoo.
        bodies: Its ready-made networks.
        target: An address that can be written (`hf://`, `s3://`, `gs://`), or a directory, for a web server.
        private: Whether a new repository of the Hub is private.
        progress: Progress.

    Raises:
        ConfigError: the target cannot be written in this way.
        ZooError: a file of the zoo is missing or damaged, the directory holds something else, or writing fails.
    """
    where = destination(target, private=private)
    with progress.stage("Checking the zoo"):
        if problems := zoo.verify() + (bodies.verify() if bodies else []):
            raise ZooError(f"zoo {zoo.name} is damaged: {problems[0]}")
    infos, files = zoo.infos(), zoo.files() | ({} if bodies is None else bodies.files())
    index = Index(
        zoo=read_zoo_file(str(zoo.path))[1],
        members={i.id: i.to_json() for i in infos},
        files={name: _entry(path) for name, path in sorted(files.items())},
    )
    card = _card(zoo, bodies, "https://HOST/PATH" if isinstance(where, Path) else str(where))
    contents: dict[str, bytes | Path] = {CARD: card.encode(), **files, "zoo.json": zoo.path / "zoo.json"}
    contents |= {f"members/{i.id}/{DESCRIPTION}": zoo.member_directory(i.id) / DESCRIPTION for i in infos}
    contents[INDEX] = index.to_bytes()  # the last: whoever reads it finds all that it names
    with progress.stage("Publishing"):
        return upload(where, contents, private=private, message=f"Zoo {zoo.name}, mvp-edge {own_version()}")


def front_matter(name: str, licence: str, results: Sequence[Any]) -> str:
    """Return the head of a card, in YAML: licence, tags, and the figures as `model-index`.

    Args:
        name: Of what is published.
        licence: Of its weights, as SPDX names it.
        results: `huggingface_hub.EvalResult`s.
    """
    from huggingface_hub import ModelCardData

    known = licence in _LICENCES
    named = {"license": licence.lower()} if known else {"license": "other", "license_name": licence or "not-stated"}
    data = ModelCardData(
        **named,
        library_name="mvp-edge",
        pipeline_tag="image-classification",
        tags=["mvp-edge", "onnx", "pruning"],
        **({"model_name": name, "eval_results": list(results)} if results else {}),
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def result_of(dataset: str, name: str, top1: float) -> Any:
    """Return a figure for `front_matter`: top-1 in percent on images that `dataset` names."""
    from huggingface_hub import EvalResult

    words = re.sub(r"[^a-z0-9]+", " ", dataset.lower())
    kind = shorten(words, 60, placeholder="").replace(" ", "-") or "images"
    return EvalResult(
        task_type="image-classification",
        dataset_type=kind,
        dataset_name=dataset,
        metric_type="accuracy",
        metric_name=name,
        metric_value=top1,
    )


def _card(zoo: Zoo, bodies: BodyZoo | None, address: str) -> str:
    infos = zoo.infos()
    generalists = sorted((i for i in infos if i.kind == "generalist"), key=lambda i: i.sort_key)
    scores = [i.top1 for i in infos if i.kind == "specialist" and i.top1 is not None]
    known = zoo.base.classes or (generalists[0].task.names if generalists else ())
    results = [
        result_of(str(i.recipe.get("data", "")), f"top-1 (%) at keep {i.plan.achieved:.3g}", i.top1)
        for i in generalists
        if i.top1 is not None
    ]
    for body in bodies.bodies if bodies else ():
        expected = body.expected_top1(WAYS)
        if bodies and expected is not None:
            results.append(result_of(bodies.pictures, f"top-1 (%) of {WAYS} names, {body.id}", round(expected, 2)))
    text = load_template("zoo", "card.md.j2").render(
        name=zoo.name,
        address=address,
        base=zoo.base,
        classes=bodies.classes.names if bodies else known,
        generalists=generalists,
        specialists=sum(i.kind == "specialist" for i in infos),
        mean_top1=sum(scores) / max(1, len(scores)),
        bodies=bodies.bodies if bodies else (),
        pictures=bodies.pictures if bodies else "",
        ways=WAYS,
        version=own_version(),
    )
    return front_matter(zoo.name, zoo.base.licence, results) + text + "\n"


def _entry(path: Path) -> Entry:
    with path.open("rb") as file:
        return Entry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
