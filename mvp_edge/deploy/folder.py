"""The deploy folder: models in ONNX Runtime's format, their preprocessing, and the code lines that run them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ExportError
from mvp_edge.core.output import SAMPLE, check_output, result_directory
from mvp_edge.core.progress import Progress
from mvp_edge.core.templates import load_template
from mvp_edge.deploy import coreml, litert, ncnn
from mvp_edge.deploy.ort_format import REPLAY, agreement, convert, fixed_batch, random_images, verify
from mvp_edge.deploy.ort_web import VERSION, OrtWeb, find_ort_web
from mvp_edge.deploy.result import Result, read_result, write_dense
from mvp_edge.deploy.sample import write_sample
from mvp_edge.deploy.targets import NEEDS, Eligibility, Needs, Target, eligibility
from mvp_edge.deploy.web import (
    DENSE_FILE,
    ICON,
    MANIFEST,
    WORKER,
    Dense,
    Embedded,
    app_files,
    dense_script,
    render_page,
)
from mvp_edge.export.classifier import Interface
from mvp_edge.report.figures import quantity, storage

MARKER = "preprocessing.json"
TITLES = {"fp32": "Pruned", "fp16": "Pruned, fp16", "int8": "Pruned, INT8"}
WHAT = {
    ".with_runtime_opt.config": "operators of the `.with_runtime_opt.ort` files, for a reduced build that loads those",
    ".config": "operators of the CPU's `.ort` files, for a reduced build of ONNX Runtime",
    ".with_runtime_opt.ort": "the same with plain operators, for other execution providers",
    ".onnx": "the model in plain ONNX, for the usual (full) build of ONNX Runtime",
    ".ort": "the model in ONNX Runtime's format, optimised for the CPU",
    "labels.txt": "class names in the order of the logits",
    MARKER: "how an image becomes the model's input, in machine-readable form",
    "index.html": "the page: open it",
    SAMPLE: "an app to build: it shows what the camera sees, and checks itself at the start",
    MANIFEST: "with the next two, installs the page as an app that works offline, where it is served on https",
    WORKER: "keeps the page in the browser",
    ICON: "its icon",
    DENSE_FILE: "the dense model, for the page's comparison",
    ".tflite": "the model for LiteRT, its preprocessing in the metadata",
    ".mlpackage": "the model for Core ML: an image in, a label with probabilities out",
    ".param": "the model for ncnn",
    ".bin": "its weights, in half precision",
}
# Ends of files, and the precisions that are converted. ncnn and Core ML compute INT8 in forms of their own.
FOREIGN = {"litert": (".tflite", ("fp32", "int8")), "coreml": (".mlpackage", ("fp32",)), "ncnn": (".param", ("fp32",))}
PIPS = {"litert": "ai-edge-litert", "ncnn": "ncnn"}  # what loads the files again
PACKED = 2 / 3  # of the bytes: weights lie in few bytes
HALF = 0.05  # of the largest logit: weights in half precision, and runtimes that add up in it


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `export`.

    Attributes:
        result: A result directory of `prune`.
        out: The folder to write; None is a folder inside `result`, named like the target.
        force: Replace an existing folder.
        ort_web: Directory with onnxruntime-web; None takes it from the cache or npm. For the web only.
        with_dense: Add the dense model for comparison. For the web only.
        zoo: Zoo with the dense model; None takes the zoo in the report.
    """

    result: Path
    target: Target
    out: Path | None = None
    force: bool = False
    ort_web: Path | None = None
    with_dense: bool = False
    zoo: str | None = None


@dataclass(frozen=True)
class _Made:
    """Models for one target in a scratch directory: converted, and in ONNX with the target's batch.

    Attributes:
        parity: Largest difference from the result's ONNX file, by file name.
        providers: Eligibility by precision; empty for a target that has only the CPU.
    """

    folder: Path
    interface: Interface
    parity: dict[str, float]
    providers: dict[str, list[Eligibility]]


