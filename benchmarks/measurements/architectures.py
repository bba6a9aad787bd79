"""Which networks of timm can be pruned? Each is tried on random weights, in a process of its own with a time limit.

    python -m benchmarks architectures [--only NAME,NAME] [--again] [--beside]

A trial keeps a random third of every group, and the sliced network must equal the masked one. Recorded are the share of
parameters and multiply-adds in layers that can be pruned, processor seconds, and how far the ONNX file of the sliced
network is from it. With --beside, torch-pruning's own pruner cuts the same networks; whether its result runs is
recorded, not whether its values are right. What has a record is not run again.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import records
from benchmarks.command import Script, log
from mvp_edge.core.errors import MvpEdgeError
from mvp_edge.export import export_onnx, verify_onnx
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import Base, find_base
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.models.support import check_architecture, lively, random_network, third, trial_size

CLASSES = 10
LIMIT_S = 120  # processor seconds
BESIDE_S = 30  # of torch-pruning, which takes few or goes on for minutes
HALF = 0.5  # of the multiply-adds in layers that can be pruned: from here on a network counts as supported


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


HARD = _words("""
    mobilenetv4_hybrid_medium mixnet_s ghostnet_100 ghostnetv2_100 fasternet_t0 edgenext_xx_small efficientvit_b0
    inception_next_tiny tiny_vit_5m_224 cspresnet50 vit_small_patch16_dinov3 cait_xxs24_224
    swin_tiny_patch4_window7_224 xcit_nano_12_p16_224 mixer_s32_224 beit_base_patch16_224 eva02_tiny_patch14_224
    resnest14d fastvit_t8 mobilevitv2_050 poolformer_s12 repvit_m0_9 efficientformer_l1 efficientformerv2_s0
    levit_128s dla34 shvit_s1 rexnet_100 inception_v3
""")
"""Networks that were refused before groups were found by following labels."""
COMMON = _words("""
    resnet18 resnet50 resnext50_32x4d wide_resnet50_2 seresnet50 resnet18d ecaresnet50t res2net50_14w_8s resnetv2_50
    regnetx_002 regnety_002 regnetz_b16 mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050 mobilenetv3_large_075
    mobilenetv4_conv_small mobilenet_edgetpu_v2_xs efficientnet_lite0 efficientnet_b0 tf_efficientnetv2_b0
    mnasnet_small fbnetc_100 spnasnet_100 semnasnet_075 lcnet_035 tinynet_e hardcorenas_a densenet121 vgg11_bn
    mobileone_s0 repvgg_a0 repghostnet_050 convnext_atto convnextv2_atto darknet53 ese_vovnet19b_dw hrnet_w18_small
    selecsls42b dpn48b hgnetv2_b0 starnet_s1 vit_tiny_patch16_224 deit_tiny_patch16_224 mobilevit_xxs gernet_s
    skresnet18 xception41
""")
"""Small networks of common families."""
OTHERS = _words("""
    eca_botnext26ts_256 coat_lite_tiny convit_tiny convmixer_768_32 cpubone_nano crossvit_tiny_240 csatv2
    cspnext_tiny davit_tiny efficientvim_m1 efficientvit_m0 focalnet_tiny_srf gcvit_xxtiny hiera_tiny_224
    hieradet_small iformer_t lcnetv2_small lowformer_b0 mambaout_femto coatnet_pico_rw_224 mvitv2_tiny nest_tiny
    nextvit_small nf_regnet_b0 pit_ti_224 pvt_v2_b0 rdnet_tiny legacy_seresnet18 sequencer2d_s swiftformer_xs
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 tnt_s_patch16_224 tresnet_m twins_svt_small visformer_tiny
    vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 vitamin_small_224 volo_d1_224 legacy_xception inception_v4
    inception_resnet_v2 samvit_base_patch16_224 naflexvit_base_patch16_gap qwen3_vit_88m mobilenetv5_base
    nasnetalarge pnasnet5large deepseek_vit_412m gemma4_vit_167m
