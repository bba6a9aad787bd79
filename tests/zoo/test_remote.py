"""Zoos that are elsewhere: fetched once and in part, checked, resumed, and refused in one sentence."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.zoo import remote
from mvp_edge.zoo.bodies import open_bodies
from mvp_edge.zoo.mirror import Entry, Index, fetch_all, is_mirror, mirror, origin, require_file
from mvp_edge.zoo.publish import publish_zoo
from mvp_edge.zoo.remote import INDEX, Address
from mvp_edge.zoo.store import open_zoo
from tests.hub import Hub, serving

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # huggingface_hub's way to use its own HTTP library
FORKS = multiprocessing.get_context("fork")
HERE = "hf://me/tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MVP_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # between its retries
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(monkeypatch) as found:
        yield found


def publish(zoo: Path, target: str, *, private: bool = False) -> str:
    return publish_zoo(open_zoo(str(zoo)), open_bodies(str(zoo)), target, private=private, progress=SilentProgress())


def fetched(path: Path) -> set[str]:
    """Return which files besides descriptions are there."""
    return {str(f.relative_to(path)) for f in path.rglob("*.safetensors.gz")}


def test_a_published_zoo_comes_back_as_it_was(hub: Hub, generalist_zoo: Path) -> None:
    publish(generalist_zoo, HERE)
    ours, theirs = open_zoo(str(generalist_zoo)), open_zoo(HERE)
    assert theirs.infos() == ours.infos() and theirs.base == ours.base and theirs.name == ours.name
    assert fetched(theirs.path) == set()
    info = theirs.infos()[0]
    theirs.load(info)
    assert fetched(theirs.path) == {f"members/{info.id}/weights.safetensors.gz"}
    assert theirs.verify() == []
    for file in fetched(theirs.path):
        assert (theirs.path / file).read_bytes() == (generalist_zoo / file).read_bytes()


def test_what_was_fetched_needs_no_network(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as hub:
        publish(tiny_zoo, HERE)
        assert open_zoo(HERE).verify() == []
        before = len(hub.asked)
        assert open_zoo(HERE).verify() == [] and len(hub.asked) == before
    assert open_zoo(HERE).verify() == []
    with pytest.raises(ZooError, match="connect to the network"):
        open_zoo("hf://me/other")


def test_bodies_are_fetched_one_by_one(hub: Hub, body_zoo: Path) -> None:
    publish(body_zoo, "hf://me/bodies")
    zoo = open_bodies("hf://me/bodies")
    assert zoo is not None
    body = zoo.body("tiny-16")
    assert body is not None
    zoo.graph(body, zoo.weights(body))
    assert fetched(zoo.path) == {"weights/tiny-16.safetensors.gz"}
    assert zoo.verify() == []
    (zoo.path / "weights/tiny-16.safetensors.gz").write_bytes(b"")
    with pytest.raises(ZooError, match=f"remove {zoo.path}, and it is fetched again"):
        zoo.weights(body)


def test_a_revision_stays_until_a_newer_one_is_wanted(hub: Hub, tiny_zoo: Path, tmp_path: Path) -> None:
    first = publish(tiny_zoo, HERE)
    assert origin(mirror(HERE)) == first
    kept = open_zoo(HERE)
    kept.load(kept.infos()[0])
    own = open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "own")))
    shutil.rmtree(own.member_directory(own.ids()[-1]))
    second = publish(own.path, HERE)
    assert origin(mirror(HERE)) == first and len(open_zoo(HERE).ids()) == 3
    hub.asked.clear()
    path = mirror(HERE, newest=True)
    assert origin(path) == second and len(open_zoo(HERE).ids()) == 2
    assert fetched(path) == {f"members/{kept.ids()[0]}/weights.safetensors.gz"}  # not fetched again
    fetch_all(path, SilentProgress())
    assert open_zoo(HERE).verify() == []
    assert len(open_zoo(first).ids()) == 3


def test_what_a_killed_process_left_is_removed(hub: Hub, tiny_zoo: Path, cache: Path) -> None:
    publish(tiny_zoo, HERE)
    name = mirror(HERE).name
    for left in (f".{name}.0123abcd", f".{name}.0123abcd.old"):
        (cache / "zoos" / left / "members").mkdir(parents=True)
    other = cache / "zoos" / ".other-0.0123abcd"
    other.mkdir()
    assert mirror(HERE, newest=True).is_dir()
    assert {f.name for f in (cache / "zoos").iterdir() if f.is_dir()} == {name, other.name}


def test_what_breaks_off_goes_on_later(hub: Hub, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what is lost when it breaks off
    publish(tiny_zoo, HERE)
    name = "base.safetensors.gz"
    size = (tiny_zoo / name).stat().st_size
    hub.cut[name] = [size // 2, *[0] * 6]
    zoo = open_zoo(HERE)
    with pytest.raises(ZooError, match=r"base\.safetensors\.gz of hf://me/tiny@.* cannot be fetched .*is kept"):
        zoo.load_base()
    assert fetched(zoo.path) == set()
    hub.cut.clear()
    zoo.load_base()
    assert size <= hub.sent[name] < size + 1000
    assert open_zoo(HERE).verify() == []


def test_a_wrong_checksum_is_not_kept(hub: Hub, tiny_zoo: Path) -> None:
    publish(tiny_zoo, HERE)
    hub.wrong.add("base.safetensors.gz")
    zoo = open_zoo(HERE)
    with pytest.raises(ZooError, match="does not match its checksum, so it was not kept"):
        zoo.load_base()
    assert fetched(zoo.path) == set()
    hub.wrong.clear()
    zoo.load_base()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hf://me/nothing", "does not exist or is private.*hf auth login"),
        ("hf://me/secret", "does not exist or is private.*hf auth login"),
        ("hf://me/tiny@v9", "has no revision 'v9'"),
        ("hf://me/model", "is not a published zoo"),
    ],
)
def test_what_is_not_there(
    hub: Hub, tiny_zoo: Path, address: str, told: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny_zoo, HERE)
    publish(tiny_zoo, "hf://me/secret", private=True)
    assert len(open_zoo("hf://me/secret").ids()) == 3  # with the token
    shutil.rmtree(cache)
    hub.repos["me/model"] = [{"model.onnx": b""}]
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(ZooError, match=told) as error:
        open_zoo(address)
    assert hub.token not in str(error.value) and "\n" not in str(error.value)
    assert [f for f in (cache / "zoos").iterdir() if f.is_dir()] == []


def test_a_file_that_the_repository_lacks_or_that_is_too_large(hub: Hub, tiny_zoo: Path) -> None:
    publish(tiny_zoo, HERE)
    files = hub.repos["me/tiny"][-1]
    zoo = open_zoo(HERE)
    whole = files["base.safetensors.gz"]
    files["base.safetensors.gz"] = whole + b"more"
    with pytest.raises(ZooError, match="is larger than"):
        zoo.load_base()
    assert not hub.sent["base.safetensors.gz"]
    del files["base.safetensors.gz"]
    with pytest.raises(ZooError, match=r"lacks base\.safetensors\.gz"):
        zoo.load_base()


def index(**changes: Any) -> bytes:
    value: dict[str, Any] = {"format": 1, "zoo": {}, "members": {}, "files": {}}
    return gzip.compress(json.dumps(value | changes).encode(), mtime=0)  # the same on all workers of a test run


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"letters", "header"),
        (index()[:-5], "ends too early"),
        (index(format=2), "its format is 2"),
        (index(files={"../../x": {"size": 1, "sha256": ""}}), r"it names '\.\./\.\./x'"),
        (index(files={"/etc/passwd": {"size": 1, "sha256": ""}}), "it names '/etc/passwd'"),
        (index(files={"a": {"size": 1 << 40, "sha256": ""}}), "it names 'a'"),
        (index(members={"..": {}}), r"it names '\.\.'"),
        (index(members=[]), "object"),
        (gzip.compress(b"0" * (1 << 27), mtime=0), "unpacks to more than"),
    ],
    ids=["letters", "cut", "format", "above", "absolute", "large", "dots", "list", "bomb"],
)
def test_an_index_that_is_damaged(hub: Hub, data: bytes, told: str, cache: Path) -> None:
    hub.repos["me/tiny"] = [{INDEX: data}]
    with pytest.raises(ZooError, match=rf"damaged index\.json\.gz \(.*{told}"):
        open_zoo(HERE)
    assert [f for f in (cache / "zoos").iterdir() if f.is_dir()] == []


def test_an_index_and_back() -> None:
    found = Index(zoo={"name": "z"}, members={"m": {"id": "m"}}, files={"a/b.gz": Entry(3, "0" * 64)})
    assert Index.from_bytes(found.to_bytes()) == found


def verify(start: Any, told: Any) -> None:
    start.wait(60)
    told.put(open_zoo(HERE).verify())


def test_two_processes_fetch_each_file_once(hub: Hub, tiny_zoo: Path) -> None:
    publish(tiny_zoo, HERE)
    start, told = FORKS.Barrier(2), FORKS.Queue()
    both = [FORKS.Process(target=verify, args=(start, told)) for _ in range(2)]
    for one in both:
        one.start()
    assert [told.get(timeout=60) for _ in both] == [[], []]
    for one in both:
        one.join()
    got = [path for method, path in hub.asked if method == "GET" and "/resolve/" in path]
    assert len(got) == len(set(got)) == 5  # index, base, three members


def test_a_cache_that_cannot_be_written(
    hub: Hub, tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny_zoo, HERE)
    whole = open_zoo(HERE)
    assert whole.verify() == []

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert open_zoo(HERE).verify() == []  # all is there
    (whole.path / "base.safetensors.gz").unlink()
    with pytest.raises(ZooError, match=r"the cache .* cannot be written \(Read-only file system\).*MVP_EDGE_CACHE"):
        open_zoo(HERE).load_base()
    monkeypatch.undo()
    (tmp_path / "file").touch()
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ZooError, match=r"the cache .* cannot be written.*MVP_EDGE_CACHE"):
        open_zoo(HERE)


def test_a_full_disk(hub: Hub, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tiny_zoo, HERE)
    zoo = open_zoo(HERE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ZooError, match=r"No space left on device\); make room"):
        zoo.load_base()


def test_a_zoo_from_elsewhere_grows_at_the_users_own(hub: Hub, tiny_zoo: Path, tmp_path: Path) -> None:
    publish(tiny_zoo, HERE)
    zoo = open_zoo(HERE)
    info = zoo.infos()[0]
    added = zoo.add(replace(info, id="own"), zoo.load(info).state)
    assert added.new and tmp_path / "home" in zoo.member_directory("own").parents
    assert len(open_zoo(HERE).ids()) == 4 and open_zoo(HERE).verify() == []
    assert is_mirror(zoo.path) and not is_mirror(tiny_zoo)


class Disk(MemoryFileSystem):
    """A memory that other tests do not see."""

    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    protocol = "gs"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("gs://", "memory://"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> type[Disk]:
    monkeypatch.setattr(Disk, "store", {})
    fsspec.register_implementation("gs", Disk, clobber=True)
    return Disk


def test_an_object_store(store: type[Disk], tiny_zoo: Path, cache: Path) -> None:
    assert publish(tiny_zoo, "gs://bucket/zoos/tiny/") == "gs://bucket/zoos/tiny"
    assert list(store.store)[-1].endswith(INDEX)  # last: whoever finds it finds all that it names
    zoo = open_zoo("gs://bucket/zoos/tiny")
    assert zoo.verify() == [] and len(zoo.ids()) == 3
    shutil.rmtree(cache)
    zoo = open_zoo("gs://bucket/zoos/tiny")
    file = store.store["/bucket/zoos/tiny/base.safetensors.gz"]
    file.seek(0, os.SEEK_END)
    file.write(b"more")
    with pytest.raises(ZooError, match="is larger than"):
        zoo.load_base()
    del store.store["/bucket/zoos/tiny/base.safetensors.gz"]
    with pytest.raises(ZooError, match="lacks base"):
        zoo.load_base()
    with pytest.raises(ZooError, match="is not a published zoo"):
        open_zoo("gs://bucket/other")


def test_a_store_that_needs_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ZooError, match=r"pip install 'mvp-edge\[hub\]'"):
        open_zoo("s3://bucket/zoo")


class Ranges(SimpleHTTPRequestHandler):
    """A web server that sends parts of files, and breaks off once."""

    breaks: list[int]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        data, wanted = path.read_bytes(), self.headers.get("Range")
        whole = len(data)
        self.send_response(206 if wanted else 200)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1 if last else None]
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET" and self.breaks and len(data) > self.breaks[0]:
            self.wfile.write(data[: self.breaks.pop()])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(data)
        return None


class Whole(SimpleHTTPRequestHandler):
    """Python's own web server, which sends whole files only."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(params=[Ranges, Whole])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    pytest.importorskip("aiohttp", reason="needs mvp-edge[hub]")
    breaks: list[int] = []
    kind = type("Server", (request.param,), {"breaks": breaks})
    (tmp_path / "www").mkdir()

    def handler(*words: Any) -> Any:
        return kind(*words, directory=str(tmp_path / "www"))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", breaks
        server.shutdown()


