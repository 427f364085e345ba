from wavekeep.v1 import query_pb2 as _query_pb2
from wavekeep.v1 import stream_pb2 as _stream_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateRunRequest(_message.Message):
    __slots__ = ("workspace", "run", "members")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    run: _query_pb2.Run
    members: _containers.RepeatedCompositeFieldContainer[_query_pb2.Selection]
    def __init__(self, workspace: _Optional[str] = ..., run: _Optional[_Union[_query_pb2.Run, _Mapping]] = ..., members: _Optional[_Iterable[_Union[_query_pb2.Selection, _Mapping]]] = ...) -> None: ...

class UpdateRunRequest(_message.Message):
    __slots__ = ("workspace", "run", "members", "remove_labels", "note", "parent", "remove_members")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_LABELS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REMOVE_MEMBERS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    run: _query_pb2.Run
    members: _containers.RepeatedCompositeFieldContainer[_query_pb2.Selection]
    remove_labels: _containers.RepeatedScalarFieldContainer[str]
    note: str
    parent: str
    remove_members: _containers.RepeatedCompositeFieldContainer[_query_pb2.Selection]
    def __init__(self, workspace: _Optional[str] = ..., run: _Optional[_Union[_query_pb2.Run, _Mapping]] = ..., members: _Optional[_Iterable[_Union[_query_pb2.Selection, _Mapping]]] = ..., remove_labels: _Optional[_Iterable[str]] = ..., note: _Optional[str] = ..., parent: _Optional[str] = ..., remove_members: _Optional[_Iterable[_Union[_query_pb2.Selection, _Mapping]]] = ...) -> None: ...

class DeleteRunRequest(_message.Message):
    __slots__ = ("workspace", "name")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    name: str
    def __init__(self, workspace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ImportRunsRequest(_message.Message):
    __slots__ = ("workspace", "runs")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    runs: _containers.RepeatedCompositeFieldContainer[_query_pb2.Run]
    def __init__(self, workspace: _Optional[str] = ..., runs: _Optional[_Iterable[_Union[_query_pb2.Run, _Mapping]]] = ...) -> None: ...

class ImportRunsResponse(_message.Message):
    __slots__ = ("created", "changed", "unchanged")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    created: int
    changed: int
    unchanged: int
    def __init__(self, created: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ...) -> None: ...

class AddMarkersRequest(_message.Message):
    __slots__ = ("workspace", "markers")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    MARKERS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    markers: _containers.RepeatedCompositeFieldContainer[AddedMarker]
    def __init__(self, workspace: _Optional[str] = ..., markers: _Optional[_Iterable[_Union[AddedMarker, _Mapping]]] = ...) -> None: ...

class AddedMarker(_message.Message):
    __slots__ = ("id", "device", "time_ns", "kind", "group", "y", "format", "content")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    device: str
    time_ns: int
    kind: int
    group: int
    y: float
    format: _stream_pb2.MarkerFormat
    content: bytes
    def __init__(self, id: _Optional[bytes] = ..., device: _Optional[str] = ..., time_ns: _Optional[int] = ..., kind: _Optional[int] = ..., group: _Optional[int] = ..., y: _Optional[float] = ..., format: _Optional[_Union[_stream_pb2.MarkerFormat, str]] = ..., content: _Optional[bytes] = ...) -> None: ...

class AddMarkersResponse(_message.Message):
    __slots__ = ("added",)
    ADDED_FIELD_NUMBER: _ClassVar[int]
    added: int
    def __init__(self, added: _Optional[int] = ...) -> None: ...

class RemoveMarkersRequest(_message.Message):
    __slots__ = ("workspace", "ids")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, workspace: _Optional[str] = ..., ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RemoveMarkersResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: int
    def __init__(self, removed: _Optional[int] = ...) -> None: ...
