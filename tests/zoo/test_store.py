import gzip
import json
import multiprocessing
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvp_edge.core.errors import ZooError
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import load_base
from mvp_edge.models.plan import full_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.zoo import store
from mvp_edge.zoo.catalogue import read_generalist_classes
from mvp_edge.zoo.member import Member, MemberInfo, Outputs
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from tests.bases import small_base


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    torch.manual_seed(0)
    base = small_base("test_resnet", classes=("a", "b", "c"))
    return create_zoo(tmp_path / "zoo", base, new_model("test_resnet", 3))


def member(zoo: Zoo, name: str = "one") -> tuple[MemberInfo, dict[str, torch.Tensor]]:
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    plan = top_plan(
        prunable.table, base_importance(prunable.model, prunable.table), target_counts(prunable.table, 0.3, 4)
    )
    model = sliced_copy(prunable.model, prunable.table, plan)
    task = Task((TaskClass("a", "angle.n.01"), TaskClass("b")))
    info = MemberInfo(name, task, "specialist", plan, zoo.base.sha256, {"method": "test"}, 81.5)
    return info, prunable.state_of(model)


def test_a_member_comes_back_as_it_went_in(zoo: Zoo) -> None:
    info, state = member(zoo)
    written, new = zoo.add(info, state)
    assert new
    again = open_zoo(str(zoo.path))
    assert again.infos() == [written]
    loaded = again.load(written).state
    assert loaded.keys() == state.keys()
    told = zoo.as_stored(state)
    for key, value in state.items():
        assert torch.equal(loaded[key], told[key])
        assert (loaded[key] - value).abs().max() <= (value.std() / 4 if value.ndim > 1 else 0)
    assert again.verify() == []
    assert again.summary()["members"] == again.summary()["specialist"] == 1
    assert again.summary()["mean_top1"] == 81.5


def test_a_stray_directory_is_named(zoo: Zoo) -> None:
    (zoo.path / "members" / "notes").mkdir(parents=True)
    with pytest.raises(ZooError, match=r"members/notes .*member\.json"):
        zoo.infos()
    with pytest.raises(ZooError, match="has no member 'nobody'"):
        zoo.info("nobody")


