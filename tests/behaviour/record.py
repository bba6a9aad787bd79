"""Record what ten runs of `mvp-edge prune` deliver, and compare later runs with the record.

`recorded.json` was first written at commit 8ed278a, before the code was rearranged, and the rearranged code delivered
the same to the last bit in all ten runs. It was written anew for two changes that were meant: LEEP is cross-fitted,
which chooses other voters in the run with specialists; members are named after their images and stored outputs are
halves, which moves the accuracy from outputs by one image.

New names also moved the logits of the run with `smsp` by 2.9e-4. Its four generalists are equally near, so that their
names ordered them, and the mean of the voters' weights was rounded in that order. The mean is now independent of the
order; the three runs in which several members vote were written anew for that. It differs from the former mean by
rounding (1e-7), which training enlarged to 3e-4 in four iterations, and to 1.4e-2 in the run with a zoo of its own.

The last two changes: fine-tuning is judged by images held out however many there are, so that the runs with many images
and with a zoo of its own train on fewer; and steps in float32 take quick forms of layers, whose rounding (1e-6 of a
gradient) leaves members of the zoo of its own other units.

It holds, for each run, the kept units of
every group, the labels, the logits of the delivered files for 16 fixed pictures, the size and norm of the weights, and
the accuracy on the test images.

    python tests/behaviour/record.py --check        # compare with recorded.json
    python tests/behaviour/record.py --write        # write recorded.json anew

`MVP_EDGE_DATA` names the directory that holds `cifar100/{train,test}/CLASS/*`. Only the command line and the delivered
files are used, so that any version of the code can be compared. Another checkout than the installed one runs with it on
`PYTHONPATH`, and a directory with a link named `mvp_edge_cli` to its `cli` beside it.

Kept units and labels are compared exactly, accuracies to one image. Processors differ in how they round: AMX, AVX-512
and AVX2 give other sums, and those without VNNI saturate in INT8. So logits of trained float files may differ by three
times what other rounding of the first weights made of them, and INT8 files are compared with the float file of the
same run: their error may be at most twice the recorded one.

Some words of the command line have changed since 8ed278a. `--former` types them as they were then, and turns off the
teacher that fine-tuning by `prune` had.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FLOAT = "model.onnx"
RECORD = Path(__file__).with_name("recorded.json")
ZOOS = Path(__file__).parents[2] / "benchmarks" / "zoos"
COMMIT = "8ed278a"
TOLERANCE = 1e-4  # largest absolute difference of a logit of a float file
TRAINED_TOLERANCE = 0.05  # the same after training, which enlarges differences of rounding
INT8_ERROR = 2.0  # times the recorded root mean square difference between INT8 and float file
WEIGHT_TOLERANCE = 1e-4  # relative difference of the norm of all weights
PICTURES = 16

# Everything that is typed. Words in braces are paths of this run's scratch directory.
LISTS = {
    "fruit": "apple orange pear mushroom sweet_pepper",
    "vehicles": "bus train tank tractor streetcar rocket",
    "mixed": "rose clock crab bridge wolf tiger bottle",
    "unknown": "leopard wolf zebra beaver",  # the bases do not know zebra
}
FEW = {"train": 30, "test": 20}  # pictures of each class of every list
MANY = {"train": 420, "test": 20}  # pictures of each class of the first list: above 2000 in all
# Classes with pictures of another class: one that CIFAR-100 lacks, and one that the members know with other pictures,
# so that fine-tuning on few pictures helps half-way.
STANDS_FOR = {"zebra": "tiger", "crab": "spider"}
COMMON = "--device cpu --threads 1 --quiet"
ZOO = (
    "pretrain --base timm:test_resnet --data {few} --out {base} --epochs 2 --batch-size 32 --seed 1",
    "zoo build {zoo} --base {base} --data {few} --members 4 --ways 3 --keep 0.5 --channel-multiple 4 --iterations 12 "
    "--batch-size 16 --generalist 0.75 --generalist-iterations 12 --seed 2",
)
RUNS = {
    # Without images: the largest member that fits is delivered as it is.
    "resnet, names": "--task {fruit} --zoo {resnet} --keep 0.1 --precision fp32",
    "resnet, names, MAC budget": "--task {vehicles} --zoo {resnet} --max-macs 30M --precision fp32",
    "vit, names, bytes": "--task {mixed} --zoo {vit} --keep 0.3 --precision fp32 --input uint8-nhwc",
    # Few images: cross-validation decides how much of the fine-tuning is kept.
    "resnet, few images, int8": "--task {mixed} --data {few} --zoo {resnet} --keep 0.1 --iterations 30 "
    "--lr 0.1 --precision int8 --seed 3",
    # From 2000 images on it does not.
    "resnet, many images": "--task {fruit} --data {many} --zoo {resnet} --keep 0.2 --iterations 6 "
    "--batch-size 64 --precision fp32 --seed 4",
    "resnet, two budgets": "--task {vehicles} --data {few} --zoo {resnet} --max-macs 9M --max-size-kib 480 "
    "--iterations 4 --schedule fixed --precision fp32 --seed 5",
    "vit, size budget": "--task {mixed} --data {few} --zoo {vit} --max-size-kib 1500 --iterations 6 "
    "--schedule fixed --precision int8 --seed 6",
    "resnet, specialists": "--task {unknown} --data {few} --zoo {resnet} --voters specialist --vote sample "
    "--neighbours 4 --keep 0.15 --channel-multiple 4 --iterations 6 --precision fp32 --seed 7",
    "resnet, smsp": "--task {mixed} --data {few} --zoo {resnet} --method smsp --similarity wordnet "
    "--keep 0.12 --iterations 4 --precision fp32 --seed 8",
    "own zoo": "--task {vehicles} --data {few} --zoo {zoo} --voters any --neighbours 3 --keep 0.4 "
    "--channel-multiple 4 --iterations 8 --batch-size 32 --precision fp32 --seed 9",
}
# Words of the commands above as they were at COMMIT.
FORMER = {
    "--channel-multiple": "--align",
    "--generalist": "--broad",
    "--generalist-iterations": "--broad-iterations",
    "specialist": "narrow",
}
FORMER_MORE = "--distill 0"  # of runs with images


@dataclass(frozen=True)
class Scratch:
    """A directory for one execution of the runs, and the pictures that they see.

    Attributes:
        places: Paths by the words that the commands have in braces.
        sha256: Checksum of the pictures, by which other copies of CIFAR-100 are noticed.
        former: Whether commands are typed as they were at `COMMIT`.
    """

    directory: Path
    places: Mapping[str, Path]
    sha256: str
    former: bool


class IncomparableError(Exception):
    """What was recorded cannot be repeated here: the pictures or the kind of processor are others."""


def main() -> int:
    """Record or compare; return the exit status: 1 for a difference, 3 if there is nothing to compare with."""
    parser = argparse.ArgumentParser(description="Record what ten runs deliver, or compare with the record.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare with recorded.json")
    action.add_argument("--write", action="store_true", help="write recorded.json anew")
    parser.add_argument("--only", metavar="NAME", choices=RUNS, help="compare only this run")
    parser.add_argument("--former", action="store_true", help=f"type the commands as they were at {COMMIT}")
    wanted = parser.parse_args()
    if wanted.write and wanted.only:
        parser.error("--write records all runs; leave out --only")
    root = os.environ.get("MVP_EDGE_DATA")
    if not root:
        parser.error("set MVP_EDGE_DATA to the directory that holds cifar100/{train,test}/CLASS")
    with TemporaryDirectory() as directory:
        make_reproducible(Path(directory))
        scratch = prepare(Path(directory), Path(root) / "cifar100", former=wanted.former)
        try:
            before = {} if wanted.write else read_record(scratch)
        except IncomparableError as e:
            say(str(e))
            return 3
        after = record(scratch, [wanted.only] if wanted.only else list(RUNS))
    if wanted.write:
        RECORD.write_text(json.dumps(after, separators=(",", ":")) + "\n", encoding="utf-8")
        say(f"{RECORD} written")
        return 0
    problems = [
        problem
        for name, run in after["runs"].items()
        for problem in differences(before["runs"][name], run, name, trained="--data" in RUNS[name])
    ]
    if after["zoo"] not in ([], before["zoo"]):
        problems.append("own zoo: its members keep other units")
    for problem in problems:
        say(f"DIFFERENT {problem}")
    if problems:
        say(f"recorded with {before['environment']}; this is {after['environment']}")
    else:
        say("all as recorded")
    return 1 if problems else 0


def say(text: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def make_reproducible(directory: Path) -> None:
    """Set this process up so that the same code gives the same numbers: before torch and ONNX Runtime are imported.

    One thread; no bfloat16, which the package uses with AMX; the same instructions on all
    x86 processors as far as the libraries allow; no members or timings of the user's own.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    os.environ["MKL_CBWR"] = "COMPATIBLE"
    os.environ["MVP_EDGE_HOME"] = str(directory / "home")
    os.environ["MVP_EDGE_CACHE"] = str(directory / "cache")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.cpu.get_capabilities = dict  # names no instructions, so that bfloat16 is never tried


