"""Zoos as untrusted files: reading them ends in errors of ours, in bounded memory, inside the directory."""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import json
import multiprocessing
import resource
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from mvp_edge.core.errors import MvpEdgeError, ZooError
from mvp_edge.core.packed import read_stored
from mvp_edge.core.untrusted import MAX_HEADER, SLACK, is_file_path, read_bytes, unzipped
from mvp_edge.models.bases import load_base, save_base
from mvp_edge.models.tensors import deserialise
from mvp_edge.zoo.bodies import open_bodies
from mvp_edge.zoo.catalogue import read_known_classes
from mvp_edge.zoo.location import read_base_classes
from mvp_edge.zoo.mirror import Index
from mvp_edge.zoo.publish import publish_zoo
from mvp_edge.zoo.remote import INDEX
from mvp_edge.zoo.store import open_zoo
from tests.bodies import rewrite

FORKS = multiprocessing.get_context("fork")
FAST, MANY = 30, 1000
MEMORY_MIB = 400  # that reading any of these small zoos may take
NASTY = [
    "", "../../../etc/passwd", "/etc/passwd", "a/../../b", ".hidden", "<script>alert(1)</script>", "a\nb", "\x1b[2J",
    "\ud800", "vit_giant_patch14_224", "hf-hub:org/model", -1, 0, 2**63, 10**400, 1e308, float("nan"), float("inf"),
]  # fmt: skip
JSON = st.recursive(
    st.sampled_from([*NASTY, None, True, False, 1, 2, "x", [], {}]) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
Read = Callable[[Path, Path], Any]


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*here, key)
        yield from places(item, (*here, key))


@st.composite
def damaged_json(draw: st.DrawFn, value: Any) -> Any:
    """Return a JSON value of which one or a few parts are others, or missing."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        known = list(places(value))
        if not known:
            return draw(JSON)
        *way, last = draw(st.sampled_from(known))
        owner = value
        for key in way:
            owner = owner[key]
        if draw(st.integers(0, 3)) == 0:
            del owner[last]
        else:
            owner[last] = draw(JSON)
    return value


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes of which some are missing, others or more."""
    at = draw(st.integers(0, len(data)))
    kind = draw(st.sampled_from(["cut", "other", "more", "twice"]))
    if kind == "cut":
        return data[:at]
    if kind == "twice":
        return data + data[:at]
    return data[:at] + draw(st.binary(min_size=1, max_size=9)) + data[at + (9 if kind == "other" else 0) :]


