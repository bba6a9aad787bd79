"""What is refused before torch is there, and which sense of a name a base knows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import RESNET_ZOO, VIT_ZOO
from cli.app import app
from mvp_edge.config import PruneConfig, VoteConfig
from mvp_edge.core.errors import ConfigError, TaskError, ZooError
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.job import read_job
from mvp_edge.prune.request import prune_command, requested_task
from mvp_edge.zoo.location import FORMAT


@pytest.fixture
def config(tmp_path: Path) -> PruneConfig:
    return PruneConfig(tmp_path / "classes.txt", None, tmp_path / "out", zoo=RESNET_ZOO)


def write(config: PruneConfig, text: str) -> None:
    assert isinstance(config.task, Path)
    config.task.write_text(text)


def test_the_senses_of_the_base_are_found_by_name_or_typed(config: PruneConfig) -> None:
    write(config, "mouse\nray = ray.n.07\nkeyboard = n03085013\n")
    assert [c.synset for c in requested_task(config).classes] == ["mouse.n.01", "ray.n.07", "computer_keyboard.n.01"]


def test_another_sense_than_the_base_s_needs_images(config: PruneConfig) -> None:
    write(config, "mouse = mouse.n.04\nray = beam.n.04\nkeyboard\n")
    with pytest.raises(TaskError) as error:
        requested_task(config)
    message = str(error.value)
    assert "class 'mouse' is mouse.n.04 (a hand-operated electronic device" in message
    assert "'mouse' of resnet18-cifar100 is mouse.n.01 (any of numerous small rodents" in message
    assert "'ray' of resnet18-cifar100 is ray.n.07" in message
    assert "keyboard" not in message
    assert message.endswith(f"mvp-edge zoo classes {RESNET_ZOO}), or add images of them with --data DIR")
    assert requested_task(replace(config, data="photos")).classes[0].synset == "mouse.n.04"


def test_a_class_that_the_base_does_not_know(config: PruneConfig) -> None:
    write(config, "crane = crane.n.05\naple\n")
    with pytest.raises(TaskError) as error:
        requested_task(config)
    assert str(error.value) == (
        "class 'crane' is unknown to resnet18-cifar100; class 'aple' is unknown to resnet18-cifar100 (nearest: apple); "
        f"write known classes (all of them: mvp-edge zoo classes {RESNET_ZOO}), or add images of them with --data DIR"
    )
    with pytest.raises(TaskError, match=f"all of them: mvp-edge zoo classes {re.escape(VIT_ZOO)}"):
        requested_task(replace(config, zoo=VIT_ZOO))
    assert requested_task(replace(config, data="photos")).classes[0].synset == "crane.n.05"


def test_commas_in_an_unknown_name_are_pointed_at(config: PruneConfig) -> None:
    write(config, "apple,\npear\n")
    with pytest.raises(TaskError, match="'apple,' .*one class a line"):
        requested_task(config)
    write(config, "aple\npear\n")
    with pytest.raises(TaskError) as error:
        requested_task(config)
    assert "commas" not in str(error.value)


def test_classes_without_a_file(config: PruneConfig) -> None:
    given = replace(config, task=Task((TaskClass("apple"), TaskClass("pear"))))
    assert [c.synset for c in requested_task(given).classes] == ["apple.n.01", "pear.n.01"]
    assert prune_command(given) == f"mvp-edge prune --task - --zoo {RESNET_ZOO} --seed 0"


def test_what_needs_images(config: PruneConfig) -> None:
    write(config, "apple\npear\n")
    for vote in (VoteConfig(similarity="leep"), VoteConfig(method="smsp"), VoteConfig(voters="specialist")):
        with pytest.raises(ConfigError, match="--data DIR"):
            requested_task(replace(config, vote=vote))
        assert requested_task(replace(config, vote=vote, data="photos")).names == ("apple", "pear")


def test_the_place_comes_first_then_the_zoo_then_the_list(config: PruneConfig) -> None:
    strange = replace(config, zoo="none")
    config.out.write_text("a file")
    with pytest.raises(ConfigError, match="is a file"):
        read_job(strange)
    config.out.unlink()
    with pytest.raises(ZooError, match="neither bundled"):
        read_job(strange)
    with pytest.raises(TaskError, match="no such file"):
        read_job(config)
    write(config, "apple\npear\n")
    assert read_job(config).trains


@pytest.mark.parametrize("text", [f'{{"format": {FORMAT}}}', f'{{"format": {FORMAT}, "base": {{"name": "b"}}}}', "[]"])
def test_a_zoo_whose_description_lacks_its_base(config: PruneConfig, tmp_path: Path, text: str) -> None:
    write(config, "apple\npear\n")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "zoo.json").write_text(text)
    with pytest.raises(ZooError, match="damaged"):
        requested_task(replace(config, zoo=str(tmp_path / "zoo")))


def test_the_standard_input_is_read_once(tmp_path: Path) -> None:
    command = ["prune", "--task", "-", "--zoo", RESNET_ZOO, "--out", str(tmp_path / "out"), "--device", "cuda:99"]
    told = CliRunner().invoke(app, command, input="apple\npear\n").stderr
    assert told.startswith("error: device cuda:99 is not available")  # said after the list has been read for good


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("size", [["--keep", "0.1"], ["--budgets", "1ms"]])
def test_a_class_list_from_a_pipe_is_read_once(tmp_path: Path, size: list[str]) -> None:
    os.mkfifo(pipe := tmp_path / "classes.txt")
    command = ["prune", "--task", str(pipe), *size, "--zoo", RESNET_ZOO, "--out", str(tmp_path / "out")]
    writing = threading.Thread(target=pipe.write_text, args=["apple\npear\n"], daemon=True)  # until it is read
    writing.start()
    told = CliRunner().invoke(app, [*command, "--device", "cuda:99"]).stderr
    writing.join()
    assert told.startswith("error: device cuda:99 is not available")  # said after the list has been read for good


@pytest.mark.parametrize(
    ("command", "text", "wanted"),
    [
        ("prune", "aple\npear\n", "'aple' is unknown"),
        ("prune", "apple\n", "only one class"),
        ("prune", None, "no such file"),
        ("neighbours", "apple\n", "only one class"),
        ("neighbours", None, "no such file"),
    ],
)
def test_a_slip_of_the_pen_costs_no_import_of_torch(
    tmp_path: Path, command: str, text: str | None, wanted: str
) -> None:
    if text is not None:
        (tmp_path / "classes.txt").write_text(text)
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['timm'] = None\n"  # to import them is an error now
        f"sys.argv = ['mvp-edge', '{command}', '--task', 'classes.txt', '--zoo', {RESNET_ZOO!r}]\n"
        "from mvp_edge_cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and wanted in done.stderr
