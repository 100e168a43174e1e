"""A network's parts as ONNX graphs, built from its weights with `onnx.helper`.

    embed    image (1, C, H, W)      ─► tokens (n+1, d)
    block    tokens (n+1, d)         ─► tokens (n+1, d), scores (n,)
    exit     cls (1, d), u (1, du)   ─► logits (1, classes), u (1, du)      linear exits: no u

and of a network with gates, whose blocks take any number of tokens,

    budget   alpha (1, 1)            ─► token (1, d)
    gate     tokens (k+2, d)         ─► weights (k,)

Written out, not traced: an exporter's result, speed and warnings change with every torch, and a dozen
operators say it all. Batch 1, one graph a part, so that every split and every exit can be run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ..models.card import ModelCard
from ..models.vit import SplitViT, StemBlock

__all__ = ["OPSET", "block_graph", "budget_graph", "embed_graph", "exit_graph", "gate_graph"]

OPSET = 20
"""The first with Gelu; ONNX Runtime has run it since 1.18."""

_IR_VERSION = 9
_LIMIT = int(np.iinfo(np.int64).max)
_SAME = 0
"""In a shape: the size that this axis has already."""


class _Graph:
    """Collects nodes and constants; every method gives the name of its result."""

    def __init__(self, name: str, **inputs: tuple[int | str, ...]) -> None:
        self._name = name
        self._inputs = [_value(key, shape) for key, shape in inputs.items()]
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self._nodes)}_{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: torch.Tensor | np.ndarray | list[int]) -> str:
        if isinstance(value, torch.Tensor):
            value = value.detach().float().numpy()
        array = np.ascontiguousarray(value, np.int64 if isinstance(value, list) else None)
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def linear(self, x: str, layer: nn.Linear) -> str:
        return str(self.add("Gemm", x, self.constant(layer.weight), self.constant(layer.bias), transB=1))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        weight, bias = self.constant(layer.weight), self.constant(layer.bias)
        return str(self.add("LayerNormalization", x, weight, bias, epsilon=layer.eps))

    def reshape(self, x: str, *shape: int) -> str:
        return str(self.add("Reshape", x, self.constant(list(shape))))

    def model(self, model_id: str, **outputs: tuple[str, tuple[int | str, ...]]) -> onnx.ModelProto:
        for name, (value, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        results = [_value(name, shape) for name, (_, shape) in outputs.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, results, self._constants)
        model = helper.make_model(
            graph, producer_name="splitpoint", opset_imports=[helper.make_opsetid("", OPSET)]
        )
        model.ir_version = _IR_VERSION
        helper.set_model_props(model, {"model_id": model_id})
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, shape: tuple[int | str, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def embed_graph(network: SplitViT, card: ModelCard) -> onnx.ModelProto:
    """The stem, CLS and positions."""
    graph = _Graph("embed", image=(1, card.channels, *card.image_size))
    stem: Any = network.patch_embed.proj
    x = "image"
    for layer in stem if isinstance(stem, nn.Sequential) else (stem,):
        x = _stem_layer(graph, x, layer)
    rows = graph.add("Transpose", graph.reshape(x, card.dim, card.patch_tokens), perm=[1, 0])
    positions = network.pos_embed[0]
    cls = graph.constant(network.cls_token[0] + positions[:1])
    patches = graph.add("Add", rows, graph.constant(positions[1:]))
    tokens = graph.add("Concat", cls, patches, axis=0)
    return graph.model(card.id, tokens=(tokens, (card.patch_tokens + 1, card.dim)))


def block_graph(network: SplitViT, card: ModelCard, index: int) -> onnx.ModelProto:
    """Block `index`, and the attention from CLS to the other tokens, mean over heads."""
    dim, heads = card.dim, card.heads
    count: int | str = "tokens" if card.gates else card.patch_tokens + 1
    others: int | str = "others" if card.gates else card.patch_tokens
    width = dim // heads
    block: Any = network.blocks[index]
    graph = _Graph(f"block {index}", tokens=(count, dim))
    qkv = graph.linear(graph.norm("tokens", block.norm1), block.attn.qkv)
    apart = graph.add("Transpose", graph.reshape(qkv, _SAME, 3, heads, width), perm=[1, 2, 0, 3])
    q, k, v = graph.add("Split", apart, outputs=3, axis=0, num_outputs=3)
    q = graph.add("Mul", q, graph.constant(np.array(width**-0.5, np.float32)))
    product = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
    attention = graph.add("Softmax", product, axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", attention, v), perm=[0, 2, 1, 3])
    x = graph.add("Add", "tokens", graph.linear(graph.reshape(mixed, -1, dim), block.attn.proj))
    hidden = graph.add("Gelu", graph.linear(graph.norm(x, block.norm2), block.mlp.fc1))
    out = graph.add("Add", x, graph.linear(hidden, block.mlp.fc2))
    starts, ends, axes = ([0, 1], [1, _LIMIT], [2, 3])
    row = graph.add("Slice", attention, *(graph.constant(part) for part in (starts, ends, axes)))
    scores = graph.add("ReduceMean", row, graph.constant([0, 1, 2]), keepdims=0)
    return graph.model(card.id, tokens_out=(out, (count, dim)), scores=(scores, (others,)))


def budget_graph(network: SplitViT, card: ModelCard) -> onnx.ModelProto:
    """alpha t_low + (1 - alpha) t_up."""
    graph = _Graph("budget", alpha=(1, 1))
    low, up = (graph.constant(end[0]) for end in (network.gates.low, network.gates.up))
    rest = graph.add("Sub", graph.constant(np.ones((1, 1), np.float32)), "alpha")
    token = graph.add("Add", graph.add("Mul", "alpha", low), graph.add("Mul", rest, up))
    return graph.model(card.id, token=(token, (1, card.dim)))


def gate_graph(network: SplitViT, card: ModelCard, index: int) -> onnx.ModelProto:
    """m of the gate in front of block `index`: relu(sigmoid(w x + b) - sigmoid(v x_budget + c))."""
    graph, gates = _Graph(f"gate {index}", tokens=("tokens", card.dim)), network.gates

    def opened(start: int, end: int, weight: torch.Tensor, bias: torch.Tensor) -> str:
        rows = graph.add("Slice", "tokens", *(graph.constant([part]) for part in (start, end, 0)))
        product = graph.add("MatMul", rows, graph.constant(weight[index - 1, :, None]))
        return str(graph.add("Sigmoid", graph.add("Add", product, graph.constant(bias[index - 1 : index]))))

    excess = graph.add("Sub", opened(1, -1, gates.w, gates.b), opened(-1, _LIMIT, gates.v, gates.c))
    weights = graph.add("Squeeze", graph.add("Relu", excess), graph.constant([1]))
    return graph.model(card.id, weights=(weights, ("patches",)))


def exit_graph(network: SplitViT, card: ModelCard, index: int) -> onnx.ModelProto:
    """Exit `index` on the CLS token: logits, and of recursive exits the state u."""
    part: Any = network.exits[index]
    if card.exit_kind == "linear":
        graph = _Graph(f"exit {index}", cls=(1, card.dim))
        logits = graph.linear(graph.norm("cls", part.norm), part.head)
        return graph.model(card.id, logits=(logits, (1, card.class_count)))
    graph = _Graph(f"exit {index}", cls=(1, card.dim), u=(1, card.exit_state_dim))
    value = graph.add("Gelu", graph.linear(graph.norm("cls", part.norm), part.e))
    state = graph.add("Gelu", graph.linear(graph.add("Concat", value, "u", axis=1), network.phi))
    logits = graph.linear(state, part.p)
    return graph.model(
        card.id, logits=(logits, (1, card.class_count)), u_out=(state, (1, card.exit_state_dim))
    )


def _stem_layer(graph: _Graph, x: str, layer: nn.Module) -> str:
    if isinstance(layer, StemBlock):
        inner = x
        for part in (layer.conv1, layer.norm1, layer.act, layer.conv2, layer.norm2):
            inner = _stem_layer(graph, inner, part)
        return str(graph.add("Add", x, inner))
    if isinstance(layer, nn.Conv2d):
        stride, padding = list(layer.stride), [int(side) for side in layer.padding]
        weights = [graph.constant(layer.weight)]
        if layer.bias is not None:
            weights.append(graph.constant(layer.bias))
        return str(graph.add("Conv", x, *weights, strides=stride, pads=padding + padding))
    if isinstance(layer, nn.BatchNorm2d):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        arrays = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        names = [graph.constant(array) for array in arrays]
        return str(graph.add("BatchNormalization", x, *names, epsilon=layer.eps))
    assert isinstance(layer, nn.GELU)
    return str(graph.add("Gelu", x))