@st.composite
def damaged_tensors(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a gzipped safetensors file with other bytes, another header, or other tensors."""
    plain = gzip.decompress(data)
    kind = draw(st.sampled_from(["packed", "plain", "header", "header", "length", "tensors"]))
    if kind == "packed":
        return draw(damaged_bytes(data))
    if kind == "plain":
        plain = draw(damaged_bytes(plain))
    elif kind == "tensors":
        tensors = load(plain)
        name, other = (draw(st.sampled_from(sorted(tensors))) for _ in range(2))
        plain = save({k: v for k, v in tensors.items() if k != name} | {other: tensors[name]})
    else:
        size = int.from_bytes(plain[:8], "little")
        header = draw(damaged_json(json.loads(plain[8 : 8 + size]))) if kind == "header" else None
        text = plain[8 : 8 + size] if header is None else json.dumps(header).encode()
        told = draw(st.integers(0, 2**64 - 1)) if header is None else len(text)
        plain = told.to_bytes(8, "little") + text + plain[8 + size :]
    return gzip.compress(plain, 1)


@st.composite
def damaged_text(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a JSON file with other values, or other bytes."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(data))
    return json.dumps(draw(damaged_json(json.loads(data)))).encode()


def swallow(*steps: Callable[[], Any]) -> None:
    """Take steps of reading; an error of ours ends a step, another one the test."""
    for step in steps:
        with contextlib.suppress(MvpEdgeError):
            step()


def read_descriptions(path: Path, _: Path) -> None:
    def members() -> None:
        zoo = open_zoo(str(path))
        for info in zoo.infos():
            assert zoo.knowing(info.task) is not None and info.sort_key and is_file_path(info.id)
        zoo.summary()

    swallow(lambda: read_base_classes(str(path)), lambda: read_known_classes(str(path)), members)


def read_member(path: Path, file: Path) -> None:
    zoo = open_zoo(str(path))
    info = zoo.info(file.parent.name)
    swallow(lambda: zoo.load(info))
    swallow(lambda: (o := zoo.outputs(info)) and o.of(info.task.names[:2], info.task.names))


def read_bodies(path: Path, file: Path) -> None:
    def bodies() -> None:
        zoo = open_bodies(str(path))
        if zoo is None:
            return
        for body in (*zoo.bodies, *zoo.forms):
            assert all(is_file_path(name) for name in (body.id, body.weights, *body.sha256))
            swallow(lambda body=body: body.expected_top1(5), lambda body=body: body.threshold(3))
            if file.name == "zoo.json" or file.name.startswith(f"{body.id}."):
                swallow(lambda body=body: (seen := zoo.features(body)).logits(np.arange(len(seen.labels))))
                swallow(lambda body=body: zoo.graph(body, zoo.weights(body)))
                swallow(lambda body=body: body.arithmetic == "int8" and zoo.rounding(body))

    swallow(bodies)


def read_index(path: Path, _: Path) -> None:
    try:
        found = Index.from_bytes(read_bytes(path / INDEX))
    except ValueError:
        return
    assert all(map(is_file_path, (*found.members, *found.files)))


def with_checksum(path: Path, file: Path) -> None:
    """Write the checksum of a member's file into its description, as an attacker would."""
    member = file.with_name("member.json")
    value = json.loads(member.read_text())
    key = {"weights": "weights_sha256", "outputs": "outputs_sha256"}[file.name.split(".")[0]]
    member.write_text(json.dumps({**value, key: hashlib.sha256(file.read_bytes()).hexdigest()}))


def of_body(path: Path, file: Path) -> None:
    rewrite(path, str(file.relative_to(path)), file.read_bytes())


def nothing(path: Path, file: Path) -> None:
    pass


KINDS: dict[str, tuple[str, str, Any, Callable[[Path, Path], None], Read]] = {
    "zoo.json of members": ("members", "zoo.json", damaged_text, nothing, read_descriptions),
    "member.json": ("members", "members/*/member.json", damaged_text, nothing, read_descriptions),
    "weights of a member": ("members", "members/*/weights.*", damaged_tensors, with_checksum, read_member),
    "outputs of a member": ("members", "members/*/outputs.*", damaged_tensors, with_checksum, read_member),
    "zoo.json of bodies": ("bodies", "zoo.json", damaged_text, nothing, read_bodies),
    "weights of a body": ("bodies", "weights/*-8.*", damaged_tensors, of_body, read_bodies),
    "features of a body": ("bodies", "features/*-8.*", damaged_tensors, of_body, read_bodies),
    "weights of a form": ("bodies", "weights/*-small.*", damaged_tensors, of_body, read_bodies),
    "features of a form": ("bodies", "features/*-int8.*", damaged_tensors, of_body, read_bodies),
    "ranges of a form": ("bodies", "ranges/*-int8.*", damaged_tensors, of_body, read_bodies),
    "graph of a body": ("bodies", "bodies/*-8.*", damaged_bytes, of_body, read_bodies),
    "index": ("index", INDEX, damaged_bytes, nothing, read_index),
    "base": ("members", "base.*", damaged_tensors, nothing, lambda path, _: swallow(open_zoo(str(path)).load_base)),
}


@pytest.fixture
def zoos(generalist_zoo: Path, body_zoo: Path, tmp_path: Path) -> dict[str, Path]:
    from mvp_edge.core.progress import SilentProgress

    found = {name: tmp_path / name for name in ("members", "bodies")}
    shutil.copytree(generalist_zoo, found["members"])
    shutil.copytree(body_zoo, found["bodies"])
    published = tmp_path / "index"
    publish_zoo(open_zoo(str(body_zoo)), None, str(published), private=False, progress=SilentProgress())
    return found | {"index": published}


def fuzz(kind: str, zoo: Path, examples: int) -> None:
    """Damage one file of a zoo in so many ways and read it."""
    _, pattern, strategy, mend, read = KINDS[kind]
    file = sorted(zoo.glob(pattern))[0]
    whole = {f: f.read_bytes() for f in (file, zoo / "zoo.json", file.with_name("member.json")) if f.exists()}
    packed = kind in ("graph of a body", "index")
    source = gzip.decompress(whole[file]) if packed else whole[file]

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )  # fmt: skip
    @given(st.data())
    def one(data: st.DataObject) -> None:
        damaged = data.draw((damaged_text if kind == "index" else strategy)(source))
        file.write_bytes(gzip.compress(damaged, 1) if packed else damaged)
        mend(zoo, file)
        try:
            read(zoo, file)
        finally:
            for path, content in whole.items():
                path.write_bytes(content)

    one()


