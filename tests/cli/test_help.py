"""Help is quick and complete."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median
from typing import Any, get_args

import pytest

import mvp_edge
from cli.app import COMMANDS as SUMMARIES
from cli.app import load
from mvp_edge.config import BuildConfig, Optimizer, PretrainConfig, PruneConfig, VoteConfig
from mvp_edge.training.recipes import recipe

from .conftest import Run

COMMANDS = {
    "prune": "--task --data --out --force --precision --input --zoo --keep --channel-multiple --neighbours "
    "--similarity --voters --vote --temperature --iterations --batch-size --lr --device "
    "--threads --bf16 --seed --add-to-zoo --group-by --no-thumbnails --json --quiet",
    "neighbours": "--task --data --zoo --similarity --top --threads --json",
    "bench": "--vs --threads --runs --batch --profile --plot --json",
    "eval": "--data --group-by --threads --json",
    "data": "--group-by --threads --json",
    "pretrain": "--base --data --out --epochs --init --small-size --small-epochs --threads --bf16 --force --json",
    "bases": "--json",
    "push": "--private --json --quiet",
    "zoo build": "--base --weights --data --members --ways --keep --channel-multiple --iterations --lr "
    "--batch-size --importance "
    "--method --sparsity --threshold --optimizer --generalist --generalist-iterations --seed --device --threads "
    "--bf16 --launcher --cpus-per-member --members-per-job --gpus-per-member --ray-address --json",
    "zoo plan": "--base --data --members --generalist --seed",
    "zoo make": "--job --json --quiet",
    "zoo merge": "--out --json --quiet",
    "zoo trim": "--members --out --seed --json --quiet",
    "zoo push": "--private --json --quiet",
    "zoo fetch": "--json --quiet",
    "zoo add": "--zoo --threads --json",
    "zoo list": "--zoo --json",
    "zoo show": "--json",
    "zoo classes": "--json",
    "zoo verify": "--json",
}
HEAVY = {"torch", "timm", "torchvision", "onnx", "onnxruntime", "nltk", "matplotlib", "numpy", "fvcore"}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, words: str) -> None:
    done = run(*words.split(), "--help")
    assert done.code == 0
    assert all(flag in done.out for flag in COMMANDS[words].split())
    assert f"mvp-edge {words}" in done.out.split("Example")[-1]


def test_top_level_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    assert all(words.split()[0] in done.out for words in COMMANDS)


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_top_level_help_says_what_each_command_says_of_itself(name: str) -> None:
    assert load(name).help == SUMMARIES[name]


def test_the_plainest_call_comes_first(run: Run) -> None:
    plain = "mvp-edge prune --task classes.txt"
    assert run("--help").out.strip().endswith(f"Start with: {plain}")
    shown = run("prune", "--help").out
    examples = [line.strip() for line in shown.split("Examples")[1].splitlines() if "mvp-edge" in line]
    assert examples[0] == plain
    told = " ".join(shown.replace("│", " ").split())
    assert "crane = crane.n.05" in told
    assert "Optional: without images" in told


def test_version(run: Run) -> None:
    assert run("--version").out == f"mvp-edge {mvp_edge.__version__}\n"


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert run("prunes").code == 2


HELP = """
import sys
from mvp_edge_cli.main import main
try:
    main()
except SystemExit as e:
    assert not e.code, e.code
print(*sys.modules)
"""

SMALL_APP = '''
import pathlib, typer
app = typer.Typer()
@app.command()
def convert(path: pathlib.Path, factor: float = 1.0, times: int = 1) -> None:
    """Convert a file."""
@app.command()
def show(path: pathlib.Path, json: bool = False) -> None:
    """Show a file."""
app()
'''


def processor_seconds(code: str, *words: str) -> tuple[float, str]:
    """Run `code` in a process of its own; return the processor time it took, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("words", [["--help"], ["prune", "--help"], ["zoo", "build", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    assert not HEAVY & set(processor_seconds(HELP, *words)[1].split("\n")[-2].split())


@pytest.mark.slow
def test_help_is_about_as_quick_as_that_of_a_small_app() -> None:
    # Processor time, in turns with an app of two commands, because machines and their load differ.
    turns = [(processor_seconds(HELP, "--help")[0], processor_seconds(SMALL_APP, "--help")[0]) for _ in range(15)]
    ours, small = (median(seconds) for seconds in zip(*turns, strict=True))
    assert ours <= 1.2 * small


def test_importing_the_library_imports_nothing_heavy() -> None:
    code = "import sys, mvp_edge; mvp_edge.PruneConfig, mvp_edge.MvpEdgeError, mvp_edge.read_task; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("name", mvp_edge.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(mvp_edge, name) is not None
    assert name in dir(mvp_edge)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="prun"):
        getattr(mvp_edge, "prun")  # noqa: B009


def test_the_defaults_are_those_of_the_library(tmp_path) -> None:
    """Flags take their defaults from the settings, so that there is one place to change them."""
    prune, vote = PruneConfig(tmp_path, None), PruneConfig(tmp_path, None).vote
    build, pretrain = BuildConfig(), PretrainConfig("", "", tmp_path)
    expect("prune", prune, "out", "force", "device", "seed", "add_to_zoo", "schedule", "precision")
    assert default("prune", "input_format") == prune.input
    expect(
        "prune", vote, "method", "keep", "channel_multiple", "neighbours", "similarity", "voters", "vote", "temperature"
    )
    expect("zoo build", build, "members", "ways", "seed", "method")
    expect("zoo build", build.scores, "sparsity", "threshold")
    expect("zoo build", build.schedule, "keep", "channel_multiple", "importance", "every")
    expect("pretrain", pretrain, "epochs", "device", "seed", "init", "small_size", "small_epochs")
    assert isinstance(vote, VoteConfig)
    for optimizer in get_args(Optimizer):
        expect("prune", recipe("prune", optimizer), "iterations", "batch_size")
        expect("zoo build", recipe("specialist", optimizer), "iterations", "batch_size", "distill")
        assert default("zoo build", "generalist_iterations") == recipe("generalist", optimizer).iterations
        assert default("zoo build", "batch_size") == recipe("generalist", optimizer).batch_size
        expect("pretrain", recipe("pretrain", optimizer), "batch_size", "cutout")


@pytest.mark.parametrize("words", ["prune", "pretrain", "zoo build"])
def test_what_depends_on_the_network_is_left_to_its_recipe(run: Run, words: str) -> None:
    assert default(words, "lr") is None and default(words, "optimizer") is None
    purpose: Any = {"zoo build": "specialist"}.get(words, words)
    told = f"{recipe(purpose, 'sgd').lr:g}, or {recipe(purpose, 'adamw').lr:g}"
    assert told in " ".join(run(*words.split(), "--help").out.replace("│", " ").split())


def expect(words: str, settings: object, *names: str) -> None:
    for name in names:
        assert default(words, name) == getattr(settings, name), (words, name)


def default(words: str, name: str) -> object:
    first, *rest = words.split()
    command = load(first)
    for word in rest:
        command = command.commands[word]
    return next(p.default for p in command.params if p.name == name)
