"""A body's weights in codebooks: a byte stands for two or three weights, unpacked when a runtime loads the file.

    python -m benchmarks codebook ZOO BODY --calibrate DIR [--calibrate DIR] --train DIR [--train DIR] --out FILE

Layer by layer, with columns that are coded later making up for the error of earlier ones (GPTVQ: van Baalen et al.,
2024), then codebooks, scales and biases are trained together to give the logits of the body itself, on pictures without
labels. `python -m benchmarks forms ZOO --small ID=FILE` adds the result to the zoo.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.command import Script, log
from benchmarks.lite0 import lite0
from benchmarks.measurements.forms import calibration_files, images, opened, outputs, results, training_files
from mvp_edge.core.packed import BOOK, SCALE
from mvp_edge.core.streams import rng
from mvp_edge.models.norms import fold
from mvp_edge.models.tensors import load_weights
from mvp_edge.training.quick_layers import quick_layers

WORDS = 256
FINE = 12_000  # weights: a smaller layer has a code for two weights, a larger one for three
SAMPLES = 20_000  # of positions, for a layer's second moments
DAMPING = 0.01
TEMPERATURE = 2.0


@dataclass(frozen=True, eq=False)
class Coded:
    """A matrix `(out, in)` as codes `(out, G)`, codebook `(WORDS, D)` and scales `(out,)`."""

    codes: Tensor
    book: Tensor
    scale: Tensor
    shape: tuple[int, ...]

    def values(self, book: Tensor, scale: Tensor) -> Tensor:
        """Return the weight for other vectors and scales."""
        rows = book[self.codes.long()].flatten(1)[:, : int(np.prod(self.shape[1:]))]
        return (rows * scale[:, None]).view(self.shape)


def k_means(vectors: Tensor, weights: Tensor, steps: int = 25) -> Tensor:
    """Return a codebook of vectors `(N, D)`, whose elements count by weights `(N, D)`."""
    draw = torch.Generator().manual_seed(0)
    some = torch.randperm(len(vectors), generator=draw)[:40_000]
    vectors, weights = vectors[some], weights[some]
    book = vectors[torch.randint(len(vectors), (WORDS,), generator=draw)].clone()
    for _ in range(steps):
        nearest = (weights @ (book * book).T - 2 * (weights * vectors) @ book.T).argmin(1)
        top = torch.zeros_like(book).index_add_(0, nearest, weights * vectors)
        below = torch.zeros_like(book).index_add_(0, nearest, weights)
        book = torch.where(below > 0, top / below.clamp(min=1e-12), book)
    return book.half().float()


def coded(weight: Tensor, seen: Tensor | None, size: int) -> Coded:
    """Return a weight `(out, in, H, W)` in codes of `size` weights.

    `seen` `(in, N)` is what the layer reads; without it each vector is coded alone.
    """
    matrix = weight.flatten(1)
    columns = matrix.shape[1]
    spare = -columns % size
    matrix = F.pad(matrix, (0, spare))
    scale = (matrix.square().mean(1).sqrt().clamp(min=1e-6)).half().float()
    upper = torch.eye(columns + spare)
    if seen is not None:
        moments = seen @ seen.T / seen.shape[1]
        moments += DAMPING * moments.diagonal().mean() * torch.eye(columns)
        moments = torch.block_diag(moments, 1e-3 * moments.diagonal().mean() * torch.eye(spare))
        upper = torch.linalg.cholesky(torch.linalg.inv(moments.double()), upper=True).float()
    counts = upper.diagonal().square().reciprocal()
    vectors = (matrix / scale[:, None]).reshape(len(matrix), -1, size)
    weights = (counts.view(1, -1, size) * scale.square()[:, None, None]).expand_as(vectors)
    book = k_means(vectors.reshape(-1, size), weights.reshape(-1, size))
    left, codes = matrix.clone(), torch.zeros(vectors.shape[:2], dtype=torch.uint8)
    for start in range(0, columns + spare, size):
        count = counts[start : start + size]
        block = left[:, start : start + size] / scale[:, None]
        chosen = (book.square() @ count - 2 * (block * count) @ book.T).argmin(1)
        codes[:, start // size] = chosen
        given = book[chosen] * scale[:, None]
        for k in range(size):
            column = start + k
            error = (left[:, column] - given[:, k]) / upper[column, column]
            left[:, column:] -= error[:, None] * upper[column, column:]
    return Coded(codes, book, scale, tuple(weight.shape))


def put(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    """Replace a stored tensor of a model."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))


