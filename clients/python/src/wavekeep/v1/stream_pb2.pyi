from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SampleType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLE_TYPE_UNSPECIFIED: _ClassVar[SampleType]
    SAMPLE_TYPE_F32: _ClassVar[SampleType]
    SAMPLE_TYPE_F64: _ClassVar[SampleType]
    SAMPLE_TYPE_I8: _ClassVar[SampleType]
    SAMPLE_TYPE_I16: _ClassVar[SampleType]
    SAMPLE_TYPE_I32: _ClassVar[SampleType]
    SAMPLE_TYPE_I64: _ClassVar[SampleType]
    SAMPLE_TYPE_U8: _ClassVar[SampleType]
    SAMPLE_TYPE_U16: _ClassVar[SampleType]
    SAMPLE_TYPE_U32: _ClassVar[SampleType]
    SAMPLE_TYPE_U64: _ClassVar[SampleType]
    SAMPLE_TYPE_U4: _ClassVar[SampleType]
    SAMPLE_TYPE_U1: _ClassVar[SampleType]
    SAMPLE_TYPE_I128: _ClassVar[SampleType]

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_PLAIN: _ClassVar[Encoding]
    ENCODING_SHUFFLE_ZSTD: _ClassVar[Encoding]
    ENCODING_PCO: _ClassVar[Encoding]

class ChunkKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHUNK_KIND_UNSPECIFIED: _ClassVar[ChunkKind]
    CHUNK_KIND_SAMPLES: _ClassVar[ChunkKind]
    CHUNK_KIND_GAP: _ClassVar[ChunkKind]
    CHUNK_KIND_END: _ClassVar[ChunkKind]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_EVICTED: _ClassVar[Reason]
    REASON_CORRUPT: _ClassVar[Reason]
    REASON_LOST_BY_SERVER: _ClassVar[Reason]
    REASON_USB_OVERRUN: _ClassVar[Reason]
    REASON_DEVICE_OVERFLOW: _ClassVar[Reason]
    REASON_HOST_SUSPEND: _ClassVar[Reason]
    REASON_UNPLUGGED: _ClassVar[Reason]
    REASON_SOURCE_LOSS: _ClassVar[Reason]
    REASON_SIGNAL_OFF: _ClassVar[Reason]
    REASON_FILE_GAP: _ClassVar[Reason]
    REASON_NOT_FINITE: _ClassVar[Reason]
    REASON_QUARANTINED: _ClassVar[Reason]
    REASON_CLOSED: _ClassVar[Reason]
    REASON_CRASHED: _ClassVar[Reason]

class MarkerFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKER_FORMAT_UNSPECIFIED: _ClassVar[MarkerFormat]
    MARKER_FORMAT_TEXT: _ClassVar[MarkerFormat]
    MARKER_FORMAT_JSON: _ClassVar[MarkerFormat]
    MARKER_FORMAT_BYTES: _ClassVar[MarkerFormat]
SAMPLE_TYPE_UNSPECIFIED: SampleType
SAMPLE_TYPE_F32: SampleType
SAMPLE_TYPE_F64: SampleType
SAMPLE_TYPE_I8: SampleType
SAMPLE_TYPE_I16: SampleType
SAMPLE_TYPE_I32: SampleType
SAMPLE_TYPE_I64: SampleType
SAMPLE_TYPE_U8: SampleType
SAMPLE_TYPE_U16: SampleType
SAMPLE_TYPE_U32: SampleType
SAMPLE_TYPE_U64: SampleType
SAMPLE_TYPE_U4: SampleType
SAMPLE_TYPE_U1: SampleType
SAMPLE_TYPE_I128: SampleType
ENCODING_UNSPECIFIED: Encoding
ENCODING_PLAIN: Encoding
ENCODING_SHUFFLE_ZSTD: Encoding
ENCODING_PCO: Encoding
CHUNK_KIND_UNSPECIFIED: ChunkKind
CHUNK_KIND_SAMPLES: ChunkKind
CHUNK_KIND_GAP: ChunkKind
CHUNK_KIND_END: ChunkKind
REASON_UNSPECIFIED: Reason
REASON_EVICTED: Reason
REASON_CORRUPT: Reason
REASON_LOST_BY_SERVER: Reason
REASON_USB_OVERRUN: Reason
REASON_DEVICE_OVERFLOW: Reason
REASON_HOST_SUSPEND: Reason
REASON_UNPLUGGED: Reason
REASON_SOURCE_LOSS: Reason
REASON_SIGNAL_OFF: Reason
REASON_FILE_GAP: Reason
REASON_NOT_FINITE: Reason
REASON_QUARANTINED: Reason
REASON_CLOSED: Reason
REASON_CRASHED: Reason
MARKER_FORMAT_UNSPECIFIED: MarkerFormat
MARKER_FORMAT_TEXT: MarkerFormat
MARKER_FORMAT_JSON: MarkerFormat
MARKER_FORMAT_BYTES: MarkerFormat

