"""The encoder as an ONNX graph, quantized here so that its bytes depend on the weights and this file only.

One text a call: the graph takes the token ids of one text and gives its normalized vector. Weights are symmetric int8 by
output column, within ±64: two products with unsigned bytes then fit in 16 bits, so processors without VNNI, which add them
there, saturate nothing and agree with those that have it. Activations are scaled by the text they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

LAYERS: Final = 6
HIDDEN: Final = 384
HEADS: Final = 12
HEAD: Final = HIDDEN // HEADS
MAX_TOKENS: Final = 256
EPSILON: Final = 1e-12
_LIMIT: Final = 64.0

Weights = Mapping[str, NDArray[np.float32]]


def build_graph(weights: Weights, *, quantized: bool = True) -> ModelProto:
    """The checked model: input `input_ids` int64 [1, tokens], output `vector` float32 [1, 384] of length one."""
    graph = _Graph(weights, quantized)
    hidden = _embeddings(graph)
    for layer in range(LAYERS):
        hidden = _layer(graph, hidden, f"encoder.layer.{layer}.", f"layer{layer}.")
    _pooling(graph, hidden)
    model = helper.make_model(graph.finish(), opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants in the order they were made."""

    def __init__(self, weights: Weights, quantized: bool) -> None:
        self.weights = weights
        self._quantized = quantized
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._scaled: dict[str, tuple[str, str, str]] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def norm(self, value: str, key: str, name: str) -> str:
        scale = self.constant(name + ".scale", self.weights[key + ".weight"])
        bias = self.constant(name + ".bias", self.weights[key + ".bias"])
        return self.node("LayerNormalization", [value, scale, bias], name, axis=-1, epsilon=EPSILON)

    def linear(self, value: str, key: str, name: str) -> str:
        matrix = self.weights[key + ".weight"].T
        product = self._integer_product(value, matrix, name) if self._quantized else self._product(value, matrix, name)
        return self.node("Add", [product, self.constant(name + ".bias", self.weights[key + ".bias"])], name)

    def lookup(self, table: NDArray[np.float32], ids: str, name: str) -> str:
        if not self._quantized:
            return self.node("Gather", [self.constant(name + ".table", table), ids], name)
        integers, scales = quantize(table, axis=1)
        rows = self.node("Gather", [self.constant(name + ".table", integers), ids], name + ".rows")
        scale = self.node("Gather", [self.constant(name + ".scales", scales), ids], name + ".scale")
        return self.node("Mul", [self.node("Cast", [rows], name + ".float", to=TensorProto.FLOAT), scale], name)

    def _product(self, value: str, matrix: NDArray[np.float32], name: str) -> str:
        return self.node("MatMul", [value, self.constant(name + ".weight", matrix)], name + ".product")

    def _integer_product(self, value: str, matrix: NDArray[np.float32], name: str) -> str:
        integers, scales = quantize(matrix, axis=0)
        scaled, scale, zero = self._activations(value)
        weight = self.constant(name + ".weight", integers)
        weight_zero = self.constant(name + ".zero", np.zeros(matrix.shape[1], np.int8))
        product = self.node("MatMulInteger", [scaled, weight, zero, weight_zero], name + ".integer")
        product = self.node("Cast", [product], name + ".float", to=TensorProto.FLOAT)
        both = self.node("Mul", [scale, self.constant(name + ".scales", scales[0])], name + ".scale")
        return self.node("Mul", [product, both], name + ".product")

    def _activations(self, value: str) -> tuple[str, str, str]:
        if value not in self._scaled:
            names = (value + ".u8", value + ".u8.scale", value + ".u8.zero")
            self._nodes.append(helper.make_node("DynamicQuantizeLinear", [value], list(names), name=names[0]))
            self._scaled[value] = names
        return self._scaled[value]

    def finish(self) -> Any:
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
        vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, HIDDEN])
        return helper.make_graph(self._nodes, "all-MiniLM-L6-v2", [ids], [vector], list(self._constants.values()))


def quantize(matrix: NDArray[np.float32], *, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers within ±64 and the scales to multiply them by, one for each slice along `axis`."""
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / np.float32(_LIMIT), np.float32(1)).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _embeddings(graph: _Graph) -> str:
    """Words plus positions; the token type is always 0 and folded into the positions."""
    weights, prefix = graph.weights, "embeddings."
    words = graph.lookup(weights[prefix + "word_embeddings.weight"], "input_ids", "words")
    positions = (weights[prefix + "position_embeddings.weight"] + weights[prefix + "token_type_embeddings.weight"][0])[:MAX_TOKENS]
    one, two = graph.constant("one", np.array([1], np.int64)), graph.constant("two", np.array([2], np.int64))
    zero = graph.constant("zero", np.array([0], np.int64))
    length = graph.node("Slice", [graph.node("Shape", ["input_ids"], "shape"), one, two], "length")
    table = graph.node("Slice", [graph.constant("position.table", positions), zero, length, zero], "positions")
    return graph.norm(graph.node("Add", [words, table], "embedded"), prefix + "LayerNorm", "embedded.norm")


def _layer(graph: _Graph, value: str, key: str, name: str) -> str:
    mixed = graph.linear(_attention(graph, value, key + "attention.self.", name), key + "attention.output.dense", name + "mixed")
    value = graph.norm(graph.node("Add", [value, mixed], name + "sum1"), key + "attention.output.LayerNorm", name + "norm1")
    wide = graph.node("Gelu", [graph.linear(value, key + "intermediate.dense", name + "wide")], name + "gelu")
    narrow = graph.linear(wide, key + "output.dense", name + "narrow")
    return graph.norm(graph.node("Add", [value, narrow], name + "sum2"), key + "output.LayerNorm", name + "norm2")


def _attention(graph: _Graph, value: str, key: str, name: str) -> str:
    split = graph.constant("heads", np.array([0, 0, HEADS, HEAD], np.int64))
    join = graph.constant("joined", np.array([0, 0, HIDDEN], np.int64))
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        heads = graph.node("Reshape", [graph.linear(value, key + part, name + part), split], f"{name}{part}.heads")
        parts[part] = graph.node("Transpose", [heads], f"{name}{part}.turned", perm=order)
    scores = graph.node("MatMul", [parts["query"], parts["key"]], name + "scores")
    scores = graph.node("Mul", [scores, graph.constant("scale", np.array(HEAD**-0.5, np.float32))], name + "scaled")
    weights = graph.node("Softmax", [scores], name + "softmax", axis=-1)
    heads = graph.node("Transpose", [graph.node("MatMul", [weights, parts["value"]], name + "seen")], name + "turned", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [heads, join], name + "attended")


def _pooling(graph: _Graph, value: str) -> None:
    axis = graph.constant("one", np.array([1], np.int64))
    mean = graph.node("ReduceMean", [value, axis], "mean", keepdims=0)
    length = graph.node("ReduceL2", [mean, axis], "mean.length", keepdims=1)
    graph.node("Div", [mean, length], "vector")
