"""`mvp-edge zoo` and `neighbours`: what they print and change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import RESNET_ZOO
from mvp_edge.build.adding import add_result
from mvp_edge.core.errors import ZooError
from mvp_edge.zoo.store import open_zoo
from tests.conftest import save_tiny_base

from .conftest import Done, Run


def test_list(run: Run, tiny_zoo: Path) -> None:
    zoos = run("zoo", "list", "--json", "--zoo", tiny_zoo).json["zoos"]
    assert zoos[-1]["name"] == "tiny"
    assert zoos[-1]["base"] == "timm:test_resnet"
    assert (zoos[-1]["members"], zoos[-1]["specialist"], zoos[-1]["generalist"]) == (3, 3, 0)
    assert "timm:test_resnet" in run("zoo", "list", "--zoo", tiny_zoo).out


def test_show(run: Run, tiny_zoo: Path) -> None:
    shown = run("zoo", "show", tiny_zoo, "--json").json
    assert shown["name"] == "tiny"
    assert len(shown["members"]) == 3
    first = shown["members"][0]
    assert first.keys() == {"id", "classes", "kind", "top1", "achieved_keep", "method"}
    assert first["id"] in run("zoo", "show", tiny_zoo).out
    one = run("zoo", "show", tiny_zoo, first["id"], "--json").json
    assert one == json.loads((tiny_zoo / "members" / first["id"] / "member.json").read_text())
    assert first["classes"][0] in run("zoo", "show", tiny_zoo, first["id"]).out
    assert "no member 'nobody'" in run("zoo", "show", tiny_zoo, "nobody").error()


def test_classes_are_listed_as_a_class_list_has_them(run: Run, tiny_zoo: Path, nameless_zoo: Path) -> None:
    names = ["apple", "chair", "crab", "plain", "rose", "tiger"]
    assert run("zoo", "classes", tiny_zoo).out.splitlines() == names
    assert run("zoo", "classes", nameless_zoo).out.splitlines() == names  # its generalists tell
    found = run("zoo", "classes", tiny_zoo, "--json").json
    assert found == {"zoo": "tiny", "base": "timm:test_resnet", "classes": names}
    assert len(run("zoo", "classes", RESNET_ZOO, "--json").json["classes"]) == 100
    assert "neither bundled" in run("zoo", "classes", "none").error()


def test_verify(run: Run, zoo: Path) -> None:
    assert "sound" in run("zoo", "verify", zoo).out
    assert run("zoo", "verify", zoo, "--json").json == {"zoo": "tiny", "members": 3, "bodies": 0, "problems": []}
    file = next(zoo.glob("members/*/weights.safetensors.gz"))
    file.write_bytes(file.read_bytes()[:-7])
    done = run("zoo", "verify", zoo)
    assert "1 problem was found" in done.error()
    assert "checksum" in done.out
    assert len(run("zoo", "verify", zoo, "--json").json["problems"]) == 1


def test_build_makes_fills_up_and_adds_a_generalist_member(run: Run, images: Path, tiny_base: Path) -> None:
    words = [
        "zoo",
        "build",
        "new",
        "--data",
        images,
        "--ways",
        2,
        "--keep",
        0.4,
        "--channel-multiple",
        4,
        "--batch-size",
        8,
    ]
    words += ["--iterations", 3, "--generalist-iterations", 2, "--json", "--importance", "taylor"]
    first = run(*words, "--base", tiny_base, "--members", 1)
    assert first.code == 0, first.err
    assert first.json["zoo"]["members"] == len(first.json["made"]) == 1
    second = run(*words, "--members", 2, "--generalist", 0.4).json
    assert (second["zoo"]["specialist"], second["zoo"]["generalist"], len(second["made"])) == (2, 1, 2)
    assert run(*words, "--members", 2, "--generalist", 0.4).json["made"] == []
    assert run("zoo", "verify", "new").code == 0


def test_build_refuses_impossible_members_before_it_makes_a_generalist_one(run: Run, images: Path, zoo: Path) -> None:
    words = ["zoo", "build", zoo, "--data", images, "--keep", 0.4, "--channel-multiple", 4, "--generalist", 0.4]
    words += ["--generalist-iterations", 2, "--iterations", 3]
    assert "--ways is 7" in run(*words, "--ways", 7).error()
    assert "use 15 at most" in run(*words, "--ways", 2, "--members", 99).error()
    assert len(open_zoo(str(zoo)).ids()) == 3
    assert len(run(*words, "--ways", 7, "--members", 0, "--json").json["made"]) == 1


def test_add(run: Run, pruned: tuple[Path, Done], zoo: Path) -> None:
    added = run("zoo", "add", pruned[0], "--zoo", zoo, "--json").json
    assert added["added"] is True
    info = open_zoo(str(zoo)).info(added["id"])
    assert info.task.names == ("tiger", "apple", "rose")
    assert info.top1 == pruned[1].json["accuracy"]["top1"]
    assert open_zoo(str(zoo)).verify() == []
    again = run("zoo", "add", pruned[0], "--zoo", zoo, "--json").json
    assert again == {"zoo": "tiny", "id": added["id"], "added": False}


@pytest.mark.parametrize("method", ["mvp", "smsp"])
def test_adding_later_is_adding_at_once(run: Run, task: Path, images: Path, zoo: Path, method: str) -> None:
    words = ["prune", "--task", task, "--data", images, "--zoo", zoo, "--add-to-zoo", "--json"]
    words += ["--keep", 0.5, "--channel-multiple", 4, "--iterations", 1, "--batch-size", 4, "--vote", "sample"]
    report = run(*words, "--method", method).json
    later = run("zoo", "add", "out", "--zoo", zoo, "--json").json
    assert later == {"zoo": "tiny", "id": report["added_member"], "added": False}


def test_images_held_out_are_in_the_name(
    run: Run, task: Path, images: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.fit.JUDGED_IMAGES", 1)
    monkeypatch.setattr("mvp_edge.prune.fit.HELD_OUT", 4)
    words = ["prune", "--task", task, "--data", images, "--zoo", zoo, "--add-to-zoo", "--json", "--schedule", "fixed"]
    report = run(*words, "--keep", 0.5, "--iterations", 1, "--batch-size", 4).json
    assert report["data_held_out"] == 6
    later = run("zoo", "add", "out", "--zoo", zoo, "--json").json
    assert later == {"zoo": "tiny", "id": report["added_member"], "added": False}


def test_add_refuses_another_base(run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "other.safetensors", images, seed=1)
    run("zoo", "build", "other", "--data", images, "--base", base, "--members", 0)
    assert "zoo of its own base" in run("zoo", "add", pruned[0], "--zoo", "other").error()
    assert open_zoo("other").ids() == []


@pytest.mark.parametrize(
    ("file", "content", "wanted"),
    [
        ("plan.json", None, "cannot be read"),
        ("plan.json", b"{", "damaged"),
        ("plan.json", b"[]", "damaged"),
        ("plan.json", b"{}", "not a complete result"),
        ("report.json", b"{}", "not a complete result"),
        ("report.json", None, "cannot be read"),
        ("weights.safetensors", b"\0" * 9, "readable safetensors"),
        ("weights.safetensors", None, "cannot be read"),
    ],
)
def test_add_refuses_damaged_results(
    pruned: tuple[Path, Done], zoo: Path, tmp_path: Path, file: str, content: bytes | None, wanted: str
) -> None:
    copy = Path(shutil.copytree(pruned[0], tmp_path / "copy"))
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(ZooError, match=wanted):
        add_result(open_zoo(str(zoo)), copy)
    assert len(open_zoo(str(zoo)).ids()) == 3


def test_add_refuses_a_member_as_it_is(pruned: tuple[Path, Done], zoo: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pruned[0], tmp_path / "copy"))
    report = json.loads((copy / "report.json").read_text())
    report |= {"data": None, "accuracy": report["accuracy"] | {"top1": None}}  # nothing is known of how good it is
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(ZooError, match="was made without images"):
        add_result(open_zoo(str(zoo)), copy)


def test_add_refuses_weights_that_do_not_fit(pruned: tuple[Path, Done], zoo: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pruned[0], tmp_path / "copy"))
    plan = json.loads((copy / "plan.json").read_text())
    plan["groups"][0]["kept"].pop()
    (copy / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ZooError, match="plan"):
        add_result(open_zoo(str(zoo)), copy)


@pytest.mark.parametrize("similarity", ["leep", "wordnet"])
def test_neighbours(run: Run, task: Path, images: Path, tiny_zoo: Path, similarity: str) -> None:
    words = ["neighbours", "--task", task, "--zoo", tiny_zoo, "--similarity", similarity, "--top", 2]
    words += ["--data", images] if similarity == "leep" else []
    found = run(*words, "--json").json
    assert found["task"]["classes"] == ["tiger", "apple", "rose"]
    assert found["similarity"] == similarity
    values = [n["similarity"] for n in found["neighbours"]]
    assert len(values) == 2
    assert values == sorted(values, reverse=True)
    assert found["neighbours"][0]["id"] in run(*words).out


def test_neighbours_tells_who_votes_in_prune(
    run: Run, task: Path, images: Path, generalist_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--task", task, "--zoo", generalist_zoo, "--data", images]
    pruned = run("prune", *words, "--iterations", 0, "--json", "--precision", "fp32").json["voters"]
    found = run("neighbours", *words, "--json").json
    assert found["voters"] == [n["id"] for n in found["neighbours"] if n["votes"]] == [n["id"] for n in pruned]
    assert {n["kind"] for n in found["neighbours"]} == {"specialist", "generalist"}
    (voter,), others = found["voters"], [n["id"] for n in found["neighbours"] if not n["votes"]]
    first = run("neighbours", *words, "--top", 1, "--json").json["neighbours"]
    assert [n["id"] for n in first] == [voter, *others[:1]][: 1 + (found["neighbours"][0]["id"] != voter)]
    for columns in (160, 44):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        told = run("neighbours", *words, "--quiet").out
        assert all(n["id"] in told for n in found["neighbours"])  # none is cut off
        assert "own" in told and "specialist" in told and "generalist" in told and "votes" in told


def test_neighbours_where_prune_has_no_voter(run: Run, task: Path, tiny_zoo: Path) -> None:
    done = run("neighbours", "--task", task, "--zoo", tiny_zoo, "--json")
    assert done.json["voters"] == [] and not any(n["votes"] for n in done.json["neighbours"])
    assert "no member can vote in `prune`: no member of the zoo knows all classes" in " ".join(done.err.split())


def test_neighbours_tells_which_meaning_of_a_name_it_takes(run: Run, tmp_path: Path, tiny_zoo: Path) -> None:
    (tmp_path / "birds.txt").write_text("apple\nspring\ncrane = crane.n.05\n")
    done = run("neighbours", "--task", "birds.txt", "--zoo", tiny_zoo)
    assert "'spring' is read as spring.n.01 (the season of growth)" in done.err
    assert "`spring = spring.n.02`" in done.err
    assert "'apple'" not in done.err and "'crane'" not in done.err