def code_layers(model: onnx.ModelProto, given: np.ndarray) -> tuple[dict[str, Coded], dict[str, np.ndarray]]:
    """Return codes of the convolutions of a network but its first, and biases that keep the means of channels."""
    made, codes, biases = onnx.ModelProto(), {}, {}
    made.CopyFrom(model)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    ends = results(model)
    for node in [n for n in model.graph.node if n.op_type == "Conv"][1:]:
        weight = torch.from_numpy(stored[node.input[1]].copy())
        if weight.shape[1] == 1:
            form = coded(weight, None, 2)
        else:
            seen = np.concatenate(outputs(made, [node.input[0]], given)[0]).transpose(1, 0, 2, 3)
            flat = torch.from_numpy(seen.reshape(len(seen), -1))
            some = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))[:SAMPLES]
            form = coded(weight, flat[:, some], 2 if weight.numel() < FINE else 3)
        codes[node.input[1]] = form
        put(made, node.input[1], form.values(form.book, form.scale).numpy())
        end = ends[node.input[2]]
        before, after = (np.concatenate(outputs(m, [end], given)[0]) for m in (model, made))
        biases[node.input[2]] = stored[node.input[2]] + (before - after).mean((0, 2, 3))
        put(made, node.input[2], biases[node.input[2]])
        log.info("%s: off by %.4f", end, float(np.square(before - after).mean() / before.var()))
    return codes, biases


def trained(
    network: nn.Module, codes: dict[str, Coded], biases: dict[str, np.ndarray], files: Sequence[Path], pixels: int,
    steps: int, rate: float, batch: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Return codebooks, scales and biases that bring the network's logits back."""
    learned = {f"{n}{BOOK}": c.book.clone() for n, c in codes.items()}
    learned |= {f"{n}{SCALE}": c.scale.clone() for n, c in codes.items()}
    learned |= {n: torch.from_numpy(np.asarray(b, np.float32)).clone() for n, b in biases.items()}
    for tensor in learned.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(
        [
            {"params": [t for n, t in learned.items() if n.endswith(BOOK)], "lr": rate},
            {"params": [t for n, t in learned.items() if not n.endswith(BOOK)], "lr": rate / 5},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [rate, rate / 5], total_steps=steps, pct_start=0.1)
    draw, network = rng(0, "codebook"), network.eval().to(memory_format=torch.channels_last)
    mean, std = (torch.full((3, 1, 1), v) for v in (127 / 255, 128 / 255))

    def logits(image: Tensor) -> Tensor:
        full = {n: c.values(learned[f"{n}{BOOK}"], learned[f"{n}{SCALE}"]) for n, c in codes.items()}
        return functional_call(network, full | {n: learned[n] for n in biases}, (image,))

    for step in range(steps):
        some = images([files[i] for i in draw.choice(len(files), batch, replace=False)], pixels)
        seen = ((torch.from_numpy(some) - mean) / std).contiguous(memory_format=torch.channels_last)
        with quick_layers(network):
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    wanted = network(seen).float()
                found = logits(seen).float()
            soft, hard = F.log_softmax(found / TEMPERATURE, 1), F.softmax(wanted / TEMPERATURE, 1)
            loss = F.kl_div(soft, hard, reduction="batchmean") * TEMPERATURE**2
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            log.info("step %d: loss %.4f", step, float(loss))
    return {n: t.detach() for n, t in learned.items()}


def main(argv: Sequence[str]) -> None:
    """Write a body's weights in codebooks."""
    script = Script("photographs", __doc__, command="codebook")
    script.add("zoo", type=Path)
    script.add("body")
    script.add("--calibrate", action="append", type=Path, required=True)
    script.add("--calibrating", type=int, default=120, help="pictures that calibrate, in all")
    script.add("--train", action="append", type=Path, required=True)
    script.add("--steps", type=int, default=600)
    script.add("--rate", type=float, default=2e-3)
    script.add("--batch", type=int, default=32)
    script.add("--out", type=Path, required=True)
    args = script.parse(argv)
    zoo = opened(args.zoo)
    body = zoo.body(args.body)
    assert body is not None, args.body
    weights = zoo.weights(body)
    network = fold(lite0())
    load_weights(network, {k: torch.from_numpy(v) for k, v in weights.items()})
    given = images(calibration_files(args.calibrate, args.calibrating), body.pixels)
    codes, biases = code_layers(zoo.graph(body, weights), given)
    files = [f for d in args.train for f in training_files(d)]
    learned = trained(network, codes, biases, files, body.pixels, args.steps, args.rate, args.batch)
    tensors = {n: t.half().contiguous() for n, t in learned.items()} | {n: c.codes for n, c in codes.items()}
    shapes = {n: json.dumps(c.shape) for n, c in codes.items()}
    recipe = {
        "method": "codebooks, layer by layer, then trained to give the logits of the body", "steps": args.steps,
        "rate": args.rate, "batch": args.batch, "pictures": len(files), "crops_seen": args.steps * args.batch,
    }  # fmt: skip
    save_file(tensors, args.out, shapes | {"recipe": json.dumps(recipe)})