def alone(told: Any, function: Callable[..., None], *words: Any) -> None:
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function(*words)
        told.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
    except BaseException:  # noqa: BLE001 - the other process reports it
        told.put(traceback.format_exc()[-3000:])


def extra_mib(function: Callable[..., None], *words: Any) -> int:
    """Run a function in a process of its own and return how many MiB of memory it took at most."""
    told = FORKS.Queue()
    process = FORKS.Process(target=alone, args=(told, function, *words))
    process.start()
    found = told.get(timeout=300)
    process.join()
    assert isinstance(found, int), found
    return found


@pytest.mark.parametrize("examples", [FAST, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_zoo_is_read_or_refused(kind: str, examples: int, zoos: dict[str, Path]) -> None:
    zoo = zoos[KINDS[kind][0]]
    before = {f for f in zoo.parent.rglob("*") if "lock" not in f.name}
    assert extra_mib(fuzz, kind, zoo, examples) < MEMORY_MIB
    assert {f for f in zoo.parent.rglob("*") if "lock" not in f.name} == before


@pytest.mark.parametrize("read", [deserialise, read_stored, unzipped])
def test_a_bomb_is_not_unpacked(read: Callable[[bytes], Any]) -> None:
    data = gzip.compress(b"\0" * (300 << 20), 1)

    def refuse() -> None:
        with pytest.raises(ValueError, match="unpacks to more"):
            read(data)

    assert extra_mib(refuse) < 200
    assert SLACK < MEMORY_MIB << 20
    assert len(unzipped(gzip.compress(b"1" * 1000) + gzip.compress(b"2"))) == 1001  # two streams in a row


@pytest.mark.parametrize("read", [deserialise, read_stored])
@pytest.mark.parametrize("length", [0, 7, MAX_HEADER + 1, 2**63])
def test_a_header_that_is_too_long(read: Callable[[bytes], Any], length: int) -> None:
    with pytest.raises(ValueError):
        read(length.to_bytes(8, "little") + b" " * (MAX_HEADER + 2 if length == MAX_HEADER + 1 else 3))


def test_weights_of_a_giant_are_not_made(zoos: dict[str, Path]) -> None:
    base, model = load_base(str(zoos["members"]))
    file = zoos["members"] / "giant.safetensors"
    save_base(model, base, file)
    plain = file.read_bytes()
    size = int.from_bytes(plain[:8], "little")
    header = plain[8 : 8 + size].replace(b"test_resnet", b"vit_giant_patch14_224")
    file.write_bytes(len(header).to_bytes(8, "little") + header + plain[8 + size :])

    def refuse() -> None:
        with pytest.raises(MvpEdgeError, match="vit_giant_patch14_224"):
            load_base(str(file))

    assert extra_mib(refuse) < MEMORY_MIB


def test_a_member_under_another_name(zoos: dict[str, Path]) -> None:
    zoo = open_zoo(str(zoos["members"]))
    first = zoo.member_directory(zoo.ids()[0])
    value = json.loads((first / "member.json").read_text())
    (first / "member.json").write_text(json.dumps({**value, "id": "../../../elsewhere"}))
    with pytest.raises(ZooError, match="another member"):
        zoo.infos()


def test_a_graph_that_reads_other_files(zoos: dict[str, Path]) -> None:
    import onnx

    path = zoos["bodies"] / "bodies" / "tiny-8.onnx.gz"
    model = onnx.load_from_string(gzip.decompress(path.read_bytes()))
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(gzip.compress(model.SerializeToString()))
    of_body(zoos["bodies"], path)
    zoo = open_bodies(str(zoos["bodies"]))
    body = zoo and zoo.body("tiny-8")
    assert zoo is not None and body is not None
    with pytest.raises(ZooError, match="from other files"):
        zoo.graph(body, zoo.weights(body))
