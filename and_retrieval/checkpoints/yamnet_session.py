"""YAMNet as an ONNX Runtime session: on a processor, the same logits in about a third of torch's time.

The runtime joins convolution, bias and ReLU, and keeps channels in blocks as wide as the processor's vectors. The graph
is built from the torch network, whose tests hold its weights. Nothing is hooked here: the network as a target to be
explained is the torch one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import MissingExtraError
from .yamnet import MELS, PATCH_FRAMES, ConvRelu, Yamnet

if TYPE_CHECKING:
    import onnx

OPSET, FORMAT = 17, 8  # of ONNX; any runtime since 2022 reads them


class YamnetSession:
    """Log-mel patches [..., 1, 96, 64] -> logits [..., 521], as `Yamnet.forward`."""

    def __init__(self, network: Yamnet) -> None:
        """Build the session of a network, on as many threads as torch uses.

        Raises:
            MissingExtraError: `onnx` or `onnxruntime` is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("the embedded embedder", "embedded") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to others
        self._session = onnxruntime.InferenceSession(
            _graph(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """See the class; both on the CPU."""
        flat = np.ascontiguousarray(patches.reshape(-1, 1, PATCH_FRAMES, MELS).numpy())
        (logits,) = self._session.run(None, {"patches": flat})
        return torch.from_numpy(logits).reshape(*patches.shape[:-3], -1)


def _graph(network: Yamnet) -> onnx.ModelProto:
    """The network in ONNX: convolutions with ReLU, the mean over time and frequency, and the classifier."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, last = [], [], "patches"
    for number, layer in enumerate(module for module in network.modules() if isinstance(module, ConvRelu)):
        names = [f"weight {number}", f"bias {number}"]
        assert layer.conv.bias is not None
        weights += [(names[0], layer.conv.weight), (names[1], layer.conv.bias)]
        left, right, top, bottom = layer.pad.padding
        nodes += [
            helper.make_node(
                "Conv",
                [last, *names],
                [f"convolved {number}"],
                pads=[top, left, bottom, right],
                strides=list(layer.conv.stride),
                group=layer.conv.groups,
            ),
            helper.make_node("Relu", [f"convolved {number}"], [f"layer {number}"]),
        ]
        last = f"layer {number}"
    last_layer = network.classifier
    weights += [("weight", last_layer.weight), ("bias", last_layer.bias)]
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "yamnet",
        [helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", 1, PATCH_FRAMES, MELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", last_layer.out_features])],
        [numpy_helper.from_array(np.ascontiguousarray(value.numpy()), name) for name, value in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=FORMAT)
