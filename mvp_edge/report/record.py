"""The report of a run as types: built once, written as `report.json` (or `index.json`), and read by everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from mvp_edge.config import FitConfig, InputFormat, Precision, VoteConfig
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ExportError

Origin = Literal["vote", "member", "ready-made", "base", "photographs"]
SCHEMA = Path(__file__).with_name("schema.json")
R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a report."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        return msgspec.to_builtins(self)

    @classmethod
    def from_json(cls: type[R], value: Any) -> R:
        """Return the record that a JSON value describes.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as e:
            raise ValueError(str(e)) from e


class TaskRecord(Record, frozen=True):
    """The classes in the order of the logits, the WordNet synset of each (null if it has none), and the task's id."""

    classes: tuple[str, ...]
    synsets: tuple[str | None, ...]
    id: str


class VoterRecord(Record, frozen=True):
    """A member that voted, or that is delivered.

    `similarity` to the task is LEEP (at most 0) or WordNet's (0 to 1); `keep` is the ratio that selects a generalist.
    """

    id: str
    classes: tuple[str, ...]
    kind: Literal["specialist", "generalist"]
    similarity: float
    keep: float


class KeepRecord(Record, frozen=True):
    """The fraction of units requested (null under a budget) and achieved, in (0, 1]."""

    requested: float | None
    achieved: float


class GroupRecord(Record, frozen=True):
    """Units of one coupled group: of the base, kept, and requested before free channels were filled."""

    name: str
    width: int
    kept: int
    requested: int


class SizeRecord(Record, frozen=True):
    """A ready-made model of another size: member, the option that selects it, fraction of units, top-1 in percent."""

    member: str
    flag: str
    keep: float
    achieved: float
    top1: float


class NameRecord(Record, frozen=True):
    """What stands for a name: a WordNet noun, and the classes of the base at or below it.

    `taken`: classes that belong to a more specific name of the list, by that name. `coverage`: share of the noun's
    kinds in WordNet that the base knows, in [0, 1]. `note`: why this meaning was taken. `near`: known names, for an
    unknown one.
    """

    name: str
    synset: str | None
    meaning: str
    classes: tuple[str, ...]
    taken: dict[str, tuple[str, ...]]
    coverage: float | None
    note: str
    near: tuple[str, ...]


class EstimateRecord(Record, frozen=True):
    """Top-1 in percent that is expected, not measured; of the base at its own pixels; pictures that it rests on."""

    top1: float
    base_top1: float
    n: int
    source: str


class KnownRecord(Record, frozen=True):
    """The second output of the file: whether a picture shows any listed class.

    A picture with a score below `threshold` shows none; the share `kept` of pictures of listed classes reaches it.
    Logits divided by `temperature` give calibrated probabilities. With images the score is the cosine with the nearest
    class mean, and so many of them (`photographs`) were left out to find the threshold. Without images it compares
    classes of the base: `listed` ones with `unlisted` ones; `neutral` ones count neither way. With `none` pictures of
    none of the classes these and the images set the threshold, and the share `refused` of them is below it.
    """

    output: str
    threshold: float
    temperature: float
    kept: float
    listed: int
    neutral: int
    unlisted: int
    photographs: int = 0
    none: int = 0
    refused: float = 0.0


class BodyRecord(Record, frozen=True):
    """The ready-made network that a model is: its pixels, the base's, and the crops of pictures it was trained on."""

    id: str
    pixels: int
    base_pixels: int
    pictures: int


class CurveRecord(Record, frozen=True):
    """Top-1 in percent on held-out images of a head fitted to so many images."""

    images: int
    top1: float


class PhotographsRecord(Record, frozen=True):
    """What a ready-made network learned from images, judged on training images that were left out.

    `names_top1` is that of names alone (null if a name is unknown), `head_top1` that of the fitted head on the frozen
    network, on `held_out` images. `head`: what it rests on; `decay`: its regularisation. `trained`: whether training
    of the network's later half was kept, which `steps_held_out` images decided. `teacher`: the network that taught it
    (null if none did), and `teacher_top1` that of its head. `curve`: the head on a quarter, half and all of the images,
    and `advice`: whether more would help.
    """

    train: int
    held_out: int
    names_top1: float | None
    head_top1: float | None
    head: Literal["names", "names and photographs", "photographs"]
    decay: float | None
    trained: bool
    steps_held_out: int
    teacher: str | None
    teacher_top1: float | None
    curve: tuple[CurveRecord, ...]
    advice: str


