"""Tables of accuracy: methods on the target tasks, and what images are worth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pandas as pd

from benchmarks import records
from benchmarks.records import RESULTS, read_lines
from benchmarks.tables import Frame, frame, listed, mark, markdown, spread
from benchmarks.trials import counted

ROWS = {
    "prune": "**`mvp-edge prune`, the default**: generalist, 100 iterations",
    "default": "the same with selective distillation, an earlier default",
    "generalist-0": "generalist, as it is",
    "generalist-100": "generalist, 100 iterations at the paper's rate",
    "mvp-100": "MVP: 5 specialist neighbours, LEEP, top votes, 100 iterations",
    "mvp-sample-100": "MVP with votes sampled as in Eq. 1",
    "mvp-rate-100": "MVP, top votes, tuned learning rate: 0.1 instead of the paper's 0.01",
    "one-neighbour-100": "one specialist neighbour, 100 iterations",
    "random-100": "random units, 100 iterations",
    "ifp-100": "IFP, 100 iterations",
    "ifp-300": "IFP, 300 iterations at four times the rate",
    "ifp-1000": "IFP, 1000 iterations",
    "member-200": "what specialists are: pruned from the generalist at keep 0.2 in 200 iterations of 64 images",
    "base": "ceiling: the whole base model, restricted to the classes",
}
IMAGES = {
    "names-only": "no images, on these lists",
    "few-5": "5 images a class, distilled",
    "few-20": "20 images a class, distilled",
    "few-100": "100 images a class, distilled",
    "prune": "**all 500 images a class**",
    "default": "all 500 images a class, selective distillation (an earlier default)",
    "generalist-100": "baseline: the generalist, fine-tuned at the paper's rate, all images",
    "mvp-100": "baseline: MVP from specialists only, at the paper's rate, all images",
    "base": "ceiling: the whole base model, restricted to the classes",
}
BY_SPECIALISTS = ("mvp", "one-neighbour", "any")
WITHOUT_ZOO = ("random-100", "ifp-100", "ifp-300", "ifp-1000")
PAPER = {"mvp-sample-100": "88.98", "random-100": "33.12", "ifp-1000": "87.99"}


def on_targets(question: str = "targets") -> Frame:
    """Return the records that count: of one seed, the newest base and teacher, and the largest zoo of voters.

    Where several seeds were run, it is the first above 0, whose code had no uncommitted changes. IFP and random
    pruning, which need no zoo, were run before the base was packed to int8 and not repeated.
    """
    rows = frame(question)
    rows = rows[(rows.base_sha256 == _newest_base()) | rows.method.isin(WITHOUT_ZOO)]
    rows = rows[rows.seed == rows.groupby("method").seed.transform(lambda s: s[s > 0].min() if s.any() else 0)]
    if "teacher" in rows:
        teacher = rows.teacher.fillna("")
        rows = rows[teacher == teacher.groupby(rows.method).transform("last")]
    most = rows.members.groupby(rows.method).transform("max")
    return rows[(rows.members == most) | ~rows.method.str.startswith(BY_SPECIALISTS)]


def _newest_base() -> str:
    return frame("names-only").base_sha256.iloc[-1]


def seeds() -> str:
    """Accuracy by method over several seeds: how it varies over tasks, and over seeds alone."""
    rows, body = frame("targets"), []
    rows = rows[(rows.seed > 0) & (rows.base_sha256 == _newest_base())]
    for method in (m for m in ROWS if m in set(rows.method)):
        mine = rows[rows.method == method]
        found = mine.pivot(index="task", columns="seed", values="top1").dropna()
        alone = float(found.var(axis=1).mean()) ** 0.5
        mean, sd = spread(found.mean(axis=1))
        body.append((ROWS[method], found.shape[1], f"{len(found)}{mark(mine)}", mean, sd, f"{alone:.2f}",
                     f"{found.mean().std():.2f}"))  # fmt: skip
    head = ["method", "seeds", "tasks", "top-1 mean", "sd over tasks", "sd of a task over seeds", "sd of the mean"]
    return markdown(head, body)


def targets() -> str:
    """Accuracy by method, mean and standard deviation over the target tasks, and over those that all were run on."""
    rows = on_targets()
    found = {m: mine for m in ROWS if len(mine := rows[rows.method == m])}
    same = set.intersection(*(set(mine.task) for mine in found.values()))
    head = ["method", "tasks", "top-1 mean", "sd", f"on the same {len(same)}", "paper", "MMACs", "seconds"]
    return markdown(head, (
        [ROWS[method], f"{len(mine)}{mark(mine)}", *spread(mine.top1), f"{mine.top1[mine.task.isin(same)].mean():.2f}",
         PAPER.get(method, ""), f"{mine.macs.iloc[-1] / 1e6:.1f}", f"{mine.seconds.median():.0f}"]
        for method, mine in found.items()
    ))  # fmt: skip


def by_lists() -> dict[str, Frame]:
    """Return what counts on random lists and on superclasses; what has no images as the method `names-only`."""
    names = frame("names-only").assign(method="names-only")
    names = names[names.keep == 0.1]
    questions = {"random": "targets", "superclasses": "superclasses"}
    return {
        lists: cast(Frame, pd.concat([on_targets(q), names[names.lists == lists]])) for lists, q in questions.items()
    }


def images() -> str:
    """Accuracy by the number of training images, on random lists and on superclasses."""
    first, questions = _population(), by_lists()
    lists = f"**no images**: the generalist as it is, {first.lists:,} random lists"
    rows = [[lists, f"{first.mean:.2f}", f"{first.sd:.2f}", "", ""]]
    for method, title in IMAGES.items():
        cells = []
        for found in questions.values():
            mine = found[found.method == method]
            count = f" ({len(mine)} lists)" if len(mine) not in (0, 20) else ""
            mean, sd = spread(mine.top1)
            cells += [mean, sd + count + mark(mine)]
        rows.append([title, *cells])
    errors = pd.concat([(found.told - found.top1).abs().dropna() for found in questions.values()])
    told = (
        "Without images the report shows an accuracy from outputs that were stored of these very test images. What "
        f"storing them costs: over {len(errors)} lists that accuracy is {errors.mean():.2f} points off what "
        f"the delivered file scores on the same images on average, {errors.max():.2f} at most."
    )
    head = ["", "20 random lists", "sd", "20 superclasses", "sd"]
    return "\n\n".join([markdown(head, rows), *_whole_base(questions["random"]), told])


SUMMARY = {
    "**`mvp-edge prune`, class names only**": ("none", "names-only", "tool-0.1"),
    "**`mvp-edge prune --data`**": ("500 per class", "prune", "tool-0.1"),
    "base, magnitude-pruned to the same size, distilled": ("500 per class", None, "magnitude-distill-0.1"),
    "MobileNetV2 of timm, ImageNet weights": ("500 per class", None, "mobilenetv2-32"),
    "the whole base, not pruned": ("", "base", None),
}
"""Images, the row of `images` and the row of the experiment `baselines`, by title."""


def summary() -> str:
    """Accuracy, latency and size of the tool, of baselines and of the base: the one table of the README."""
    questions, body = by_lists().values(), []
    trials = read_lines(RESULTS / "trials" / "baselines.jsonl")
    timed = counted(trials, "latency")[-1]["notes"]
    dense = next(r["result"] for r in reversed(records.read("edge-latency")) if "resnet18" in r["config"]["base"])
    model, ratio = dense["models"]["dense"], dense["ratios"]["dense/aligned"]["median"]
    for title, (given, method, baseline) in SUMMARY.items():
        cells = [_in_brackets(found[found.method == method]) for found in questions]
        if method is None:
            cells[0] = _in_brackets(pd.DataFrame([t | {"record": t} for t in counted(trials, str(baseline))]))
        if method == "names-only":
            cells[0] = "{0.mean:.2f} ({0.sd:.2f}), {0.lists:,} lists".format(_population())
        figures = (
            [timed[f"{baseline}/{name}"] for name in ("ratio", "mmacs", "kib")]
            if baseline else [ratio, model["macs"] / 1e6, model["file_bytes"] / 1024]
        )  # fmt: skip
        body.append([title, given, *cells, f"{figures[0]:.2g}x", f"{figures[1]:.1f}", f"{figures[2]:,.0f}"])
    head = ["", "images", "top-1 (sd)", "top-1, superclasses (sd)", "latency", "MMACs", "KiB"]
    return (
        f"{markdown(head, body)}\n\nMeans over 20 class lists where the cell does not say otherwise. Latency is "
        f"relative to the first row, {timed['tool-0.1/ms']:.2f} ms."
    )


def _population() -> SimpleNamespace:
    rows = frame("population")
    rows = rows[(rows.zoo == "cifar100-resnet18") & (rows.keep == 0.1) & (rows.ways == 5)]
    return SimpleNamespace(**rows.iloc[-1].to_dict())


def _in_brackets(rows: Frame) -> str:
    if rows.empty:
        return ""
    few = "" if len(rows) == 20 else f", {len(rows)} lists"
    return f"{rows.top1.mean():.2f} ({rows.top1.std():.2f}){few}{mark(rows)}"


def _whole_base(rows: Frame) -> list[str]:
    """Compare the whole base, fine-tuned, with what it can be compared with: on the few lists that it was tried on."""
    top1 = rows[rows.method.isin(["base-100", "base", "prune"])].pivot_table("top1", "task", "method").dropna()
    if not {"base-100", "base", "prune"} <= set(top1.columns) or top1.empty:
        return []
    lists = "the one list" if len(top1) == 1 else f"the {len(top1)} lists"
    means = top1.mean()
    return [
        f"The whole base fine-tuned, 77 times the MACs, was tried on few: on {lists} it has {means['base-100']:.2f}, "
        f"restricted to the classes as it is {means['base']:.2f}, and the default {means['prune']:.2f}."
    ]


def population() -> str:
    """Accuracy without images over random class lists, by zoo, size and number of classes."""
    rows = frame("population").drop_duplicates(["zoo", "keep", "ways"], keep="last")
    return listed(rows.sort_values(["zoo", "ways", "keep"]), {
        "zoo": "{zoo}", "keep": "{keep:g}", "classes": "{ways}", "random lists": "{lists:,}{mark}",
        "top-1 mean": "{mean:.2f}", "sd": "{sd:.2f}", "5 % of lists below": "{p05:.2f}",
        "all classes": "{all_classes:.2f}",
    })  # fmt: skip


def published() -> str:
    """Networks that were published for CIFAR-100 beside the zoo's generalists: all 100 classes, latency in turns."""
    (r,) = frame("published").tail(1).to_dict("records")
    networks = [
        {**n, "record": r["record"], "published": "" if n["ours"] else " (as published)", "macs": n["macs"] / 1e6,
         "params": n["params"] / 1e6, "ratio": "" if n["ratio"] is None else f"{n['ratio']:.2f}x"}
        for n in r["networks"]
    ]  # fmt: skip
    return listed(networks, {
        f"100 classes, {r['record']['environment']['processor']}, 1 thread, batch 1": "{title}{mark}",
        "top-1": "{top1:.1f}{published}", "MMACs": "{macs:.1f}", "parameters": "{params:.2f} M", "ms": "{ms:.3f}",
        "against the first": "{ratio}", "KiB": "{kib:.0f}",
    })  # fmt: skip