def prepare(directory: Path, cifar100: Path, *, former: bool) -> Scratch:
    """Write class lists, and link pictures: the first ones of each class by file name."""
    places = {"base": directory / "base.safetensors", "zoo": directory / "zoo"}
    for word, name in (("resnet", "cifar100-resnet18"), ("vit", "cifar100-vit")):
        places[word] = Path(name) if former else ZOOS / name  # they were bundled
    for name, classes in LISTS.items():
        places[name] = directory / f"{name}.txt"
        places[name].write_text("".join(f"{c}\n" for c in classes.split()), encoding="utf-8")
    everything = sorted({c for classes in LISTS.values() for c in classes.split()})
    first = next(iter(LISTS.values())).split()
    digest = hashlib.sha256()
    for folder, classes, counts in (("few", everything, FEW), ("many", first, MANY)):
        places[folder] = directory / folder
        for split, count in counts.items():
            for name in classes:
                target = places[folder] / split / name
                target.mkdir(parents=True)
                source = cifar100 / split / STANDS_FOR.get(name, name)
                for picture in sorted(source.iterdir())[:count]:
                    (target / picture.name).symlink_to(picture.resolve())
                    digest.update(picture.read_bytes())
    return Scratch(directory, places, digest.hexdigest(), former)


def read_record(scratch: Scratch) -> dict[str, Any]:
    """Return what was recorded.

    Raises:
        IncomparableError: it was recorded from other pictures, or on another kind of processor.
    """
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    if recorded["environment"]["machine"] != platform.machine():
        raise IncomparableError(f"recorded on {recorded['environment']['machine']}; this is {platform.machine()}")
    if recorded["pictures_sha256"] != scratch.sha256:
        raise IncomparableError("this copy of CIFAR-100 has other files or names than the one that was recorded from")
    return recorded