class HeldOutRecord(Record, frozen=True):
    """Balanced accuracy in percent (`top1`) and mean cross-entropy on held-out images at one interpolation weight."""

    weight: float
    top1: float
    loss: float


class InterpolationRecord(Record, frozen=True):
    """The interpolation weight between the network before fine-tuning (0) and after it (1).

    For a member, cross-validation chooses it. For a ready-made network it is 0.5, 0.25 with fewer than ten images a
    class, 0.75 if it was taught, and 0 if training did harm on held-out images.
    """

    weight: float
    images: int
    folds: int
    held_out: tuple[HeldOutRecord, ...]


class AccuracyRecord(Record, frozen=True):
    """Accuracy of the delivered file on `n` test images, in percent.

    `top1` is null where it is unknown. `interval` is its 95 % Wilson interval. `top1_before` is that of the network
    before fine-tuning. Rows of `confusion` are true classes, columns predicted ones. `source` names the images.
    `balanced` is the mean of `per_class` (recall), null where that is unknown.
    """

    top1: float | None
    n: int
    interval: tuple[float, float] | None
    per_class: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    top1_before: float | None
    source: str
    balanced: float | None = None


class PicturesRecord(Record, frozen=True):
    """Files of `--data`: `given` is the sum of `used`, by split, and `aside`, by reason.

    `copies` is the number of images that are copies or near copies of an earlier one, in any split. `copied` are test
    images that were left out, each with the training or validation image that it is a copy of, the first five.
    `two_classes` are copies with different classes, the first twenty. `summary` has the counts in one line. `leaks` are
    classes that have a size, format, camera or mark of their own. `coarse` is the balanced accuracy in percent of a
    linear classifier on thumbnails of 8 x 8 pixels, on the test images; null without these.
    """

    given: int
    used: dict[str, int]
    aside: dict[str, int]
    copies: int
    copied: tuple[tuple[str, str], ...]
    two_classes: tuple[tuple[str, str], ...]
    summary: str
    leaks: tuple[str, ...] = ()
    coarse: float | None = None


class BaseAccuracyRecord(Record, frozen=True):
    """Top-1 of the base, restricted to the task's classes, and of the delivered file, on the same `n` test images."""

    top1: float
    n: int
    model_top1: float


class BytesRecord(Record, frozen=True):
    """Bytes of `model.onnx`, of the parameters in it, and of the whole base as an ONNX file."""

    onnx: int
    parameters: int
    dense_onnx: int


class LatencyRecord(Record, frozen=True):
    """Median, interquartile range and 95th percentile of the time of one image, in milliseconds."""

    median: float
    iqr: float
    p95: float


class LatenciesRecord(Record, frozen=True):
    """Latency of the whole base (`dense`) and of `model.onnx` (`pruned`), measured in turns."""

    dense: LatencyRecord
    pruned: LatencyRecord
    threads: int
    runs: int
    clock: Literal["processor", "wall"]


class LimitRecord(Record, frozen=True):
    """A limit of the budget and what the delivered file has."""

    limit: float
    achieved: float


class PrecisionRecord(Record, frozen=True):
    """One precision that was tried: figures of its file, and whether and why it is delivered.

    `passed`: it passes the accuracy and size gate. `kept`: it is delivered, as it passed or was requested by name.
    `time_ratio` is its time divided by that of float32, paired. Figures are null where no file was made or measured.
    """

    precision: Literal["fp32", "int8", "fp16"]
    file: str
    kept: bool
    passed: bool
    reasons: tuple[str, ...] = ()
    top1: float | None = None
    bytes: int | None = None
    latency_ms: LatencyRecord | None = None
    time_ratio: float | None = None


class PrecisionsRecord(Record, frozen=True):
    """The precision requested, and one entry for each that was tried, float32 first."""

    requested: Precision
    files: tuple[PrecisionRecord, ...]


class ImageRecord(Record, frozen=True):
    """The image input of `model.onnx`; null in `shape` is a free batch size."""

    name: str
    dtype: str
    layout: Literal["NCHW", "NHWC"]
    shape: tuple[int | None, ...]
    height: int
    width: int
    channels: str
    range: tuple[float, float]


class OutputRecord(Record, frozen=True):
    """The logits of `model.onnx`; divided by `temperature` they give calibrated probabilities."""

    name: str
    shape: tuple[int | None, ...]
    meaning: str
    temperature: float