def test_the_size_of_a_zoo_that_another_process_adds_to(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.add(*member(zoo))
    size = zoo.summary()["bytes"]
    assert size == sum(f.stat().st_size for f in zoo.path.rglob("*") if f.is_file()) > 0
    (zoo.path / "members" / ".two.1234").mkdir()
    gone = zoo.path / ".locks"
    scandir = os.scandir

    def finished(path: Any) -> Any:
        if str(path) == str(gone):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", finished)
    gone.mkdir(exist_ok=True)
    assert zoo.summary()["bytes"] == size


def test_nothing_in_a_zoo_is_a_pickle(zoo: Zoo) -> None:
    zoo.add(*member(zoo))
    assert {f.suffix for f in zoo.path.rglob("*") if f.is_file()} == {".json", ".gz", ".lock"}


def test_adding_twice_keeps_the_first(zoo: Zoo) -> None:
    info, state = member(zoo)
    first = zoo.add(info, state).info
    assert zoo.add(replace(info, top1=1.0), {k: v + 1 for k, v in state.items()}) == (first, False)
    assert zoo.infos() == [first]
    assert not list((zoo.path / "members").glob(".*"))


def test_who_knows_a_task_is_sorted_by_size_then_name(zoo: Zoo) -> None:
    info, state = member(zoo)
    everything = Task(tuple(TaskClass(c) for c in zoo.base.classes))
    small = replace(info, kind="generalist", task=everything)
    large = replace(small, plan=full_plan(small.plan.widths))
    for name, each, top1 in (
        ("d", small, 70.0), ("c", small, 80.0), ("b", small, 80.0), ("e", large, 60.0), ("a", small, None),
    ):  # fmt: skip  # accuracy on test images decides nothing
        zoo.add(replace(each, id=name, top1=top1), state)
    zoo.add(info, state)
    zoo.add(replace(small, id="other", task=Task((TaskClass("b"), TaskClass("z")))), state)
    assert [i.id for i in zoo.knowing(Task((TaskClass("A"), TaskClass("b"))))] == ["e", "a", "b", "c", "d"]
    assert read_generalist_classes(str(zoo.path)) == ("a", "b", "c", "z")


def test_damage_is_named(zoo: Zoo) -> None:
    info = zoo.add(*member(zoo)).info
    file = zoo.path / "members" / info.id / "weights.safetensors.gz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ZooError, match="checksum"):
        zoo.load(info)
    assert len(zoo.verify()) == 1
    (zoo.path / "members" / info.id / "member.json").write_text("{")
    with pytest.raises(ZooError, match="damaged"):
        zoo.infos()
    file.parent.joinpath("member.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ZooError, match="format 99"):
        zoo.infos()


def test_a_damaged_base_is_named(zoo: Zoo) -> None:
    file = zoo.path / "base.safetensors.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ZooError, match="safetensors|checksum"):
        zoo.load_base()
    assert len(zoo.verify()) == 1


def test_members_of_another_base_are_refused(zoo: Zoo) -> None:
    info, state = member(zoo)
    with pytest.raises(ZooError, match="another base"):
        zoo.add(replace(info, base_sha256="0" * 64), state)
    written = zoo.add(info, state).info
    path = zoo.path / "members" / written.id / "member.json"
    path.write_text(json.dumps(written.to_json() | {"base_sha256": "0" * 64}))
    with pytest.raises(ZooError, match="another base model"):
        zoo.infos()


def test_what_is_no_zoo_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="neither bundled"):
        open_zoo(str(tmp_path / "none"))
    with pytest.raises(ZooError, match="not a zoo"):
        open_zoo(str(tmp_path))
    (tmp_path / "zoo.json").write_text("{")
    with pytest.raises(ZooError, match="damaged"):
        open_zoo(str(tmp_path))
    (tmp_path / "zoo.json").write_text('{"format": 7}')
    with pytest.raises(ZooError, match="format 7"):
        open_zoo(str(tmp_path))


def test_a_directory_with_something_else_is_not_made_a_zoo(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ZooError, match="not a zoo"):
        create_zoo(tmp_path / "other", zoo.base, new_model("test_resnet", 3))
    with pytest.raises(ZooError, match="zoo of tiny"):
        create_zoo(zoo.path, zoo.base, new_model("test_resnet", 3))  # other weights
    (zoo.path / "zoo.json").unlink()  # as a process leaves it that is killed at that moment
    assert create_zoo(zoo.path, zoo.base, zoo.load_base()).verify() == []


def test_a_zoo_that_was_being_made_is_made(zoo: Zoo, tmp_path: Path) -> None:
    left = tmp_path / "new" / ".base.safetensors.gz.0123abcd.tmp"  # a process was killed while it wrote this
    left.parent.mkdir()
    left.touch()
    made = create_zoo(left.parent, zoo.base, zoo.load_base())
    assert made.verify() == []
    made.remove_leftovers()
    assert left.exists()  # perhaps another process is just writing it
    os.utime(left, (0, 0))
    made.remove_leftovers()
    assert not left.exists()


def test_a_zoo_that_cannot_be_written_is_named(zoo: Zoo) -> None:
    zoo.require_writable()
    assert not list((zoo.path / "members").iterdir())
    (zoo.path / "members").rmdir()
    (zoo.path / "members").touch()
    for write in (zoo.require_writable, lambda: zoo.add(*member(zoo))):
        with pytest.raises(ZooError, match="cannot be written"):
            write()


def _hold(path: str, ready: Any, done: Any) -> None:
    with open_zoo(path).claim("m") as mine:
        assert mine
        ready.set()
        done.wait(30)


def test_a_claim_is_exclusive_and_dies_with_its_process(zoo: Zoo) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(zoo.path), ready, done))
    process.start()
    assert ready.wait(60)
    with zoo.claim("m") as mine:
        assert not mine
    with zoo.claim("other") as mine:
        assert mine
    process.kill()
    process.join()
    with zoo.claim("m") as mine:
        assert mine


