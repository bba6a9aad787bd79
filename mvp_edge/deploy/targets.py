"""The kinds of device that a result can be deployed to, and what each of them wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mvp_edge.deploy.providers import Provider

Target = Literal["android", "ios", "web", "ort"]
Style = Literal["Fixed", "Runtime"]


@dataclass(frozen=True)
class Needs:
    """What a target wants of its model files.

    Attributes:
        title: How people call it.
        batch: Batch size that is fixed, or None to leave it free. NNAPI and QNN take no free dimension and Core ML
            is slower with one; a generic target may well serve batches.
        styles: How the converter optimises: `Fixed` bakes in all of the CPU's fusions; `Runtime` keeps the plain
            operators, which is what other execution providers can take over.
        platform: Processor that the converter is told of.
        providers: Execution providers that a developer for the target can choose from, besides the CPU's own; none for
            the web, whose code asks for WebAssembly only.
    """

    title: str
    batch: int | None
    styles: tuple[Style, ...]
    platform: Literal["arm"] | None
    providers: tuple[Provider, ...]


NEEDS: dict[Target, Needs] = {
    "android": Needs("Android", 1, ("Fixed", "Runtime"), "arm", ("NNAPI", "XNNPACK", "QNN")),
    "ios": Needs("iOS", 1, ("Fixed", "Runtime"), "arm", ("CoreML NeuralNetwork", "CoreML MLProgram", "XNNPACK")),
    "web": Needs("the web", 1, ("Fixed",), None, ()),
    "ort": Needs("ONNX Runtime", None, ("Fixed", "Runtime"), None, get_args(Provider)),
}
