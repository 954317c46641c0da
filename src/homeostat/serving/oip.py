"""The messages of `inference.GRPCInferenceService`, in a descriptor pool of their own.

The clients of Triton and of KServe each register a file of package `inference` in protobuf's
default pool, and so cannot be imported together; what lives in a pool of its own can be imported
beside either. Field numbers are those of the Open Inference Protocol, and of Triton's and
KServe's extensions of it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_NAME_AND_VERSION = ("name: string = 1", "version: string = 2")
_MODEL = "model_name: string = 1"
_PARAMETERS = "map<InferParameter>"
_TENSOR = ("name: string = 1", "datatype: string = 2", "shape: repeated int64 = 3")

_CHANGE = (
    "repository_name: string = 1",
    "model_name: string = 2",
    "parameters: map<ModelRepositoryParameter> = 3",
)
MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live: bool = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready: bool = 1",),
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": ("ready: bool = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (*_NAME_AND_VERSION, "extensions: repeated string = 3"),
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "ModelMetadataResponse": (
        "name: string = 1",
        "versions: repeated string = 2",
        "platform: string = 3",
        "inputs: repeated ModelMetadataResponse.TensorMetadata = 4",
        "outputs: repeated ModelMetadataResponse.TensorMetadata = 5",
        "properties: map<string> = 6",
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "bool_param: bool = 1 in parameter_choice",
        "int64_param: int64 = 2 in parameter_choice",
        "string_param: string = 3 in parameter_choice",
        "double_param: double = 4 in parameter_choice",
        "uint64_param: uint64 = 5 in parameter_choice",
    ),
    "InferTensorContents": (
        "bool_contents: repeated bool = 1",
        "int_contents: repeated int32 = 2",
        "int64_contents: repeated int64 = 3",
        "uint_contents: repeated uint32 = 4",
        "uint64_contents: repeated uint64 = 5",
        "fp32_contents: repeated float = 6",
        "fp64_contents: repeated double = 7",
        "bytes_contents: repeated bytes = 8",
    ),
    "ModelInferRequest": (
        _MODEL,
        "model_version: string = 2",
        "id: string = 3",
        f"parameters: {_PARAMETERS} = 4",
        "inputs: repeated ModelInferRequest.InferInputTensor = 5",
        "outputs: repeated ModelInferRequest.InferRequestedOutputTensor = 6",
        "raw_input_contents: repeated bytes = 7",
    ),
    "ModelInferRequest.InferInputTensor": (
        *_TENSOR,
        f"parameters: {_PARAMETERS} = 4",
        "contents: InferTensorContents = 5",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": (
        "name: string = 1",
        f"parameters: {_PARAMETERS} = 2",
    ),
    "ModelInferResponse": (
        _MODEL,
        "model_version: string = 2",
        "id: string = 3",
        f"parameters: {_PARAMETERS} = 4",
        "outputs: repeated ModelInferResponse.InferOutputTensor = 5",
        "raw_output_contents: repeated bytes = 6",
    ),
    "ModelInferResponse.InferOutputTensor": (
        *_TENSOR,
        f"parameters: {_PARAMETERS} = 4",
        "contents: InferTensorContents = 5",
    ),
    "RepositoryIndexRequest": ("repository_name: string = 1", "ready: bool = 2"),
    "RepositoryIndexResponse": ("models: repeated RepositoryIndexResponse.ModelIndex = 1",),
    "RepositoryIndexResponse.ModelIndex": (
        *_NAME_AND_VERSION,
        "state: string = 3",
        "reason: string = 4",
    ),
    # KServe sends the model as field 1, Triton as field 2 behind the name of a repository
    "ModelRepositoryParameter": (
        "bool_param: bool = 1 in parameter_choice",
        "int64_param: int64 = 2 in parameter_choice",
        "string_param: string = 3 in parameter_choice",
        "bytes_param: bytes = 4 in parameter_choice",
    ),
    "RepositoryModelLoadRequest": _CHANGE,
    "RepositoryModelLoadResponse": (_MODEL, "isLoaded: bool = 2"),
    "RepositoryModelUnloadRequest": _CHANGE,
    "RepositoryModelUnloadResponse": (_MODEL, "isUnloaded: bool = 2"),
}

"""Name -> fields: `name: [repeated | map] type = number [in oneof]`."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="homeostat/inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.partition(".")
        message = made[outer].nested_type.add(name=inner) if inner else file.message_type.add()
        message.name = inner or outer
        made[name] = message
        for text in fields:
            _add_field(message, name, text)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, inside: str, text: str) -> None:
    """`name: [repeated] type = number [in oneof]`."""
    name, _, rest = text.partition(": ")
    kind, _, rest = rest.partition(" = ")
    number, _, oneof = rest.partition(" in ")
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.startswith("repeated "):
        kind, field.label = kind.removeprefix("repeated "), _Field.LABEL_REPEATED
    if kind.startswith("map<"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "", "key: string = 1")
        _add_field(entry, "", f"value: {kind[4:-1]} = 2")
        kind, field.label = f"{inside}.{entry.name}", _Field.LABEL_REPEATED
    if oneof:
        if not message.oneof_decl:
            message.oneof_decl.add(name=oneof)
        field.oneof_index = 0
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Any:
    """The class of a message, such as `ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