UNSEEN = {"generalist-0": "as it is", "few-5": "5 images a class", "default": "20 images a class"}


def unseen() -> str:
    """Accuracy with few images that are new to the members, on the lists on which all rows were run."""
    rows = frame("targets-unseen")
    top1 = rows.pivot_table("top1", "task", "method")[list(UNSEEN)].dropna()
    shared = rows[rows.task.isin(top1.index)]
    return markdown(["", "random lists", "sd"], (
        [title, f"{top1[m].mean():.2f}", f"{top1[m].std():.2f} ({len(top1)} lists){mark(shared[shared.method == m])}"]
        for m, title in UNSEEN.items()
    ))  # fmt: skip


TEACHERS = {
    "taught-by-base": "the base model, of all images",
    "taught-by-member": "the largest generalist, of all images",
    "taught-by-cascade": "the base model where that member is unsure (selective distillation)",
    "untaught": "**none**, as the tool does it",
}


def teachers() -> str:
    """What each teacher, or none, makes of a generalist, on held-out images, on lists on which all were tried."""
    methods, body = list(TEACHERS), []
    for question, lists, some in (
        ("targets-held-out", "random lists", methods[:3]),
        ("superclasses-held-out", "superclasses", methods[2:]),
    ):
        rows = frame(question)
        tables = {m: rows[rows.method == m].drop_duplicates("task", keep="last").set_index("task") for m in some}
        shared = sorted(set.intersection(*(set(t.index) for t in tables.values())))
        for m, found in tables.items():
            mine = found.loc[shared]
            body.append(
                [TEACHERS[m], f"{len(mine)} {lists}{mark(mine)}", *spread(mine.top1), f"{mine.seconds.mean():.0f}"]
            )
    gains = (tables["taught-by-cascade"].top1 - tables["untaught"].top1).dropna()
    text = (
        f"On the same superclasses selective distillation gains {gains.mean():.2f} points (standard error "
        f"{gains.std() / len(gains) ** 0.5:.2f})."
    )
    head = ["teacher", "lists", "held-out top-1", "sd", "seconds, teacher included"]
    return f"{markdown(head, body)}\n\n{text}"


