"""Tables of the photograph zoo: accuracy by names alone of each body, and pictures of nothing listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.records import dirty_mark
from benchmarks.tables import markdown
from mvp_edge.zoo.bodies import BodyZoo, open_bodies

OWN = {"caltech101": "Caltech-101", "dogs": "five dog breeds", "flowers102": "Flowers-102", "clothing": "Clothing"}
FORMS = ("-int8", "-small")
TRAINING = "-train"  # the end of the name of a set's training pictures
PICTURES = {
    "samples": "a training picture of each ImageNet class",
    "mini": "mini-ImageNet, 84 px",
    "imagewoof": "ten dog breeds",
    "caltech101": "Caltech-101",
}


# Multiply-adds in millions, as the papers give them: MobileNetV1 (Howard et al., 2017), V2 (Sandler et al., 2018).
PUBLISHED = {
    "mobilenet_v1_0.25_128_quant": ("MobileNetV1 0.25", 14),
    "mobilenet_v1_0.5_160_quant": ("MobileNetV1 0.5", 77),
    "mobilenet_v1_0.75_192_quant": ("MobileNetV1 0.75", 239),
    "mobilenet_v2_1.0_224_quant": ("MobileNetV2", 300),
    "tf2_mobilenet_v2_1.0_224_ptq": ("MobileNetV2, TensorFlow 2", 300),
}


def latest() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the last record of each network on each set of pictures, the dearest network first."""
    found = {(r["config"]["network"], r["config"]["pictures"]): r for r in records.read("photographs")}
    return dict(sorted(found.items(), key=lambda f: (-f[1]["config"].get("macs", 0), f[0])))


def _zoo() -> BodyZoo:
    zoo = open_bodies("imagenet-lite0")
    assert zoo is not None
    return zoo


def by_names() -> str:
    """Five-way accuracy by names alone; in brackets on classes of which training saw no picture."""
    found, delivered = latest(), {b.id for b in _zoo().bodies}
    networks = list(dict.fromkeys(network for network, _ in found if not network.endswith(FORMS)))
    rows = []
    for network in networks:
        config = next(r["config"] for (name, _), r in found.items() if name == network)
        cells = [_accuracy(found.get((network, pictures))) for pictures in PICTURES]
        own = network if network in delivered else f"{network}, not in the zoo"
        title, macs = PUBLISHED.get(network) or (own, round(config["macs"] / 1e6))
        rows.append((title, config["pixels"], macs, *cells))
    return markdown(("network", "px", "MMACs", *PICTURES.values()), rows)


def own_bases() -> str:
    """Accuracy of bases of timm with their own weights: mean over lists, by pixels, and with photographs."""
    found: dict[tuple[str, str, int, bool], list[dict[str, Any]]] = defaultdict(list)
    for line in records.read("own-bases"):
        c = line["config"]
        found[c["base"], c["data"], c["pixels"], c["photographs"]].append(line)
    if not found:
        return "No records yet."
    rows = []
    ordered = sorted(found.items(), key=lambda f: (f[0][0], f[0][1], f[0][3], -f[0][2]))
    for (base, data, pixels, learned), lines in ordered:
        results = [line["result"] for line in lines]
        macs, size, top1 = (float(np.mean([r[k] for r in results])) for k in ("macs", "bytes", "top1"))
        rows.append([
            base, OWN.get(data, data), pixels, "yes" if learned else "no", f"{macs / 1e6:.0f}", f"{size / 2**20:.1f}",
            f"{top1:.1f}", len(lines), sum(r["n"] for r in results), dirty_mark(lines),
        ])  # fmt: skip
    head = ("base", "photographs", "px", "`--data`", "MMACs", "MiB", "top-1, %", "lists", "images", "")
    return markdown(head, rows)


