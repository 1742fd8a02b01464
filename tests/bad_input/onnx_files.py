"""ONNX files of others: no models, models of something else, or such that would do harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd.artifact import create, read_manifest
from tests.bad_input.models import whole_onnx
from tests.bad_input.table import Cases, Place

SHORT = ["--max-seconds", "1"]
NOT_WHOLE = ["not a whole ONNX model", "Export it again"]
ELSEWHERE = ["which is not a file beside it", "was not opened"]
Change = Callable[[ModelProto], object]


def profiled(change: Change, *more: str) -> Callable[[Place], list[str | Path]]:
    """A good model with a change, measured."""

    def case(place: Place) -> list[str | Path]:
        model = onnx.load(whole_onnx(place))
        change(model)
        onnx.save(model, place.tmp / "m.onnx")
        return ["profile", place.tmp / "m.onnx", *SHORT, *more]

    return case


def content(data: bytes) -> Callable[[Place], list[str | Path]]:
    def case(place: Place) -> list[str | Path]:
        (place.tmp / "m.onnx").write_bytes(data)
        return ["profile", place.tmp / "m.onnx", *SHORT]

    return case


def instead(place: Place, make: Callable[[Path], None]) -> list[str | Path]:
    """Something that is no file, measured."""
    make(place.tmp / "m.onnx")
    return ["profile", place.tmp / "m.onnx"]


# ---- weights in other files ----


def apart(tensor: TensorProto, location: str) -> TensorProto:
    """The tensor with its values in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="24")
    return tensor


def external(location: str) -> Change:
    return lambda model: apart(model.graph.initializer[0], location)


def constant(location: str) -> NodeProto:
    """A node with such a tensor in it."""
    tensor = apart(numpy_helper.from_array(np.zeros(6, np.float32), "v"), location)
    return helper.make_node("Constant", [], ["stolen"], value=tensor)


def in_a_branch(model: ModelProto) -> None:
    """Such a tensor in a graph within a node."""
    value = helper.make_tensor_value_info("stolen", TensorProto.FLOAT, [6])
    branch = helper.make_graph([constant("/etc/passwd")], "branch", [], [value])
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    node = helper.make_node("If", ["condition"], ["found"], then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, node)


def in_a_function(model: ModelProto) -> None:
    opset = [helper.make_opsetid("", 18)]
    made = helper.make_function("mine", "f", [], ["stolen"], [constant("../passwd")], opset)
    model.functions.append(made)


def through_a_link(place: Place) -> list[str | Path]:
    (place.tmp / "secret").write_bytes(bytes(range(24)))
    model = onnx.load(whole_onnx(place))
    apart(model.graph.initializer[1], "m.onnx.data")
    folder = place.tmp / "models"
    folder.mkdir()
    onnx.save(model, folder / "m.onnx")
    (folder / "m.onnx.data").symlink_to(place.tmp / "secret")
    return ["profile", folder / "m.onnx", *SHORT]


def deployed(place: Place) -> list[str | Path]:
    """An artifact, whole by its manifest, whose model has its weights elsewhere."""
    manifest = {k: v for k, v in read_manifest(place.teacher).items() if k not in ("files",)}
    with create(place.tmp / "made", manifest | {"kind": "onnx"}) as folder:
        model = onnx.load(whole_onnx(place))
        apart(model.graph.initializer[0], "../../../etc/passwd")
        onnx.save(model, folder / "model.onnx")
    return ["deploy", place.tmp / "made", "-o", place.out]


# ---- graphs ----


def cyclic(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "logits"


def unknown(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Teleport"


def newer_ir(model: ModelProto) -> None:
    model.ir_version = 999


def newer_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 999


def no_inputs(model: ModelProto) -> None:
    value = model.graph.input.pop()
    shape = [1, 8, 8, 3]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.uint8), value.name))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def free_size(model: ModelProto) -> None:
    for place in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = f"side{place}"


def sized(*sizes: int) -> Change:
    """The input with other sizes."""

    def change(model: ModelProto) -> None:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        for dim, size in zip(dims, sizes, strict=True):
            dim.dim_value = size

    return change


def flat_input(model: ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    model.graph.node[0].op_type, model.graph.node[0].attribute[0].i = "Cast", TensorProto.FLOAT
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "logits"
    model.graph.output[0].type.tensor_type.ClearField("shape")


def text_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def claiming(model: ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**40])


def field(number: int, data: bytes) -> bytes:
    """A message within another one, as protobuf writes it."""
    size, digits = len(data), b""
    while size > 0x7F:
        size, digits = size >> 7, digits + bytes([size & 0x7F | 0x80])
    return bytes([8 * number + 2]) + digits + bytes([size]) + data