IMBALANCE = {"cifar100-resnet18": "generalist, CIFAR-100", "lite0-64": "`lite0-64`, Clothing"}


def plain() -> str:
    """Networks of a generalist's size, distilled plainly, beside it."""
    rows = frame("plain")
    titles = {"random": "random weights", "magnitude": "the base's units with the largest magnitude"}
    steps = [fit["iterations"] for fit in rows.fit]
    return listed(rows.assign(start=rows.start.map(titles), steps=steps, links=rows.chain.map(len)), {
        "distilled plainly, from": "{start}{mark}", "steps": "{steps:,}", "top-1 on the 100 classes": "{top1:.1f}",
        "the generalist": "{rival_top1:.1f}", "trainings in its chain": "{links}", "seed": "{seed}",
    })  # fmt: skip


def imbalance() -> str:
    """Balanced accuracy by the ratio of the largest class to the smallest, and what is delivered with 200 : 5 : 5."""
    found = records.read("imbalance")
    rows = frame("imbalance").assign(network=[r["config"]["start"] for r in found])
    body = []
    for (network, kind, ratio), mine in rows.groupby(["network", "kind", "ratio"]):
        given = f"{ratio}" if kind == "ratio" else "200 : 5 : 5 images, 10 iterations"
        means = [f"{v:.1f}" if (v := mine[k].mean()) >= 0 else "" for k in ("start", "given", "even", "delivered")]
        body.append([IMBALANCE[str(network)], given, f"{len(mine)}{mark(mine)}", *means])
    head = ["network", "largest to smallest class", "lists", "before", "as they are", "equally many", "delivered"]
    return markdown(head, body)
