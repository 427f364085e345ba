"""From gRPC's errors to ours: the only map."""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from wavekeep import errors

_DOMAIN = "wavekeep"
_DETAILS = "grpc-status-details-bin"
_CLASSES: dict[str, type[errors.Refused]] = {
    "INVALID_QUESTION": errors.InvalidRequest,
    "INVALID_FILTER": errors.InvalidFilter,
    "UNKNOWN_NAME": errors.UnknownName,
    "NOTHING_STORED": errors.NothingStored,
    "ANSWER_TOO_LARGE": errors.AnswerTooLarge,
    "STREAMS_OVERLAP": errors.StreamsOverlap,
    "TOO_MANY_QUESTIONS": errors.Busy,
    "TOO_MANY_CALLS": errors.Busy,
    "LATER_VERSION": errors.Unsupported,
    "DAMAGED": errors.DamagedStore,
    "DATABASE_UNAVAILABLE": errors.DatabaseUnavailable,
    "INVALID_REQUEST": errors.InvalidRequest,
    "RUN_EXISTS": errors.RunExists,
    "RUN_RECORDED": errors.RunRecorded,
    "PARENT_CIRCLE": errors.ParentCircle,
    "COMMIT_UNANSWERED": errors.CommitUnanswered,
}
_BY_CODE: dict[str, type[errors.Refused]] = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "NOT_FOUND": errors.UnknownName,
    "OUT_OF_RANGE": errors.NothingStored,
    "RESOURCE_EXHAUSTED": errors.Busy,
    "UNIMPLEMENTED": errors.Unsupported,
    "DATA_LOSS": errors.DamagedStore,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.Forbidden,
}


@cache
def _messages() -> tuple[type[Message], type[Message]]:
    """`google.rpc.Status` and `ErrorInfo`, in a pool of their own: another package may bring the same files."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="wavekeep/rpc.proto", package="wavekeep.rpc", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, bool]) -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            one = made.field.add(name=label, number=number, type=kind)
            one.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        return made

    message("Any", ("type_url", 1, field.TYPE_STRING, False), ("value", 2, field.TYPE_BYTES, False))
    message("Pair", ("key", 1, field.TYPE_STRING, False), ("value", 2, field.TYPE_STRING, False))
    status = message("Status", ("message", 2, field.TYPE_STRING, False), ("details", 3, field.TYPE_MESSAGE, True))
    status.field[1].type_name = ".wavekeep.rpc.Any"
    info = message(
        "ErrorInfo",
        ("reason", 1, field.TYPE_STRING, False),
        ("domain", 2, field.TYPE_STRING, False),
        ("metadata", 3, field.TYPE_MESSAGE, True),
    )
    # A map is a list of pairs on the wire.
    info.field[2].type_name = ".wavekeep.rpc.Pair"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"wavekeep.rpc.{name}")) for name in ("Status", "ErrorInfo")]
    return made[0], made[1]


def _error_info(error: grpc.RpcError) -> tuple[str, dict[str, str]]:
    """The reason, and what it is about; empty where the server gave none."""
    status_class, info_class = _messages()
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key != _DETAILS:
            continue
        try:
            status: Any = status_class.FromString(value)
            for detail in status.details:
                info: Any = info_class()
                if detail.type_url.endswith("google.rpc.ErrorInfo"):
                    info.ParseFromString(detail.value)
                    if info.domain == _DOMAIN:
                        return info.reason, {pair.key: pair.value for pair in info.metadata}
        except DecodeError:
            break
    return "", {}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def from_grpc(error: grpc.RpcError, server: str, *, began: bool = False) -> errors.WavekeepError:
    """What to raise. `began`: parts of the answer had come."""
    code = error.code().name
    message = error.details() or ""
    reason, about = _error_info(error)
    if not reason:
        # No server said this: the connection could not be had, or broke.
        if code in ("UNAVAILABLE", "UNKNOWN", "INTERNAL") or (code == "CANCELLED" and began):
            return errors.Interrupted(message) if began else errors.Unreachable(server, message)
        if code == "UNIMPLEMENTED" and not message:
            return errors.Malformed("it does not know this question")
    if code == "DEADLINE_EXCEEDED":
        return errors.TimedOut(message or "the answer took too long: ask for less, or again later")
    kind = _CLASSES.get(reason) or _BY_CODE.get(code, errors.Refused)
    refused = kind(message or f"the server refused: {code}", code, reason)
    refused.entry = _number(about.get("entry"))
    if isinstance(refused, errors.UnknownName):
        refused.kind, refused.name = about.get("kind", ""), about.get("name", "")
        refused.nearest = about.get("nearest")
    if isinstance(refused, errors.InvalidFilter):
        refused.filter = about.get("filter", "")
        refused.characters_before = _number(about.get("characters_before")) or 0
    return refused