def test_a_web_server(web: tuple[str, list[int]], tiny_zoo: Path, tmp_path: Path) -> None:
    url, breaks = web
    publish(tiny_zoo, str(tmp_path / "www" / "zoo"))
    publish(tiny_zoo, str(tmp_path / "www" / "zoo"))  # again, in the same place
    zoo = open_zoo(f"{url}/zoo/")
    breaks.append(100_000)
    problems = zoo.verify()
    assert problems == [] or "what has arrived is kept" in problems[0]
    assert open_zoo(f"{url}/zoo").verify() == []
    with pytest.raises(ZooError, match="is not a published zoo"):
        open_zoo(f"{url}/elsewhere")


def test_half_a_file_goes_on_at_its_end(
    web: tuple[str, list[int]], tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_BLOCK", 50_000)
    publish(tiny_zoo, str(tmp_path / "www" / "zoo"))
    zoo = open_zoo(f"{web[0]}/zoo")
    name = "base.safetensors.gz"
    half = (tiny_zoo / name).read_bytes()[:100_000]
    place = zoo.path / ".arriving" / hashlib.sha256(name.encode()).hexdigest()
    place.parent.mkdir()
    place.write_bytes(half)
    zoo.load_base()
    assert (zoo.path / name).read_bytes() == (tiny_zoo / name).read_bytes() and not place.exists()


def test_a_directory_that_holds_other_things(tiny_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ZooError, match=r"did not write.*: notes.txt; move them"):
        publish(tiny_zoo, str(tmp_path))
    with pytest.raises(ZooError, match="cannot be written"):
        publish(tiny_zoo, str(tmp_path / "notes.txt" / "zoo"))


def test_a_damaged_zoo_is_not_published(tiny_zoo: Path, tmp_path: Path) -> None:
    own = open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "own")))
    next(own.path.glob("members/*/weights.safetensors.gz")).write_bytes(b"")
    with pytest.raises(ZooError, match="is damaged: .*checksum"):
        publish(own.path, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_a_right_to_write(hub: Hub, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(ZooError, match="cannot be written") as error:
        publish(tiny_zoo, HERE)
    assert "hf_of_another" not in str(error.value)


@pytest.mark.parametrize(("target", "told"), [("https://host/zoo", "over HTTP"), ("ftp://host/zoo", "must be one of")])
def test_where_nothing_can_be_written(tiny_zoo: Path, target: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        publish(tiny_zoo, target)
    with pytest.raises(ConfigError, match="--private is for"):
        publish(tiny_zoo, "s3://bucket/zoo", private=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://org/na.me", Address("hf", "org/na.me")),
        ("hf://org/name@refs/pr/1", Address("hf", "org/name", "refs/pr/1")),
        ("s3://bucket/a/b/", Address("s3", "bucket/a/b")),
        ("https://host:8080/a", Address("https", "host:8080/a")),
        ("http://localhost:1/a", Address("http", "localhost:1/a")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address and Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "hf://name", "hf://a/b/c", "hf://a/../b", "hf://a/b@../c", "http://host/zoo", "http://localhost.evil/zoo",
        "https://user:password@host/zoo", "https://host/zoo?signature=password", "file:///etc", "ftp://host/zoo",
    ],
)  # fmt: skip
def test_what_is_not_an_address(text: str) -> None:
    with pytest.raises(ConfigError, match="must be one of hf://") as error:
        open_zoo(text)
    assert "password" not in str(error.value).replace("without passwords", "")


def test_a_file_of_a_directory_is_where_it_is(tiny_zoo: Path) -> None:
    assert require_file(tiny_zoo, "none") == tiny_zoo / "none"


def test_s3(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs", reason="needs mvp-edge[hub]")
    server = pytest.importorskip("moto.server", reason="needs mvp-edge[dev]").ThreadedMotoServer(port=0, verbose=False)
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        s3fs.S3FileSystem().mkdir("zoos")
        assert publish(tiny_zoo, "s3://zoos/tiny") == "s3://zoos/tiny"
        zoo = open_zoo("s3://zoos/tiny")
        assert len(zoo.ids()) == 3 and zoo.verify() == []
        with pytest.raises(ZooError, match="is not a published zoo"):
            open_zoo("s3://zoos/other")
        with pytest.raises(ZooError, match="cannot be written"):
            publish(tiny_zoo, "s3://nobodys/tiny")
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
