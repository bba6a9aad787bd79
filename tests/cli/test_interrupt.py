"""Ctrl-C or another signal to stop, at any moment: exit 128 + its number, one line, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import Run


def test_ctrl_c(
    run: Run, task: Path, images: Path, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mvp_edge.prune.job.compress", interrupt)
    done = run("prune", "--task", task, "--data", images, "--zoo", tiny_zoo)
    assert (done.code, done.out, done.err) == (130, "", "interrupted; nothing was written\n")
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"classes.txt"}


@pytest.mark.parametrize("stage", ["Ranking the zoo", "Fine-tuning", "Exporting", "Measuring"])
def test_ctrl_c_in_the_middle_of_the_work(
    run: Run, task: Path, images: Path, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str
) -> None:
    from cli.progress import Log

    real = Log.stage

    def interrupt(self: Any, name: str, total: int | None = None) -> object:
        if name == stage:
            raise KeyboardInterrupt
        return real(self, name, total)

    monkeypatch.setattr(Log, "stage", interrupt)
    done = run("prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4)
    assert (done.code, done.err) == (130, "interrupted; nothing was written\n")
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"classes.txt"}


def test_ctrl_c_that_somebody_swallowed(
    run: Run, task: Path, images: Path, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bare `except` or a destructor in a library may lose it; the next step of progress finds it."""
    from cli import process

    monkeypatch.setattr(process, "_received", [])
    real = torch.randn

    def swallow(*args: Any, **names: Any) -> torch.Tensor:
        with contextlib.suppress(KeyboardInterrupt):
            process._receive(2, None)
        return real(*args, **names)

    monkeypatch.setattr(torch, "randn", swallow)
    done = run("prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4)
    assert (done.code, done.err) == (130, "interrupted; nothing was written\n")
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"classes.txt"}


def test_ctrl_c_while_the_command_line_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.parse_args", lambda *_: interrupted(""))
    done = run("zoo", "list")
    assert (done.code, done.out, done.err) == (130, "", "interrupted; nothing was written\n")


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_while_it_starts(task: Path, tiny_zoo: Path, tmp_path: Path, module: str) -> None:
    """An import that Ctrl-C hits may fail with another error than KeyboardInterrupt, as numpy's does."""
    code = (
        "import importlib.abc, signal, sys\n"
        "class Unlucky(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == '{module}':\n"
        "            try:\n"
        "                signal.raise_signal(signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        "                if name == 'typer': raise\n"
        "                raise ImportError('cannot load module more than once per process') from None\n"
        "sys.meta_path.insert(0, Unlucky())\n"
        f"sys.argv = ['mvp-edge', 'prune', '--task', '{task}', '--data', '{tmp_path}', '--zoo', '{tiny_zoo}']\n"
        "from mvp_edge_cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; nothing was written\n")


SLOW_WORK = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have silenced it
sys.modules["torch"] = None  # nothing here needs it
from mvp_edge_cli import app, main
from mvp_edge.core.output import result_directory

def work(ctx):
    with result_directory(Path("out"), lambda: None) as directory:
        (directory / "model.onnx").write_text("half of it")
        print("ready", flush=True)
        time.sleep(60)

app.typer.core.TyperGroup.invoke = lambda self, ctx: work(ctx)
sys.argv = ["mvp-edge", "bases"]
main.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are Unix's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_the_work(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_WORK], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        assert running.stderr.read() == "interrupted; nothing was written\n"
        assert running.wait() == 128 + number
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="signals are Unix's")
def test_what_nohup_has_silenced_stays_silent() -> None:
    code = (
        "import signal\n"
        "from mvp_edge_cli import process\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "process.start()\n"
        "signal.raise_signal(signal.SIGHUP)\n"
        "assert not process.interrupted() and process.status() == 130\n"
        "try:\n    signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n    print(process.status())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "143\n"