def export_result(config: ExportConfig, progress: Progress) -> dict[str, Any]:
    """Write a deploy folder, all or nothing.

    Returns:
        `out`, `target`, `files` with their sizes, `max_abs_diff` by model and `providers` by precision.

    Raises:
        ExportError: the result is damaged, a model cannot be converted or differs, or onnxruntime-web is not available.
        ConfigError: the folder exists, or cannot be written.
    """
    needs = NEEDS[config.target]
    result = read_result(config.result)
    out = config.out or config.result / config.target
    kept = (config.result, config.ort_web, config.zoo)

    def check() -> None:
        check_output(out, force=config.force, kinds=["export"], inputs=kept)

    check()
    ort_web = None
    if config.target == "web":
        with progress.stage("Fetching onnxruntime-web"):
            ort_web = find_ort_web(config.ort_web)
    with result_directory(out, check) as directory, TemporaryDirectory() as scratch:
        with progress.stage("Converting"):
            convert_all = _convert_foreign if config.target in FOREIGN else _convert
            made = convert_all(result, config.target, Path(scratch) / "models")
        dense = None
        if config.with_dense:
            with progress.stage("Converting the dense model"):
                dense = _dense(result, needs, config.zoo, Path(scratch) / "dense")
        with progress.stage("Writing"):
            for file in sorted(made.folder.iterdir()):
                if file.is_dir():
                    copytree(file, directory / file.name)
                else:
                    (directory / file.name).write_bytes(file.read_bytes())
            (directory / "labels.txt").write_text("".join(f"{name}\n" for name in result.labels), encoding="utf-8")
            preprocessing = json.dumps({"format": 1, **made.interface.to_json()}, indent=2, ensure_ascii=False)
            (directory / MARKER).write_text(preprocessing + "\n", encoding="utf-8")
            if ort_web is not None:
                page = _page(result, made, dense, ort_web)
                for name, text in {"index.html": page, **app_files(page, made.interface, dense)}.items():
                    (directory / name).write_text(text, encoding="utf-8")
            if config.target in ("android", "ios"):
                write_sample(config.target, made.folder / "model.onnx", made.interface, directory / SAMPLE)
            if dense is not None:
                (directory / DENSE_FILE).write_text(dense_script(dense), encoding="ascii")
            readme = _readme(result, made, config.target, directory, ort_web)
            (directory / "README.md").write_text(readme, encoding="utf-8")
        sizes = {file.name: _size(file) for file in sorted(directory.iterdir())}
    return {
        "out": str(out),
        "target": config.target,
        "files": [{"name": name, "bytes": size} for name, size in sizes.items()],
        "max_abs_diff": made.parity,
        "providers": {k: [row.to_json() for row in rows] for k, rows in made.providers.items()},
    }