def nested(place: Place, depth: int) -> list[str | Path]:
    """Graphs within nodes within graphs."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)) + field(4, b"If"))
    with whole_onnx(place).open("ab") as file:
        file.write(field(7, graph))
    return ["profile", place.tmp / "m.onnx", *SHORT]


def hungry(model: ModelProto) -> None:
    """Four terabytes of zeros, in the midst of it."""
    shape = numpy_helper.from_array(np.array([10**6, 10**6]), "shape")
    model.graph.initializer.append(shape)
    large = helper.make_node("ConstantOfShape", ["shape"], ["large"])
    less = helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0)
    model.graph.node.extend([large, less])
    model.graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, []))


def looping(model: ModelProto) -> None:
    """A loop of as many rounds as a number can have."""
    int64, boolean = TensorProto.INT64, TensorProto.BOOL
    inputs = [
        helper.make_tensor_value_info("i", int64, []),
        helper.make_tensor_value_info("go", boolean, []),
        helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
    ]
    outputs = [
        helper.make_tensor_value_info("on", boolean, []),
        helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Cos", ["before"], ["after"]),
        ],
        "body",
        inputs,
        outputs,
    )
    for name, value in (("rounds", np.int64(2**62)), ("yes", np.bool_(True))):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    start = helper.make_node("ReduceMax", ["normal"], ["start"], keepdims=0)
    loop = helper.make_node("Loop", ["rounds", "yes", "start"], ["last"], body=body)
    model.graph.node.extend([start, loop])
    model.graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, []))


def says(**metadata: str) -> Change:
    def change(model: ModelProto) -> None:
        for name, value in metadata.items():
            model.metadata_props.add(key=f"edgekd.{name}", value=value)

    return change


HUNGRY = ["m.onnx: the device ran out of memory", "Use a smaller batch, a smaller or int8 model"]
DECODED = ["--clock", "end_to_end"]

CASES: Cases = {
    "onnx: empty": (content(b""), 1, NOT_WHOLE),
    "onnx: noise": (content(bytes(range(256)) * 9), 1, NOT_WHOLE),
    "onnx: endless field": (content(b"\x3a\xff\xff\xff\xff\x7f" + b"\x0a" * 99), 1, NOT_WHOLE),
    "onnx: endless number": (content(b"\x08" + b"\xff" * 99), 1, NOT_WHOLE),
    "onnx: a folder": (
        lambda p: instead(p, Path.mkdir),
        2,
        ["a folder without a manifest.json"],
    ),
    "onnx: a pipe": (
        lambda p: instead(p, os.mkfifo),
        2,
        ["there is no", "m.onnx; expected an .onnx file or an exported artifact"],
    ),
    "onnx: weights anywhere": (profiled(external("/etc/passwd")), 1, ELSEWHERE),
    "onnx: weights further up": (profiled(external("../secret")), 1, ELSEWHERE),
    "onnx: weights in a node": (
        profiled(lambda m: m.graph.node.insert(0, constant("/etc/passwd"))),
        1,
        ELSEWHERE,
    ),
    "onnx: weights in a branch": (profiled(in_a_branch), 1, ELSEWHERE),
    "onnx: weights in a function": (profiled(in_a_function), 1, ELSEWHERE),
    "onnx: weights missing": (
        profiled(external("m.onnx.data")),
        1,
        ["in a second file, 'm.onnx.data', and no such plain file came with it"],
    ),
    "onnx: weights behind a link": (
        through_a_link,
        1,
        ["'m.onnx.data', and no such plain file came", "or it is a link to another one"],
    ),
    "onnx: weights of a deployment": (deployed, 1, ELSEWHERE),
    "onnx: cyclic": (profiled(cyclic), 1, ["cannot load m.onnx"]),
    "onnx: unknown operator": (
        profiled(unknown),
        1,
        ["cannot load m.onnx", "names an operator that this"],
    ),
    "onnx: newer IR": (profiled(newer_ir), 1, ["cannot load m.onnx", "newer release"]),
    "onnx: newer opset": (profiled(newer_opset), 1, ["cannot load m.onnx", "newer release"]),
    "onnx: no inputs": (profiled(no_inputs), 1, ["m.onnx takes", "expected one picture"]),
    "onnx: no outputs": (profiled(no_outputs), 1, ["m.onnx has no outputs", "Export it again"]),
    "onnx: free size": (profiled(free_size), 1, ["leaves its height or width free"]),
    "onnx: size of nothing": (profiled(sized(1, 0, 0, 3)), 1, ["height or width free"]),
    "onnx: a flat input": (profiled(flat_input), 1, ["expected one picture"]),
    "onnx: a text input": (
        profiled(text_input),
        1,
        ["m.onnx takes x: string[", "expected one picture", "Export it for numbers"],
    ),
    "onnx: a huge picture": (profiled(sized(1, 10**6, 10**6, 3)), 1, HUNGRY),
    "onnx: claims exabytes": (profiled(claiming), 1, ["cannot load m.onnx"]),
    "onnx: deeply nested": (lambda p: nested(p, 10**4), 1, NOT_WHOLE),
    "onnx: hungry": (profiled(hungry), 1, HUNGRY),
    "onnx: odd size": (
        profiled(says(size="[1000000000, 2]"), *DECODED),
        2,
        ["says of its images", "Expected height and width up to 8192"],
    ),
    "onnx: no size": (profiled(says(size="["), *DECODED), 2, ["says of its images"]),
    "onnx: odd crop": (profiled(says(crop_pct="nan"), *DECODED), 2, ["says of its images"]),
    "onnx: an endless loop": (
        profiled(looping),
        1,
        ["was not loaded and run once within 60 s", "--max-seconds"],
    ),
}

SLOW = {"onnx: an endless loop": "a minute"}
