"""Our numbers of the TFLite schema are those of the schema, as a runtime's own generated code
has them."""

from __future__ import annotations

import pytest

from split_core.model import schema

generated = pytest.importorskip("ai_edge_litert.schema_py_generated",
                                reason="the generated schema comes with LiteRT")
# Ours: theirs, where that is called otherwise.
TABLES = {schema.Model: "Model", schema.OperatorCode: "OperatorCode",
          schema.SubGraph: "SubGraph", schema.Tensor: "Tensor",
          schema.Quantization: "QuantizationParameters", schema.Operator: "Operator",
          schema.Buffer: "Buffer", schema.Metadata: "Metadata",
          schema.SignatureDef: "SignatureDef", schema.TensorMap: "TensorMap"}
OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
           "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions", "SUB": "SubOptions",
           "MUL": "MulOptions", "DIV": "DivOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
           "MAX_POOL_2D": "Pool2DOptions", "CONCATENATION": "ConcatenationOptions",
           "TRANSPOSE_CONV": "TransposeConvOptions"}


class Builder:
    """Takes what generated code writes, and remembers where it wanted to put it."""

    def __init__(self):
        self.number: int | None = None

    def __getattr__(self, name: str):
        def take(number: int, *_rest) -> None:
            self.number = number
        return take


def slot(table: str, field: str) -> int:
    builder = Builder()
    getattr(generated, f"{table}Add{field}")(builder, 1)
    return builder.number


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


@pytest.mark.parametrize("ours", TABLES, ids=TABLES.get)
def test_slots(ours):
    # A deprecated field has its number, and nobody writes it.
    found = {n: v for n, v in vars(ours).items()
             if n.isupper() and n not in ("FIELDS", "DEPRECATED_TAG")}
    assert found == {name: slot(TABLES[ours], camel(name)) for name in found}
    builder = Builder()
    getattr(generated, f"{TABLES[ours]}Start")(builder)
    fields = getattr(ours, "FIELDS", max(found.values()) + 1)
    assert max(found.values()) < fields <= builder.number


def test_operators():
    numbers = {n: v for n, v in vars(generated.BuiltinOperator).items() if n.isupper()}
    ours = {name: number for number, name in enumerate(schema.BUILTIN_OPERATORS)}
    assert len(numbers) > 150 and ours | numbers == numbers | ours
    assert schema.CONTROL_FLOW <= ours.keys()


def test_types():
    numbers = {n.lower(): v for n, v in vars(generated.TensorType).items() if n.isupper()}
    ours = {name: number for number, name in enumerate(schema.TENSOR_TYPES)}
    assert len(numbers) >= 18 and {n: ours[n] for n in numbers if n in ours} == {
        n: v for n, v in numbers.items() if n in ours}
    assert set(list(numbers)[:18]) <= ours.keys()


def test_activations():
    assert {n: slot(OPTIONS[n], "FusedActivationFunction") for n in OPTIONS} == (
        schema.FUSED_ACTIVATION)
    activations = generated.ActivationFunctionType
    assert (schema.RELU, schema.RELU6) == (activations.RELU, activations.RELU6)
