"""A head for features that stay: logistic regression around what names alone say, chosen on images left out.

The logits of a name are `prior + weight @ features + bias`: the prior is what the base's own rows say of that name,
or 0. Its weight decays towards 0, so that few images leave the names as they are and many replace them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.core.device import one_thread
from mvp_edge.training.interpolation import balanced_top1, calibrated_loss, class_weights, rest_of

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of weights on features with a mean square of 1, descending
PARTS = (0.25, 0.5, 1.0)  # of the images, for the learning curve
STEPS = 60  # of L-BFGS, from the solution at the next larger decay
EXACT = {"gtol": 1e-7, "ftol": 1e-9}  # of its end


@dataclass(frozen=True)
class Kind:
    """How a head comes about.

    Attributes:
        prior: Whether what names alone say is added.
        decay: Of the weights; None leaves them 0, so that the head is that of names alone.
    """

    prior: bool
    decay: float | None


NAMES_ALONE = Kind(prior=True, decay=None)


@dataclass(frozen=True, eq=False)
class Linear:
    """Part of a head that images were fitted: `weight` `(K, D)` and `bias` `(K,)`."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return its logits `(N, K)` for features `(N, D)`."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Point:
    """Percent right on images left out, of a head fitted to so many images."""

    images: int
    top1: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The kind of head that images left out favour, and the figures behind the choice.

    Attributes:
        kind: What was chosen.
        logits: Of that kind on each image, `(N, K)`, from a head that was not fitted to it; NaN where it never was left
            out.
        names_top1: Percent right of names alone on images left out; None if the base does not know all names.
        top1: Percent right of the chosen kind on them.
        curve: The same for parts of the images, the fewest first.
        gain: Points from half of the images to all, and the standard error of that.
    """

    kind: Kind
    logits: Tensor
    names_top1: float | None
    top1: float
    curve: tuple[Point, ...]
    gain: tuple[float, float]


def fit_heads(features: Tensor, labels: Tensor, prior: Tensor, decays: Sequence[float] = DECAYS) -> list[Linear]:
    """Return the head of least regularised cross-entropy for each decay, the largest first; every class counts alike.

    Classes of few images are else lost to large ones. Measured on features of a 64-pixel body, for 24 lists of three of
    20 classes of photographs (of five breeds of dogs), one with 40 images and two with a tenth of that: balanced
    accuracy on training images left out rose by 9.4 (16.7) points for unknown names and by 2.7 (3.4) for known ones;
    with a third of the images by 0.9 (2.9) and 1.3 (1.0). It never fell.

    Args:
        features: `(N, D)`.
        labels: `(N,)`.
        prior: Logits `(N, K)` that are added.
        decays: Descending.
    """
    from scipy.optimize import minimize  # imported here: it takes 0.3 s

    centre = features.mean(0)
    x = (features - centre).double()
    scale = x.square().sum(1).mean().sqrt().clamp(min=1e-12)
    x /= scale
    turn = None
    if x.shape[0] < x.shape[1]:  # weights lie in the span of the images: solve there, which is as exact and faster
        left, singular, turn = torch.linalg.svd(x, full_matrices=False)
        x = left * singular
    offset, truth, weights = prior.double(), labels[:, None], class_weights(labels).double()[:, None] / len(x)
    k, width = prior.shape[1], x.shape[1]

    at, found = np.zeros(k * (width + 1)), []

    def parts(row: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(row)
        return rows[:-k].view(k, width), rows[-k:]

    def loss(row: np.ndarray, decay: float) -> tuple[float, np.ndarray]:
        """Return it and its gradient, by hand: autograd's own thread takes longer than these small products."""
        weight, bias = parts(row)
        chance = (offset + x @ weight.T + bias).log_softmax(1)
        wrong = chance.exp().scatter_add(1, truth, torch.full_like(truth, -1, dtype=torch.double)) * weights
        slope = torch.cat([(wrong.T @ x + decay * weight).flatten(), wrong.sum(0)])
        return float(decay / 2 * weight.square().sum() - (chance.gather(1, truth) * weights).sum()), slope.numpy()

    with one_thread(), torch.no_grad():
        for decay in decays:
            at = minimize(loss, at, (decay,), "L-BFGS-B", jac=True, options={"maxiter": STEPS, **EXACT}).x
            weight, bias = parts(at)
            rows = ((weight if turn is None else weight @ turn) / scale).float()
            found.append(Linear(rows, bias.float() - rows @ centre))
    return found


def fit_head(features: Tensor, labels: Tensor, prior: Tensor, kind: Kind) -> Linear:
    """Return a head of one kind; arguments as for `fit_heads`, the prior being that of names."""
    if kind.decay is None:
        return Linear(torch.zeros(prior.shape[1], features.shape[1]), torch.zeros(prior.shape[1]))
    path = [d for d in DECAYS if d >= kind.decay]
    return fit_heads(features, labels, prior if kind.prior else torch.zeros_like(prior), path)[-1]


