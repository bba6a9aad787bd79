"""The devices that a result can be deployed to, and how much of a model their execution providers may run.

Eligibility of operators, never latency. For NNAPI and Core ML it comes from onnxruntime's
`mobile_helpers.usability_checker`. That has no list for XNNPACK and QNN; for those its partitioning runs on the
operators that onnxruntime's documentation lists.

References:
    https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html#supported-ops
    https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html#supported-onnx-operators
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast, get_args

from mvp_edge.core.errors import ExportError

Provider = Literal["NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram", "XNNPACK", "QNN"]
Verdict = Literal["yes", "maybe", "no"]
CHECKER, DOCUMENTED = "usability checker", "documented operators"

# Names as in the documentation, with ONNX's own spelling where it differs ("Matmul", "Prelu").
XNNPACK = """
AveragePool Conv ConvTranspose MaxPool Softmax QLinearConv Resize Gemm MatMul com.microsoft:QLinearAveragePool
com.microsoft:QLinearSoftmax com.microsoft:QLinearConvTranspose
"""
QNN = """
Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos
DepthToSpace DequantizeLinear Div Elu Equal Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater
GreaterOrEqual GridSample HardSwish InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log
LogSoftmax LpNormalization MatMul Max MaxPool Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear ReduceMax
ReduceMean ReduceMin ReduceProd ReduceSum Relu Resize Round Sigmoid Sign Sin Slice Softmax SpaceToDepth Split
Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze Where com.microsoft:DequantizeLinear com.microsoft:Gelu
com.microsoft:QuantizeLinear
"""
DOCUMENTED_OPERATORS = {"XNNPACK": XNNPACK, "QNN": QNN}
# Files of the usability checker.
COREML_LISTS = {
    "CoreML NeuralNetwork": "coreml_supported_neuralnetwork_ops.md",
    "CoreML MLProgram": "coreml_supported_mlprogram_ops.md",
}


@dataclass(frozen=True)
class Eligibility:
    """How much of a model an execution provider may run.

    Attributes:
        basis: Source: onnxruntime's usability checker, or its list of documented operators.
        nodes: Number of nodes after the optimisations that all providers share.
        supported: How many of these have a supported operator; limits on attributes are not checked.
        partitions: Number of connected pieces of supported nodes; each switch between processors costs time.
        verdict: The checker's rule of thumb; None for a provider that runs on the CPU, where switching is free.
        unsupported: Operators that stay on the CPU.
    """

    provider: Provider
    basis: str
    nodes: int
    supported: int
    partitions: int
    verdict: Verdict | None
    unsupported: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        return {**asdict(self), "unsupported": list(self.unsupported)}


class _Operators:
    """A list of operators with the interface of onnxruntime's own checkers."""

    def __init__(self, names: str) -> None:
        self._names = frozenset(names.split())

    def is_op_supported(self, node: Any) -> bool:
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
        return name in self._names

    def get_caveats(self) -> list[str]:
        return []


def eligibility(path: Path, providers: Sequence[Provider]) -> list[Eligibility]:
    """Return how much of the ONNX file at `path`, whose batch must be fixed, each provider may run.

    Raises:
        ExportError: onnxruntime's checker cannot read the model.
    """
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

    try:
        with TemporaryDirectory() as scratch:
            optimised = Path(scratch) / "model.onnx"
            optimize_model(path, optimised)
            model = ModelProtoWithShapeInfo(optimised).model_with_shape_info
        return [_eligibility(provider, model) for provider in providers]
    except Exception as e:  # the checker raises errors of any type
        raise ExportError(
            f"ONNX Runtime's checker cannot read {path} ({str(e).splitlines()[0]}); make it again with: mvp-edge prune"
        ) from e


def _eligibility(provider: Provider, model: Any) -> Eligibility:
    """Check one provider; `model` as onnxruntime's tools load it."""
    from onnxruntime.tools.mobile_helpers import usability_checker as checker

    if documented := DOCUMENTED_OPERATORS.get(provider):
        info = checker.check_partitioning(model.graph, cast(Any, _Operators(documented)), True)
    elif provider == "NNAPI":
        info = checker.check_nnapi_partitions(model, True)
    else:
        info = checker.check_coreml_partitions(model, True, COREML_LISTS[provider])
    return Eligibility(
        provider=provider,
        basis=DOCUMENTED if documented else CHECKER,
        nodes=info.num_nodes,
        supported=info.num_supported_nodes,
        partitions=info.num_partitions,
        verdict=None if provider == "XNNPACK" else cast(Verdict, info.suitability().name.lower()),
        unsupported=tuple(sorted(op.removeprefix("ai.onnx:") for op in info.unsupported_ops)),
    )


Target = Literal["android", "ios", "web", "ort", "litert", "coreml", "ncnn"]
Style = Literal["Fixed", "Runtime"]


@dataclass(frozen=True)
class Needs:
    """Requirements of a target for its model files.

    Attributes:
        title: Name for readers.
        batch: Fixed batch size, or None for any. NNAPI and QNN do not accept a free dimension, and Core ML is slower
            with one.
        styles: Optimisation styles of the converter: `Fixed` applies all fusions of the CPU provider; `Runtime` keeps
            the plain operators, which other execution providers can run. None for another runtime than ONNX Runtime.
        platform: Processor that the converter optimises for.
        providers: Execution providers to choose from besides the CPU's; none for the web, which uses WebAssembly only.
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
    "litert": Needs("LiteRT", 1, (), None, ()),
    "coreml": Needs("Core ML", 1, (), None, ()),
    "ncnn": Needs("ncnn", 1, (), None, ()),
}