def test_a_bundled_zoo_grows_in_the_users_directory(zoo: Zoo, tmp_path: Path) -> None:
    grown = replace(zoo, growth=tmp_path / "user")
    info = grown.add(*member(zoo)).info
    assert not (zoo.path / "members" / info.id).exists()
    assert [i.id for i in grown.infos()] == [info.id]
    assert grown.load(info).info == info
    assert zoo.infos() == []


def test_the_same_base_in_another_file_is_the_same(zoo: Zoo) -> None:
    """Python 3.13 writes another gzip header than 3.12."""
    file = zoo.path / "base.safetensors.gz"
    before = file.read_bytes()
    file.write_bytes(gzip.compress(gzip.decompress(before), 1, mtime=5))
    assert file.read_bytes() != before
    assert zoo.verify() == []
    assert load_base(str(file))[0] == zoo.base


def test_a_base_of_another_reading_is_another(zoo: Zoo) -> None:
    """The same weights with other names of classes."""
    with pytest.raises(ZooError, match="zoo of tiny"):
        create_zoo(zoo.path, replace(zoo.base, classes=("c", "b", "a")), zoo.load_base())


def test_a_member_without_a_tensor_is_refused(zoo: Zoo) -> None:
    """It would keep that of the member before, where members take turns in one network."""
    info, state = member(zoo)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    name = next(k for k in state if k.endswith("running_mean"))
    with pytest.raises(ZooError, match=f"plan .*{name} is missing"):
        Member(info, {k: v for k, v in state.items() if k != name}).network(prunable)


def test_stored_outputs_keep_small_gaps(zoo: Zoo) -> None:
    logits = torch.tensor([[-30.0, 4.99, 5.0], [20.0, 12.0, 20.02]])
    info, state = member(zoo)
    found = zoo.outputs(zoo.add(info, state, Outputs(logits, torch.tensor([2, 2]))).info)
    assert found is not None
    assert found.logits.argmax(1).tolist() == [2, 2]
    assert torch.equal(found.labels, torch.tensor([2, 2]))


def test_a_second_creator_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, write, found = small_base("test_resnet", classes=("a", "b", "c")), store.write_atomically, []
    torch.manual_seed(0)
    first, second = new_model("test_resnet", 3), new_model("test_resnet", 3)

    def make() -> None:
        try:
            found.append(create_zoo(tmp_path / "zoo", base, second))
        except ZooError as e:
            found.append(e)

    other = threading.Thread(target=make)

    def interrupted(path: Path, data: bytes) -> None:
        if path.name == "zoo.json" and not other.ident:
            other.start()  # between the first one's base and its description
            other.join(1)
        write(path, data)

    monkeypatch.setattr(store, "write_atomically", interrupted)
    zoo = create_zoo(tmp_path / "zoo", base, first)
    other.join()
    assert open_zoo(str(zoo.path)).verify() == []
    assert isinstance(found[0], ZooError) and "is a zoo of tiny" in str(found[0])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="shows which file a descriptor is of")
def test_names_reach_the_disk(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    fsync = os.fsync

    def told(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    zoo.add(*member(zoo))
    assert {f.name for f in flushed[:-2]} == {"member.json", "weights.safetensors.gz"}
    assert [f.parent.name for f in flushed[-2:]] == ["members", "zoo"]  # the member's own directory, then theirs
    flushed.clear()
    create_zoo(zoo.path.parent / "another", zoo.base, zoo.load_base())
    assert [f.name for f in flushed if f.is_dir()] == ["another", "another"]


def test_descriptions_are_read_once(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    read, data = [], store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path, limit: read.append(path) or data(path, limit))
    info, state = member(zoo)
    one = zoo.add(info, state).info
    assert zoo.infos() == zoo.infos() == [one]
    assert [p.name for p in read].count("member.json") == 1
    two = open_zoo(str(zoo.path)).add(replace(info, id="two"), state).info  # by another process
    assert zoo.infos() == [one, two]
    shutil.rmtree(zoo.path / "members" / "one")
    assert zoo.infos() == [two]