class Signal(_message.Message):
    __slots__ = ("number", "name", "sample_type", "unit", "finite_only")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TYPE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    FINITE_ONLY_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    sample_type: SampleType
    unit: str
    finite_only: bool
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., sample_type: _Optional[_Union[SampleType, str]] = ..., unit: _Optional[str] = ..., finite_only: _Optional[bool] = ...) -> None: ...

class Predecessor(_message.Message):
    __slots__ = ("stream_id", "seq")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    seq: int
    def __init__(self, stream_id: _Optional[bytes] = ..., seq: _Optional[int] = ...) -> None: ...

class StreamDefinition(_message.Message):
    __slots__ = ("stream_id", "device", "epoch", "file_identity", "predecessor", "rate_hz", "first_sample", "signals", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FILE_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PREDECESSOR_FIELD_NUMBER: _ClassVar[int]
    RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    device: str
    epoch: bytes
    file_identity: bytes
    predecessor: Predecessor
    rate_hz: float
    first_sample: int
    signals: _containers.RepeatedCompositeFieldContainer[Signal]
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, stream_id: _Optional[bytes] = ..., device: _Optional[str] = ..., epoch: _Optional[bytes] = ..., file_identity: _Optional[bytes] = ..., predecessor: _Optional[_Union[Predecessor, _Mapping]] = ..., rate_hz: _Optional[float] = ..., first_sample: _Optional[int] = ..., signals: _Optional[_Iterable[_Union[Signal, _Mapping]]] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Marker(_message.Message):
    __slots__ = ("sample", "kind", "group", "y", "format", "content")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    sample: int
    kind: int
    group: int
    y: float
    format: MarkerFormat
    content: bytes
    def __init__(self, sample: _Optional[int] = ..., kind: _Optional[int] = ..., group: _Optional[int] = ..., y: _Optional[float] = ..., format: _Optional[_Union[MarkerFormat, str]] = ..., content: _Optional[bytes] = ...) -> None: ...

class ColumnHeader(_message.Message):
    __slots__ = ("signal", "encoding", "hash", "absent_reason")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    ABSENT_REASON_FIELD_NUMBER: _ClassVar[int]
    signal: int
    encoding: Encoding
    hash: bytes
    absent_reason: Reason
    def __init__(self, signal: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., hash: _Optional[bytes] = ..., absent_reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class ChunkHeader(_message.Message):
    __slots__ = ("kind", "reason", "first_seq", "seq", "first_sample", "count", "utc_ns", "markers", "columns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UTC_NS_FIELD_NUMBER: _ClassVar[int]
    MARKERS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    kind: ChunkKind
    reason: Reason
    first_seq: int
    seq: int
    first_sample: int
    count: int
    utc_ns: int
    markers: _containers.RepeatedCompositeFieldContainer[Marker]
    columns: _containers.RepeatedCompositeFieldContainer[ColumnHeader]
    def __init__(self, kind: _Optional[_Union[ChunkKind, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., first_seq: _Optional[int] = ..., seq: _Optional[int] = ..., first_sample: _Optional[int] = ..., count: _Optional[int] = ..., utc_ns: _Optional[int] = ..., markers: _Optional[_Iterable[_Union[Marker, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[ColumnHeader, _Mapping]]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("header", "columns", "digest", "frame_hash")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FRAME_HASH_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    columns: _containers.RepeatedScalarFieldContainer[bytes]
    digest: bytes
    frame_hash: bytes
    def __init__(self, header: _Optional[bytes] = ..., columns: _Optional[_Iterable[bytes]] = ..., digest: _Optional[bytes] = ..., frame_hash: _Optional[bytes] = ...) -> None: ...