def choose_head(
    features: Tensor, labels: Tensor, prior: Tensor, folds: Sequence[Tensor], *, all_known: bool, any_known: bool,
    generator: np.random.Generator,
) -> Choice:  # fmt: skip
    """Return which kind of head names most images that it was not fitted to, and how that grows with images.

    Kinds are compared by cross-entropy, each at its best temperature, which is less noisy than how many are right.

    Args:
        features: `(N, D)`.
        labels: `(N,)`, each class outside of every fold.
        prior: What names alone say, logits `(N, K)`; 0 for a name that the base does not know.
        folds: Positions of the images that are left out together, for each time.
        all_known: Whether the base knows all names, so that they may suffice.
        any_known: Whether it knows one of them.
        generator: Chooses the parts of the images.
    """
    out = torch.cat(list(folds))
    tried: dict[float, dict[Kind, Tensor]] = {}
    images: dict[float, float] = {}
    for part in PARTS:
        rests = [stratified(labels, rest_of(left_out, len(labels)).numpy(), part, generator) for left_out in folds]
        images[part] = sum(map(len, rests)) / len(rests)
        tried[part] = {
            kind: logits
            for with_names in {False, any_known}
            for kind, logits in left_out_logits(features, labels, prior, folds, rests, with_names).items()
        }
        if all_known:
            tried[part][NAMES_ALONE] = prior
    best = {part: _least(logits, labels, out) for part, logits in tried.items()}
    right = {part: (tried[part][best[part]][out].argmax(1) == labels[out]).float() for part in PARTS}
    gains = right[1.0] - right[0.5]
    error = float(gains.std()) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    names = 100 * float((prior[out].argmax(1) == labels[out]).float().mean()) if all_known else None
    return Choice(
        kind=best[1.0],
        logits=tried[1.0][best[1.0]],
        names_top1=names,
        top1=100 * float(right[1.0].mean()),
        curve=tuple(Point(round(images[part]), 100 * float(right[part].mean())) for part in PARTS),
        gain=(100 * float(gains.mean()), 100 * error),
    )


def left_out_logits(
    features: Tensor, labels: Tensor, prior: Tensor, folds: Sequence[Tensor], rests: Sequence[Tensor], with_names: bool
) -> dict[Kind, Tensor]:
    """Return the logits `(N, K)` of images by heads of each decay that were fitted to others, NaN for the rest.

    Args:
        features: `(N, D)`.
        labels: `(N,)`.
        prior: What names alone say, logits `(N, K)`.
        folds: Positions of the images that are left out together.
        rests: Positions of those that the head is fitted to then.
        with_names: Whether the prior is added.
    """
    offset = prior if with_names else torch.zeros_like(prior)
    found = {Kind(with_names, d): torch.full_like(prior, torch.nan) for d in DECAYS}
    for left_out, rest in zip(folds, rests, strict=True):
        for decay, head in zip(DECAYS, fit_heads(features[rest], labels[rest], offset[rest]), strict=True):
            found[Kind(with_names, decay)][left_out] = offset[left_out] + head(features[left_out])
    return found


def best_top1(tried: dict[Kind, Tensor], labels: Tensor, out: Tensor) -> float:
    """Return the percent of images left out that the best kind of head names; every class counts alike.

    Args:
        tried: Logits `(N, K)` of images left out, by kind of head.
        labels: `(N,)`.
        out: Positions of these images.
    """
    return balanced_top1(tried[_least(tried, labels, out)][out], labels[out])


def stratified(labels: Tensor, among: np.ndarray, part: float, generator: np.random.Generator) -> Tensor:
    """Return the positions of a part of some images, ascending: that part of each class, at least one of it."""
    order = generator.permutation(among)
    kept = [own[: max(1, round(part * len(own)))] for k in labels.unique() if len(own := order[labels[order] == k])]
    return torch.from_numpy(np.sort(np.concatenate(kept)))


class NamedRows(nn.Module):
    """A network whose outputs are rows of several names: the logit of a name is the log-sum-exp of its rows.

    Args:
        network: Gives logits `(N, rows)`.
        counts: Rows of each name, in their order.
    """

    def __init__(self, network: nn.Module, counts: Sequence[int]) -> None:
        super().__init__()
        self.network, self.counts = network, tuple(counts)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(N, names)`."""
        return named_logits(self.network(images), self.counts)


def named_logits(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the logit of each name `(N, names)`, the log-sum-exp of its rows.

    Args:
        rows: Logits `(N, rows)`, the rows of a name side by side.
        counts: Rows of each name, in their order.
    """
    if max(counts) == 1:
        return rows
    return torch.stack([part.logsumexp(1) for part in rows.split(list(counts), 1)], 1)


def _least(logits: dict[Kind, Tensor], labels: Tensor, out: Tensor) -> Kind:
    """Return the kind of least mean loss on images left out, where every class counts alike.

    Of even ones names alone, then the largest decay.
    """
    ranked = sorted(logits, key=lambda kind: (kind.decay is not None, -(kind.decay or 0), not kind.prior))
    weights = class_weights(labels[out])
    return min(ranked, key=lambda kind: float(calibrated_loss(logits[kind][out], labels[out], weights).mean()))