def _accuracy(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    result = record["result"]
    untrained = f" ({result['five_way_untrained']:.1f})" if "five_way_untrained" in result else ""
    return f"{result['five_way']:.1f}{untrained}"


def forms() -> str:
    """Five-way accuracy of each body on the first set of pictures, and of its INT8 and small forms."""
    found = {network: r["result"]["five_way"] for (network, pictures), r in latest().items() if pictures == "samples"}
    rows = [
        (n, f"{top1:.1f}", *(f"{found[n + end]:.1f}" if n + end in found else "" for end in FORMS))
        for n, top1 in found.items()
        if n.startswith("lite0") and not n.endswith(FORMS)
    ]
    return markdown(("body", "weights in eight bits, float32", "INT8", "a byte for two or three weights"), rows)


def worst_layers() -> str:
    """The layers of each body that INT8 is farthest off in: mean square error relative to the variance, in percent."""
    worst = [(f.like, f.recipe["worst_layers"]) for f in _zoo().forms if f.arithmetic == "int8"]
    rows = [(body, ", ".join(f"`{name}` {100 * off:.1f}" for name, off in found.items())) for body, found in worst]
    return markdown(("body", "worst layers, % of the variance"), rows)


def none_of_these() -> str:
    """False accepts and AUROC of each score, and of the threshold that a file is delivered with."""
    rows, delivered = [], {b.id for b in _zoo().bodies + _zoo().forms if b.arithmetic != "int8"}
    for (network, pictures), r in latest().items():
        v = r["result"]
        if network in delivered and pictures in PICTURES:
            scores = [f"{v[f'{s}_false_accepts']:.1f} / {v[f'{s}_auroc']:.1f}" for s in ("softmax", "energy", "known")]
            rows.append(
                (
                    network,
                    PICTURES[pictures],
                    *scores,
                    f"{v['delivered_kept']:.1f}",
                    f"{v['delivered_false_accepts']:.1f}",
                )
            )
    return markdown(("network", "pictures", "softmax", "energy", "known", "kept as delivered", "accepted"), rows)


def known_scores() -> str:
    """False accepts of the scores that `known` was chosen from, on training pictures."""
    heads = {"softmax": "softmax", "energy": "energy", "odds": "log odds", "exact": "by all rows", "known": "known"}
    rows = [
        (
            network,
            PICTURES[pictures.removesuffix(TRAINING)],
            *(f"{r['result'][f'{s}_false_accepts']:.1f}" for s in heads),
        )
        for (network, pictures), r in latest().items()
        if pictures.endswith(TRAINING)
    ]
    return markdown(("network", "pictures", *heads.values()), rows)


def own_photographs() -> str:
    """Accuracy with photographs of one's own: mean over tasks, the gain of training with its standard error."""
    return markdown(
        (
            "data", "body", "images a class", "teacher", "tasks", "names alone", "head", "delivered", "gain",
            "most lost", "seconds",
        ),
        [
            (
                data, body, shots, teacher, len(found), _mean(v["names"] for v in found.values() if "names" in v),
                _mean(v["head"] for v in found.values()), f"**{_mean(v['delivered'] for v in found.values())}**",
                _with_error(gains), f"{max(0.0, -gains.min()):.1f}",
                f"{np.median([v['seconds'] for v in found.values()]):.0f}",
            )
            for (data, body, shots, teacher), found in _latest_own().items()
            if len(gains := np.array([v["delivered"] - v["head"] for v in found.values()])) > 1
        ],
    )  # fmt: skip


def teachers() -> str:
    """Accuracy with photographs of one's own, with a teacher and without, on the same tasks."""
    found, rows = _own(), []
    for data, body, shots, teacher in found:
        with_one, without = found[data, body, shots, teacher], found.get((data, body, shots, ""), {})
        if teacher and (shared := sorted(with_one.keys() & without.keys())):
            one, other = ([tasks[t]["delivered"] for t in shared] for tasks in (with_one, without))
            gains = np.array(one) - np.array(other)
            kept = [t for t in shared if with_one[t]["taught"] and with_one[t]["trained"]]
            rows.append((
                data, body, shots, len(shared), len(kept), _mean(other), _mean(one),
                _with_error(gains), f"{max(0.0, -gains.min()):.1f}",
            ))  # fmt: skip
    head = ("data", "body", "images a class", "tasks", "taught in", "without", "with", "gain", "most lost")
    return markdown(head, rows)


def own_none_of_these() -> str:
    """False accepts of pictures of none of the classes, with photographs of one's own."""
    return markdown(
        (
            "data",
            "body",
            "images a class",
            "far: softmax",
            "far: known",
            "near: softmax",
            "near: known",
            "kept as delivered",
        ),
        [
            (data, body, shots, *(_mean(v[k] for v in found.values() if k in v) for k in TOLD))
            for (data, body, shots, _), found in _latest_own().items()
            if any("kept" in v for v in found.values())
        ],
    )


TOLD = ("far_softmax", "far_known", "near_softmax", "near_known", "kept")


def specialists() -> str:
    """Specialists beside the smaller body, on left-out pictures of their classes: trained alike, and by names alone."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for r in records.read("specialists"):
        if "specialist" in (c := r["config"]):
            found[c["larger"], c["smaller"]][c["specialist"]] |= r["result"]
    rows = []
    for (larger, smaller), results in found.items():
        row: list[Any] = [f"{larger}, cut to the multiply-adds of {smaller}", len(results)]
        row.append(_mean(v["specialist"] for v in results.values()))
        for beside in ("smaller body", "names alone"):
            gains = np.array([v["specialist"] - v[beside] for v in results.values() if beside in v])
            row += ["", "", ""] if not len(gains) else [
                _mean(v[beside] for v in results.values()), _with_error(gains), int((gains > 0).sum()),
            ]  # fmt: skip
        rows.append(tuple(row))
    head = ("smaller body", "gain", "better in", "smaller body, names alone", "gain", "better in")
    return markdown(("specialists", "number", "top-1, %", *head), rows)


def votes_on_photographs() -> str:
    """Who decides which hidden units stay: accuracy on tasks of other data, and beside the smaller body."""
    found: dict[tuple[str, str, int, int, int], dict[str, dict[int, dict[str, Any]]]]
    found = defaultdict(lambda: defaultdict(dict))
    for r in records.read("specialists"):
        if "data" in (c := r["config"]):
            group = c["smaller"], OWN[c["data"]], len(c["names"]), c["shots"], c["specialists"]
            found[group][c["way"]][c["task"]] = r["result"]
    rows = []
    for group, ways in found.items():
        for way, tasks in ways.items():
            shared = sorted(tasks.keys() & ways["smaller body"].keys())
            gains = np.array([tasks[t]["top1"] - ways["smaller body"][t]["top1"] for t in shared])
            rows.append((
                *group, way, len(shared), _mean(v["head"] for v in tasks.values() if "head" in v),
                _mean(v["top1"] for v in tasks.values()), "" if way == "smaller body" else _with_error(gains),
                _mean(v["mmacs"] for v in tasks.values()),
            ))  # fmt: skip
    head = (
        "smaller body", "data", "classes", "images a class", "specialists", "who decides", "tasks", "head", "trained",
        "beside it", "MMACs",
    )  # fmt: skip
    return markdown(head, rows)


def cut_to_budgets() -> str:
    """Networks cut to a budget on photographs, beside the best ready-made body within it; means over tasks."""
    found = defaultdict(list)
    for r in records.read("cut"):
        c = r["config"]
        found[OWN[c["data"]], c["max_mmacs"], c["shots"]].append(r["result"])
    rows = []
    for (data, mmacs, shots), results in sorted(found.items()):
        ready = [v.get("ready_delivered", v["taken_delivered"]) for v in results]
        gains = np.array([v["taken_delivered"] - r for v, r in zip(results, ready, strict=True)])
        none = all(v["taken_keep"] < 1 and "ready" not in v for v in results)  # no body is so small
        rows.append((
            data, f"{mmacs:g}", shots, len(results), sum("ready" in v or none for v in results),
            "" if none else _mean(ready), f"**{_mean(v['taken_delivered'] for v in results)}**",
            "" if none else _with_error(gains), "" if none else f"{max(0.0, -gains.min()):.1f}",
        ))  # fmt: skip
    head = (
        "data", "MMACs allowed", "images a class", "tasks", "cut in", "ready-made", "delivered", "gain", "most lost",
    )  # fmt: skip
    return markdown(head, rows)


def _with_error(gains: np.ndarray) -> str:
    """Return a mean with its standard error."""
    error = f" ± {gains.std(ddof=1) / len(gains) ** 0.5:.1f}" if len(gains) > 1 else ""
    return f"{gains.mean():+.1f}{error}"


Own = dict[tuple[str, str, int, str], dict[int, dict[str, Any]]]


def _latest_own() -> Own:
    """Return the results with a teacher where there are as many as without one, else those without."""
    found = _own()
    taught = {k[:3] for k, tasks in found.items() if k[3] and len(tasks) >= len(found.get((*k[:3], ""), {}))}
    return {key: tasks for key, tasks in found.items() if (key[:3] in taught) == bool(key[3])}


def _own() -> Own:
    """Return the results of each task by data, body, images of a class, and the body that may have taught it."""
    found: Own = defaultdict(dict)
    for r in records.read("own-photographs"):
        c = r["config"]
        if c["schedule"] == "auto" and c["iterations"] is None:
            name = f"{OWN[c['data']]}, known names" if c["known"] else OWN[c["data"]]
            found[name, c["body"], c["shots"], c.get("teacher") or ""][c["task"]] = r["result"]
    return dict(sorted(found.items()))


def _mean(values: Iterable[float]) -> str:
    found = list(values)
    return f"{np.mean(found):.1f}" if found else ""