class KnownOutputRecord(Record, frozen=True):
    """The score that a picture shows any of the classes: below `threshold` it shows none."""

    name: str
    shape: tuple[int | None, ...]
    threshold: float
    meaning: str


class InterfaceRecord(Record, frozen=True):
    """Input and output of `model.onnx`, and how images are prepared for it."""

    input: ImageRecord
    normalisation: dict[str, bool | str]
    resize: dict[str, str | tuple[str, ...]]
    output: OutputRecord
    known: KnownOutputRecord | None


class SettingsRecord(Record, frozen=True):
    """Settings of the vote and of fine-tuning, as they were used."""

    vote: VoteConfig
    fit: FitConfig


class Report(Record, frozen=True):
    """What one run of `mvp-edge prune` made, measured and used.

    Figures with `base_` or `dense` are those of the whole base model. `unprunable_macs` is what no choice of units can
    remove. `data_held_out` training images were not trained on. `parity_max_abs_diff` is the largest difference between
    logits of file and network, `sliced_vs_masked_max_abs_diff` that between the sliced and the masked network.
    `largest_rank` is the largest number of dimensions of any tensor in the file. `seconds` are wall-clock seconds by
    stage.
    """

    task: TaskRecord
    base: str
    method: str
    origin: Origin
    voters: tuple[VoterRecord, ...]
    keep: KeepRecord
    accuracy: AccuracyRecord
    base_accuracy: BaseAccuracyRecord | None
    names: tuple[NameRecord, ...]
    estimate: EstimateRecord | None
    known: KnownRecord | None
    body: BodyRecord | None
    photographs: PhotographsRecord | None
    params: int
    base_params: int
    macs: int
    base_macs: int
    unprunable_macs: int
    bytes: BytesRecord
    latency_ms: LatenciesRecord
    budget: dict[str, LimitRecord] | None
    precisions: PrecisionsRecord
    sizes: tuple[SizeRecord, ...]
    interpolation: InterpolationRecord | None
    nominal_training_tflops: float
    groups: tuple[GroupRecord, ...]
    operators: dict[str, int]
    largest_rank: int
    parity_max_abs_diff: float
    sliced_vs_masked_max_abs_diff: float
    out: str
    files: tuple[str, ...]
    zoo: str
    added_member: str | None
    input: InputFormat
    interface: InterfaceRecord
    data: str | None
    data_sha256: str | None
    data_held_out: int
    seed: int
    settings: SettingsRecord
    environment: dict[str, Any]
    seconds: dict[str, float]
    warnings: tuple[str, ...]
    pictures: PicturesRecord | None = None


class FamilyModel(Record, frozen=True):
    """One model of a family; `front` names the costs in which no other model of at least its accuracy is cheaper.

    Its top-1 was measured on `n` test images, or is an estimate with a `source`.
    """

    directory: str
    budget: dict[str, LimitRecord]
    top1: float | None
    n: int
    latency_ms: float
    size_kib: float
    macs: int
    params: int
    keep: float
    warnings: tuple[str, ...]
    source: str | None = None
    front: tuple[Literal["latency_ms", "size_kib"], ...] = ()


class FamilyReport(Record, frozen=True):
    """What one run of `mvp-edge prune --budgets` made."""

    task: TaskRecord
    base: str
    models: tuple[FamilyModel, ...]
    out: str
    files: tuple[str, ...]
    seed: int
    seconds: dict[str, float]
    environment: dict[str, Any]
    warnings: tuple[str, ...]


def write_json(record: Record, path: Path) -> None:
    """Write a record to `path`, complete or not at all.

    Raises:
        ExportError: the file cannot be written.
        ValueError: a number is not finite; what could not be measured is null, with a warning that says why.
    """
    text = json.dumps(record.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of the result, complete or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    try:
        # A file name need not be Unicode: what is not is written as \\udcff, which JSON reads back.
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as e:
        raise ExportError(f"{path} cannot be written ({e.strerror or e}); make room, or choose another place") from e


def json_schema() -> str:
    """Return the JSON Schema of `report.json` and `index.json`, as `schema.json` holds it."""
    either, parts = msgspec.json.schema_components([Report, FamilyReport], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"] = " ".join(part["description"].partition("Attributes:")[0].split())
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "report.json and index.json of mvp-edge",
        "anyOf": list(either),
        "$defs": parts,
    }
    return json.dumps(schema, indent=1) + "\n"