def record(scratch: Scratch, names: Sequence[str]) -> dict[str, Any]:
    """Execute some of the runs and return what they deliver, ready for JSON."""
    import mvp_edge_cli  # pyright: ignore[reportMissingImports]  # installed under this name from cli/

    import mvp_edge

    say(f"mvp_edge is {origin(mvp_edge)}, mvp_edge_cli is {origin(mvp_edge_cli)}")
    zoo, runs = [], {}
    if "own zoo" in names:
        seconds = sum(type_in(f"{command} {COMMON}", scratch) for command in ZOO)
        zoo = members(scratch.places["zoo"])
        say(f"{seconds:6.1f} s  base and zoo")
    for number, name in enumerate(names):
        out = scratch.directory / f"out-{number}"
        seconds = type_in(f"prune {RUNS[name]} {COMMON}", scratch, "--out", str(out))
        runs[name] = delivered(out)
        say(f"{seconds:6.1f} s  {name}: keeps {sum(map(len, runs[name]['kept'].values()))} units, "
            f"top-1 {runs[name]['top1']} % of {runs[name]['n']}")  # fmt: skip
    environment = {name: version(name) for name in ("torch", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy")}
    environment |= {"python": platform.python_version(), "machine": platform.machine()}
    return {
        "commit": commit(origin(mvp_edge)),
        "environment": environment,
        "pictures_sha256": scratch.sha256,
        "runs": runs,
        "zoo": zoo,
    }


def commit(directory: Path) -> str:
    """Return the commit of the checkout that a directory lies in, with `-dirty` after it if files were changed."""
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or code that was installed by copying
        return "unknown"


def origin(module: Any) -> Path:
    """Return the directory that a package lies in, links resolved."""
    return Path(module.__file__).resolve().parent


def type_in(command: str, scratch: Scratch, *more: str) -> float:
    """Execute `mvp-edge COMMAND` in this process; return the processor seconds it took.

    Raises:
        RuntimeError: it fails.
    """
    words = command.split()
    if scratch.former:
        taught = words[0] == "prune" and "--data" in words
        words = [FORMER.get(word, word) for word in words] + (FORMER_MORE.split() if taught else [])
    words = [word.format_map(scratch.places) for word in words]
    arguments, start, status, output = sys.argv, time.process_time(), None, io.StringIO()
    sys.argv = ["mvp-edge", *words, *more]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            runpy.run_module("mvp_edge_cli", run_name="__main__")
    except SystemExit as e:
        status = e.code
    finally:
        sys.argv = arguments
    if status not in (None, 0):
        raise RuntimeError(f"mvp-edge {command} ends with status {status}: {output.getvalue()}")
    return time.process_time() - start


def delivered(out: Path) -> dict[str, Any]:
    """Return what a result directory holds, ready for JSON.

    Raises:
        RuntimeError: the run used bfloat16, or does not say that it did not.
    """
    from safetensors.numpy import load_file

    report = read_json(out / "report.json")
    if values_of("bf16", report) != [False]:
        raise RuntimeError("the run used bfloat16, which is not reproducible, or its report does not mention it")
    weights = load_file(out / "weights.safetensors")
    return {
        "labels": (out / "labels.txt").read_text(encoding="utf-8").split(),
        "kept": kept_units(read_json(out / "plan.json")),
        "weights": {
            "tensors": len(weights),
            "values": sum(w.size for w in weights.values()),
            "norm": float(sum((w.astype("float64") ** 2).sum() for w in weights.values()) ** 0.5),
        },
        "logits": {file.name: logits(file) for file in sorted(out.glob("*.onnx"))},
        "top1": report["accuracy"]["top1"],
        "n": report["accuracy"]["n"],
    }


def members(zoo: Path) -> list[dict[str, list[int]]]:
    """Return the kept units of all members of a zoo, in an order that does not depend on their names."""
    plans = [kept_units(read_json(file)) for file in zoo.glob("members/*/*.json")]
    return sorted(plans, key=lambda plan: json.dumps(plan, sort_keys=True))


def read_json(file: Path) -> Any:
    """Return the value in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def logits(file: Path) -> list[list[float]]:
    """Return the logits `(PICTURES, classes)` of an ONNX file for the fixed pictures, to the last digit of float32."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    images = pictures(taken.shape[2] if taken.shape[1] == 3 else taken.shape[1])
    if taken.shape[1] == 3:
        images = images.transpose(0, 3, 1, 2)
    if taken.type == "tensor(float)":
        images = images.astype(np.float32) / np.float32(255)
    output = session.run([session.get_outputs()[0].name], {taken.name: np.ascontiguousarray(images)})[0]
    return [[float(str(v)) for v in row] for row in np.asarray(output, np.float32)]


def pictures(side: int) -> Any:
    """Return the fixed pictures, uint8 `(PICTURES, side, side, 3)`: coarse patches of colour with noise on them."""
    import numpy as np

    draw = np.random.default_rng(0)
    patches = draw.integers(0, 216, (PICTURES, 4, 4, 3))
    position = np.arange(side) * 4 // side
    noise = draw.integers(0, 40, (PICTURES, side, side, 3))
    return (patches[:, position][:, :, position] + noise).astype(np.uint8)


def kept_units(value: Any) -> dict[str, list[int]]:
    """Return kept units by group name from a plan's JSON, whatever its keys are called.

    Raises:
        ValueError: there is not exactly one place that looks like it.
    """
    found = list(_plans(value))
    if len(found) != 1:
        raise ValueError(f"{len(found)} places look like the kept units of a plan; exactly 1 is required")
    return {name: sorted(units) for name, units in sorted(found[0].items())}


def _plans(value: Any) -> Iterator[dict[str, list[int]]]:
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        names = [[x for x in v.values() if isinstance(x, str)] for v in value]
        units = [[x for x in v.values() if _are_units(x)] for v in value]
        if all(len(n) == len(u) == 1 for n, u in zip(names, units, strict=True)):
            yield {n[0]: u[0] for n, u in zip(names, units, strict=True)}
    if isinstance(value, dict):
        if value and all(_are_units(v) for v in value.values()):
            yield value
            return
        for inner in value.values():
            yield from _plans(inner)


def _are_units(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) is int for v in value)


def values_of(key: str, value: Any) -> list[Any]:
    """Return all values of a key, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    here = [value[key]] if isinstance(value, dict) and key in value else []
    return [*here, *(found for each in inner for found in values_of(key, each))]


def differences(before: Mapping[str, Any], after: Mapping[str, Any], where: str, *, trained: bool) -> list[str]:
    """Return where what a run delivered differs from what was recorded; one sentence for each difference."""
    problems = [
        f"{where}: {part} {before[part]} was recorded, and is {after[part]}"
        for part in ("labels", "n")
        if before[part] != after[part]
    ]
    if abs(before["top1"] - after["top1"]) > 100 / before["n"] + 0.01:  # percentages are rounded to two decimals
        problems.append(f"{where}: top-1 {before['top1']} was recorded, and is {after['top1']}")
    groups = sorted(before["kept"].keys() | after["kept"].keys())
    if others := [g for g in groups if before["kept"].get(g) != after["kept"].get(g)]:
        problems.append(f"{where}: {len(others)} of {len(groups)} groups keep other units: {', '.join(others)}")
    old, new = before["weights"], after["weights"]
    same_size = all(old[k] == new[k] for k in ("tensors", "values"))
    if not same_size or abs(old["norm"] - new["norm"]) > WEIGHT_TOLERANCE * old["norm"]:
        problems.append(f"{where}: weights {old} were recorded, and are {new}")
    if before["logits"].keys() != after["logits"].keys():
        return [*problems, f"{where}: files {[*before['logits']]} were recorded, and are {[*after['logits']]}"]
    allowed = TRAINED_TOLERANCE if trained else TOLERANCE
    largest = farthest(before["logits"][FLOAT], after["logits"][FLOAT])
    say(f"          {where}: {FLOAT} logits differ by at most {largest:.1e}")
    if not largest <= allowed:
        problems.append(f"{where}: {FLOAT} logits differ by {largest:.1e}, more than {allowed:.0e}")
    for file in before["logits"].keys() - {FLOAT}:
        was, now = (rms(run["logits"][FLOAT], run["logits"][file]) for run in (before, after))
        say(f"          {where}: {file} logits are {now:.1e} from those of {FLOAT}; {was:.1e} was recorded")
        if not now <= INT8_ERROR * was:
            problems.append(f"{where}: {file} is {now:.1e} from {FLOAT}, more than {INT8_ERROR:g} times {was:.1e}")
    return problems


def farthest(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """Return the largest absolute difference of two tables; infinity where their shapes differ."""
    if [len(row) for row in before] != [len(row) for row in after]:
        return float("inf")
    return max(abs(a - b) for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True))


def rms(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return the root mean square difference of two tables of the same shape."""
    squares = [(a - b) ** 2 for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return (sum(squares) / len(squares)) ** 0.5


if __name__ == "__main__":
    sys.exit(main())