def _size(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size


def _convert_foreign(result: Result, target: Target, folder: Path) -> _Made:
    """Convert for another runtime than ONNX Runtime, which compares the results where it runs here."""
    (end, precisions), parity = FOREIGN[target], {}
    folder.mkdir()
    with TemporaryDirectory() as scratch:
        chosen = {p: source for p, source in result.models.items() if p in precisions}
        interface = _same_interface(result, chosen, NEEDS[target], Path(scratch))
        for source in chosen.values():
            file, single = folder / f"{source.stem}{end}", Path(scratch) / source.name
            if target == "coreml":
                coreml.convert(single, file, interface)
                continue
            runtime = litert if target == "litert" else ncnn
            runtime.convert(single, file, interface)
            pixels = random_images(source)
            logits = runtime.outputs(file, pixels, interface)[0]
            slack = {"relative": HALF} if target == "ncnn" else {}
            parity[file.name] = agreement(file, logits, pixels, source, result.models["fp32"], **slack)
    return _Made(folder, interface, parity, {})


def _convert(result: Result, target: Target, folder: Path) -> _Made:
    needs = NEEDS[target]
    folder.mkdir()
    interface = _same_interface(result, result.models, needs, folder)
    convert(folder, needs)
    parity: dict[str, float] = {}
    for source in result.models.values():
        for file in sorted(folder.glob(f"{source.stem}.*")):
            parity[file.name] = verify(file, source, result.models["fp32"])
    providers = {p: _eligibility(source, needs) for p, source in result.models.items() if needs.providers}
    return _Made(folder, interface, parity, providers)


def _same_interface(result: Result, models: dict[str, Path], needs: Needs, folder: Path) -> Interface:
    """Write models with the target's batch into a folder, and return what all of them take and give.

    Raises:
        ExportError: they differ, or the labels are not the result's.
    """
    found = {p: fixed_batch(source, folder / source.name, needs.batch) for p, source in models.items()}
    interface = found["fp32"]
    for precision, other in found.items():
        if other != interface:
            raise ExportError(
                f"model.onnx and the {precision} model have different inputs or outputs; make the result again with: "
                "mvp-edge prune --force"
            )
    if interface.labels != result.labels:
        raise ExportError(
            f"labels.txt has {', '.join(result.labels[:5])} but model.onnx has {', '.join(interface.labels[:5])}; "
            "make the result again with: mvp-edge prune --force"
        )
    return interface


def _eligibility(source: Path, needs: Needs) -> list[Eligibility]:
    with TemporaryDirectory() as scratch:
        single = Path(scratch) / source.name
        fixed_batch(source, single, 1)  # accelerators accept no free batch
        return eligibility(single, needs.providers)


def _dense(result: Result, needs: Needs, zoo: str | None, folder: Path) -> Dense:
    folder.mkdir()
    whole = folder / "whole.onnx"
    write_dense(result, zoo, whole)
    target = folder / "fixed" / "dense.onnx"
    target.parent.mkdir()
    interface = fixed_batch(whole, target, needs.batch)
    convert(target.parent, needs)
    verify(target.with_suffix(".ort"), whole, whole)
    return Dense(target.with_suffix(".ort").read_bytes(), interface)


def _page(result: Result, made: _Made, dense: Dense | None, ort_web: OrtWeb) -> str:
    models = [
        Embedded(TITLES[precision], _smaller(made.folder / source.name).read_bytes())
        for precision, source in result.models.items()
    ]
    return render_page(made.interface, models, dense, ort_web, _facts(result, made))


def _smaller(file: Path) -> Path:
    """Return the ONNX file where weights lie in few bytes, which the `.ort` file has unpacked; else the `.ort` file."""
    converted = file.with_suffix(".ort")
    return file if file.stat().st_size < PACKED * converted.stat().st_size else converted


def _packed(made: _Made) -> tuple[str, str] | None:
    """Return the bytes of the ONNX file and of the `.ort` file, in words, if the latter has unpacked the weights."""
    file = made.folder / "model.onnx"
    if _smaller(file) != file:
        return None
    return storage(file.stat().st_size), storage(file.with_suffix(".ort").stat().st_size)


def _facts(result: Result, made: _Made) -> list[tuple[str, str]]:
    """Return names and values of the page's facts."""
    report, score = result.report, result.report.accuracy
    facts = [("Cut from", result.base.name)]
    if score.top1 is not None:
        facts.append(("Top-1 accuracy", f"{score.top1} % ({score.source})"))
    facts += [
        ("Multiply-adds", f"{quantity(report.macs)} of {quantity(report.base_macs)}"),
        ("Parameters", quantity(report.params)),
    ]
    sizes = [f"{f.name} {storage(f.stat().st_size)}" for f in sorted(made.folder.glob("*.ort"))]
    return [*facts, ("Files", ", ".join(sizes)), ("Made by", f"mvp-edge {own_version()}")]


def _readme(result: Result, made: _Made, target: Target, directory: Path, ort_web: OrtWeb | None) -> str:
    import onnxruntime

    height, width = made.interface.size
    text = load_template("deploy/readme", "README.md.j2").render(
        crop="the largest centred " + ("square" if width == height else f"rectangle of {width}:{height}"),
        dense=(directory / DENSE_FILE).exists(),
        files=[(file.name, _what(file.name)) for file in sorted(directory.iterdir())],
        height=height,
        interface=made.interface,
        labels=result.labels,
        ort_version=onnxruntime.__version__,
        ort_web=ort_web.version if ort_web else "",
        needs=NEEDS[target],
        packed=_packed(made) if NEEDS[target].styles else None,
        pips=PIPS.get(target, ""),
        parity=list(made.parity.items()),
        precisions=list(result.models),
        providers=list(made.providers.items()),
        replay=REPLAY,
        shape=", ".join(str(d or 1) for d in made.interface.shape),
        source=result.path.name,
        target=target,
        tested_ort_web=VERSION,
        version=own_version(),
        width=width,
    )
    return text + "\n"


def _what(name: str) -> str:
    return next((what for end, what in WHAT.items() if name.endswith(end)), "")