""")
"""A small classifier of each model family of timm that has none above."""
ALL = (*HARD, *COMMON, *OTHERS)


def family(arch: str) -> str:
    """Return the module of timm that defines an architecture."""
    from timm.models import _registry

    return _registry._model_to_module[arch]


def tried(arch: str, export: bool = True) -> dict[str, Any]:
    """Return what of a network can be pruned, and how far its ONNX file is from it.

    Raises:
        MvpEdgeError: nothing of it can be pruned.
    """
    begun = time.process_time()
    base = find_base(f"timm:{arch}")
    model = random_network(base, CLASSES)
    made = time.process_time()
    support, trial = check_architecture(base, model)
    result: dict[str, Any] = {
        "pixels": support.input_size[0], "create_s": round(made - begun, 2),
        "check_s": round(time.process_time() - made, 2), "groups": support.groups, "refused": len(support.refused),
        "params_share": round(support.params_share, 4), "macs_share": round(support.macs_share, 4),
        "difference": support.difference, "head": support.head,
        "reason": next(iter(support.refused.values()), ""), "whole": list(support.whole)[:5],
    }  # fmt: skip
    if export:
        images = torch.randn(3, 3, *support.input_size, generator=torch.Generator().manual_seed(0))
        whole = lively(model, images)
        sliced = sliced_copy(whole, trial.table, third(trial.table, set(trial.table.widths)))
        try:
            result["onnx_difference"] = onnx_difference(sliced.eval(), base, support.input_size)
        except MvpEdgeError as e:
            result["onnx_failed"] = str(e)[:300]
    return result


def onnx_difference(model: nn.Module, base: Base, size: tuple[int, int]) -> float:
    """Return the largest difference between any logits of a network and of its ONNX file.

    Raises:
        MvpEdgeError: it cannot be exported, or the two differ.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        labels = [str(i) for i in range(CLASSES)]
        export_onnx(model, path, input_size=size, mean=base.mean, std=base.std, labels=labels, metadata={})
        return verify_onnx(path, model, size, base.mean, base.std)


def beside(arch: str) -> dict[str, Any]:
    """Return whether a network runs after torch-pruning's own pruner has cut it, and the seconds that took."""
    import torch_pruning as tp

    base = find_base(f"timm:{arch}")
    model: Any = new_model(arch, CLASSES).eval()
    size = trial_size(model, base.input_size)
    image = torch.randn(2, 3, *size)
    begun = time.process_time()
    head = model.get_classifier()
    pruner = tp.pruner.BasePruner(
        model, image, importance=tp.importance.GroupMagnitudeImportance(), pruning_ratio=2 / 3,
        ignored_layers=[h for h in (head if isinstance(head, tuple) else [head]) if isinstance(h, nn.Module)],
    )  # fmt: skip
    pruner.step()
    with torch.no_grad():
        model(image)
    return {"runs": True, "seconds": round(time.process_time() - begun, 2)}


def limited(work: Callable[[str], dict[str, Any]], arch: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Return what `work` returns, or under `failed` why there is nothing, from a process of its own.

    Args:
        work: Takes the name of an architecture.
        arch: The architecture.
        limit_s: Processor seconds; then the process ends.
    """
    context = multiprocessing.get_context("fork")  # which need not import everything again
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, arch, limit_s, sender))
    process.start()
    sender.close()
    try:
        text = receiver.recv()
    except EOFError:
        text = ""
    process.join()
    if text:
        return json.loads(text)
    overrun = process.exitcode == -signal.SIGPROF
    return {"failed": f"no end within {limit_s:g} processor seconds" if overrun else f"exit status {process.exitcode}"}


def _answer(work: Callable[[str], dict[str, Any]], arch: str, limit_s: float, sender: Any) -> None:
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        result = work(arch)
    except MvpEdgeError as e:
        result = {"failed": str(e)[:300]}
    except Exception as e:  # noqa: BLE001 - a traceback is what the table must show
        result = {"failed": f"{type(e).__name__}: {e}"[:300], "traceback": True}
    sender.send(json.dumps(result))


def main(argv: Sequence[str]) -> None:
    """Try networks and append a record for each."""
    script = Script("architectures", __doc__)
    script.add("--only", default="", help="names, separated by commas; default: all")
    script.add("--again", action="store_true", help="also those that have a record")
    script.add("--beside", action="store_true", help="let torch-pruning's own pruner cut them instead")
    args = script.parse(argv)
    method = "torch-pruning" if args.beside else "mvp-edge"
    done = set() if args.again else {r["config"]["arch"] for r in latest(method)}
    default = (*HARD, *COMMON) if args.beside else ALL
    for arch in args.only.split(",") if args.only else default:
        if arch not in done:
            config = {"arch": arch, "family": family(arch), "method": method, "seed": 0}
            log.info("%s", arch)
            work, limit_s = (beside, BESIDE_S) if args.beside else (tried, LIMIT_S)
            script.record(config, limited(work, arch, limit_s))


def latest(method: str = "mvp-edge") -> list[dict[str, Any]]:
    """Return the last record of each architecture."""
    found = {r["config"]["arch"]: r for r in records.read("architectures") if r["config"]["method"] == method}
    return [found[arch] for arch in ALL if arch in found]
