from wavekeep.v1 import stream_pb2 as _stream_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_ENERGY: _ClassVar[Metric]
    METRIC_CHARGE: _ClassVar[Metric]
    METRIC_MEAN: _ClassVar[Metric]
    METRIC_PEAK: _ClassVar[Metric]
    METRIC_DURATION: _ClassVar[Metric]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_LESS: _ClassVar[Verdict]
    VERDICT_MORE: _ClassVar[Verdict]
    VERDICT_NO_DIFFERENCE_SHOWN: _ClassVar[Verdict]
    VERDICT_CANNOT_SAY: _ClassVar[Verdict]
METRIC_UNSPECIFIED: Metric
METRIC_ENERGY: Metric
METRIC_CHARGE: Metric
METRIC_MEAN: Metric
METRIC_PEAK: Metric
METRIC_DURATION: Metric
VERDICT_UNSPECIFIED: Verdict
VERDICT_LESS: Verdict
VERDICT_MORE: Verdict
VERDICT_NO_DIFFERENCE_SHOWN: Verdict
VERDICT_CANNOT_SAY: Verdict

class TimeRange(_message.Message):
    __slots__ = ("from_ns", "to_ns")
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    TO_NS_FIELD_NUMBER: _ClassVar[int]
    from_ns: int
    to_ns: int
    def __init__(self, from_ns: _Optional[int] = ..., to_ns: _Optional[int] = ...) -> None: ...

class Selection(_message.Message):
    __slots__ = ("device", "stream_id", "run", "range", "signals", "filter")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    device: str
    stream_id: bytes
    run: str
    range: TimeRange
    signals: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    def __init__(self, device: _Optional[str] = ..., stream_id: _Optional[bytes] = ..., run: _Optional[str] = ..., range: _Optional[_Union[TimeRange, _Mapping]] = ..., signals: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("workspace",)
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    def __init__(self, workspace: _Optional[str] = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("name", "streams", "first_time_ns", "last_time_ns", "sample_count", "gap_sample_count", "stored_bytes", "live")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAP_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    streams: int
    first_time_ns: int
    last_time_ns: int
    sample_count: int
    gap_sample_count: int
    stored_bytes: int
    live: bool
    def __init__(self, name: _Optional[str] = ..., streams: _Optional[int] = ..., first_time_ns: _Optional[int] = ..., last_time_ns: _Optional[int] = ..., sample_count: _Optional[int] = ..., gap_sample_count: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., live: _Optional[bool] = ...) -> None: ...

class ListStreamsRequest(_message.Message):
    __slots__ = ("workspace", "selection", "with_runs")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    WITH_RUNS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    with_runs: bool
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., with_runs: _Optional[bool] = ...) -> None: ...

class ListStreamsResponse(_message.Message):
    __slots__ = ("streams", "runs")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamInfo]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamInfo, _Mapping]]] = ..., runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class StreamInfo(_message.Message):
    __slots__ = ("definition", "labels", "run", "watermark", "next_sample", "digest", "ended", "end_reason", "first_time_ns", "last_time_ns", "sample_count", "gap_sample_count", "stored_bytes", "quarantined", "ranges")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    NEXT_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAP_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    definition: _stream_pb2.StreamDefinition
    labels: _containers.ScalarMap[str, str]
    run: str
    watermark: int
    next_sample: int
    digest: bytes
    ended: bool
    end_reason: _stream_pb2.Reason
    first_time_ns: int
    last_time_ns: int
    sample_count: int
    gap_sample_count: int
    stored_bytes: int
    quarantined: int
    ranges: _containers.RepeatedCompositeFieldContainer[TimeRange]
    def __init__(self, definition: _Optional[_Union[_stream_pb2.StreamDefinition, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., run: _Optional[str] = ..., watermark: _Optional[int] = ..., next_sample: _Optional[int] = ..., digest: _Optional[bytes] = ..., ended: _Optional[bool] = ..., end_reason: _Optional[_Union[_stream_pb2.Reason, str]] = ..., first_time_ns: _Optional[int] = ..., last_time_ns: _Optional[int] = ..., sample_count: _Optional[int] = ..., gap_sample_count: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., quarantined: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[TimeRange, _Mapping]]] = ...) -> None: ...

class ListChunksRequest(_message.Message):
    __slots__ = ("workspace", "selection", "limit", "newest_first", "first_samples", "after")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    limit: int
    newest_first: bool
    first_samples: int
    after: _containers.RepeatedCompositeFieldContainer[ChunkCursor]
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., limit: _Optional[int] = ..., newest_first: _Optional[bool] = ..., first_samples: _Optional[int] = ..., after: _Optional[_Iterable[_Union[ChunkCursor, _Mapping]]] = ...) -> None: ...

class ChunkCursor(_message.Message):
    __slots__ = ("stream_id", "seq", "digest")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    seq: int
    digest: bytes
    def __init__(self, stream_id: _Optional[bytes] = ..., seq: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class ChunkInfo(_message.Message):
    __slots__ = ("stream_id", "device", "header", "digest", "column_bytes", "loaded_at_ns", "quarantined", "first_samples")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    COLUMN_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    device: str
    header: bytes
    digest: bytes
    column_bytes: _containers.RepeatedScalarFieldContainer[int]
    loaded_at_ns: int
    quarantined: bool
    first_samples: _containers.RepeatedCompositeFieldContainer[FirstSamples]
    def __init__(self, stream_id: _Optional[bytes] = ..., device: _Optional[str] = ..., header: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., column_bytes: _Optional[_Iterable[int]] = ..., loaded_at_ns: _Optional[int] = ..., quarantined: _Optional[bool] = ..., first_samples: _Optional[_Iterable[_Union[FirstSamples, _Mapping]]] = ...) -> None: ...

class FirstSamples(_message.Message):
    __slots__ = ("signal", "values")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    signal: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, signal: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ListGapsRequest(_message.Message):
    __slots__ = ("workspace", "selection")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("stream_id", "device", "first_sample", "count", "reason", "from_ns", "to_ns", "signals")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    TO_NS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    device: str
    first_sample: int
    count: int
    reason: _stream_pb2.Reason
    from_ns: int
    to_ns: int
    signals: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stream_id: _Optional[bytes] = ..., device: _Optional[str] = ..., first_sample: _Optional[int] = ..., count: _Optional[int] = ..., reason: _Optional[_Union[_stream_pb2.Reason, str]] = ..., from_ns: _Optional[int] = ..., to_ns: _Optional[int] = ..., signals: _Optional[_Iterable[str]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("workspace", "filter")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    filter: str
    def __init__(self, workspace: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("name", "labels", "streams", "parent", "note", "own_labels", "members", "devices", "first_time_ns", "last_time_ns", "duration_ns", "recorded_streams", "created_at_ns", "updated_at_ns")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class OwnLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OWN_LABELS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    RECORDED_STREAMS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    streams: int
    parent: str
    note: str
    own_labels: _containers.ScalarMap[str, str]
    members: _containers.RepeatedCompositeFieldContainer[Selection]
    devices: _containers.RepeatedScalarFieldContainer[str]
    first_time_ns: int
    last_time_ns: int
    duration_ns: int
    recorded_streams: int
    created_at_ns: int
    updated_at_ns: int
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., streams: _Optional[int] = ..., parent: _Optional[str] = ..., note: _Optional[str] = ..., own_labels: _Optional[_Mapping[str, str]] = ..., members: _Optional[_Iterable[_Union[Selection, _Mapping]]] = ..., devices: _Optional[_Iterable[str]] = ..., first_time_ns: _Optional[int] = ..., last_time_ns: _Optional[int] = ..., duration_ns: _Optional[int] = ..., recorded_streams: _Optional[int] = ..., created_at_ns: _Optional[int] = ..., updated_at_ns: _Optional[int] = ...) -> None: ...

class ListMarkersRequest(_message.Message):
    __slots__ = ("workspace", "selection")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ...) -> None: ...

class ListedMarker(_message.Message):
    __slots__ = ("device", "time_ns", "kind", "group", "y", "format", "content", "stream_id", "sample", "seq", "added_id")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ADDED_ID_FIELD_NUMBER: _ClassVar[int]
    device: str
    time_ns: int
    kind: int
    group: int
    y: float
    format: _stream_pb2.MarkerFormat
    content: bytes
    stream_id: bytes
    sample: int
    seq: int
    added_id: bytes
    def __init__(self, device: _Optional[str] = ..., time_ns: _Optional[int] = ..., kind: _Optional[int] = ..., group: _Optional[int] = ..., y: _Optional[float] = ..., format: _Optional[_Union[_stream_pb2.MarkerFormat, str]] = ..., content: _Optional[bytes] = ..., stream_id: _Optional[bytes] = ..., sample: _Optional[int] = ..., seq: _Optional[int] = ..., added_id: _Optional[bytes] = ...) -> None: ...

class GetWaveformRequest(_message.Message):
    __slots__ = ("workspace", "selection", "points_max", "encodings")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_MAX_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    points_max: int
    encodings: _containers.RepeatedScalarFieldContainer[_stream_pb2.Encoding]
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., points_max: _Optional[int] = ..., encodings: _Optional[_Iterable[_Union[_stream_pb2.Encoding, str]]] = ...) -> None: ...

class WaveformPart(_message.Message):
    __slots__ = ("stream", "chunk", "manifest", "columns")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    stream: WaveformStream
    chunk: WaveformChunk
    manifest: Manifest
    columns: WaveformColumns
    def __init__(self, stream: _Optional[_Union[WaveformStream, _Mapping]] = ..., chunk: _Optional[_Union[WaveformChunk, _Mapping]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., columns: _Optional[_Union[WaveformColumns, _Mapping]] = ...) -> None: ...

class WaveformStream(_message.Message):
    __slots__ = ("info", "range")
    INFO_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    info: StreamInfo
    range: TimeRange
    def __init__(self, info: _Optional[_Union[StreamInfo, _Mapping]] = ..., range: _Optional[_Union[TimeRange, _Mapping]] = ...) -> None: ...

class WaveformChunk(_message.Message):
    __slots__ = ("stream_id", "chunk", "from_sample", "to_sample", "quarantined", "loaded_at_ns")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FROM_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    TO_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    chunk: _stream_pb2.Chunk
    from_sample: int
    to_sample: int
    quarantined: bool
    loaded_at_ns: int
    def __init__(self, stream_id: _Optional[bytes] = ..., chunk: _Optional[_Union[_stream_pb2.Chunk, _Mapping]] = ..., from_sample: _Optional[int] = ..., to_sample: _Optional[int] = ..., quarantined: _Optional[bool] = ..., loaded_at_ns: _Optional[int] = ...) -> None: ...

class WaveformColumns(_message.Message):
    __slots__ = ("stream_id", "signal", "level", "first_sample", "bucket_samples", "min", "max", "mean", "count", "time_ns", "to_sample")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    TO_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    signal: int
    level: int
    first_sample: int
    bucket_samples: int
    min: _containers.RepeatedScalarFieldContainer[float]
    max: _containers.RepeatedScalarFieldContainer[float]
    mean: _containers.RepeatedScalarFieldContainer[float]
    count: _containers.RepeatedScalarFieldContainer[int]
    time_ns: _containers.RepeatedScalarFieldContainer[int]
    to_sample: int
    def __init__(self, stream_id: _Optional[bytes] = ..., signal: _Optional[int] = ..., level: _Optional[int] = ..., first_sample: _Optional[int] = ..., bucket_samples: _Optional[int] = ..., min: _Optional[_Iterable[float]] = ..., max: _Optional[_Iterable[float]] = ..., mean: _Optional[_Iterable[float]] = ..., count: _Optional[_Iterable[int]] = ..., time_ns: _Optional[_Iterable[int]] = ..., to_sample: _Optional[int] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamManifest]
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamManifest, _Mapping]]] = ...) -> None: ...

class StreamManifest(_message.Message):
    __slots__ = ("stream_id", "from_sample", "to_sample", "sample_count", "gap_sample_count", "first_seq", "last_seq", "digest_before", "digest", "chunks", "gaps")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    TO_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAP_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    DIGEST_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    stream_id: bytes
    from_sample: int
    to_sample: int
    sample_count: int
    gap_sample_count: int
    first_seq: int
    last_seq: int
    digest_before: bytes
    digest: bytes
    chunks: int
    gaps: _containers.RepeatedCompositeFieldContainer[Gap]
    def __init__(self, stream_id: _Optional[bytes] = ..., from_sample: _Optional[int] = ..., to_sample: _Optional[int] = ..., sample_count: _Optional[int] = ..., gap_sample_count: _Optional[int] = ..., first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., digest_before: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., chunks: _Optional[int] = ..., gaps: _Optional[_Iterable[_Union[Gap, _Mapping]]] = ...) -> None: ...

class GetStatisticsRequest(_message.Message):
    __slots__ = ("workspace", "selection", "percentiles", "histogram_bins", "histogram_from", "histogram_to")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    PERCENTILES_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_BINS_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_FROM_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_TO_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    percentiles: _containers.RepeatedScalarFieldContainer[float]
    histogram_bins: int
    histogram_from: float
    histogram_to: float
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., percentiles: _Optional[_Iterable[float]] = ..., histogram_bins: _Optional[int] = ..., histogram_from: _Optional[float] = ..., histogram_to: _Optional[float] = ...) -> None: ...

class GetStatisticsResponse(_message.Message):
    __slots__ = ("signals",)
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    signals: _containers.RepeatedCompositeFieldContainer[SignalStatistics]
    def __init__(self, signals: _Optional[_Iterable[_Union[SignalStatistics, _Mapping]]] = ...) -> None: ...

class SignalStatistics(_message.Message):
    __slots__ = ("device", "signal", "unit", "from_ns", "to_ns", "sample_count", "gap_sample_count", "min", "max", "mean", "std", "rms", "integral", "energy_joule", "charge_coulomb", "finite_count", "duration_s", "gap_s", "percentiles", "histogram")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    TO_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAP_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    RMS_FIELD_NUMBER: _ClassVar[int]
    INTEGRAL_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULE_FIELD_NUMBER: _ClassVar[int]
    CHARGE_COULOMB_FIELD_NUMBER: _ClassVar[int]
    FINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    GAP_S_FIELD_NUMBER: _ClassVar[int]
    PERCENTILES_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    device: str
    signal: str
    unit: str
    from_ns: int
    to_ns: int
    sample_count: int
    gap_sample_count: int
    min: float
    max: float
    mean: float
    std: float
    rms: float
    integral: float
    energy_joule: float
    charge_coulomb: float
    finite_count: int
    duration_s: float
    gap_s: float
    percentiles: _containers.RepeatedScalarFieldContainer[float]
    histogram: Histogram
    def __init__(self, device: _Optional[str] = ..., signal: _Optional[str] = ..., unit: _Optional[str] = ..., from_ns: _Optional[int] = ..., to_ns: _Optional[int] = ..., sample_count: _Optional[int] = ..., gap_sample_count: _Optional[int] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., rms: _Optional[float] = ..., integral: _Optional[float] = ..., energy_joule: _Optional[float] = ..., charge_coulomb: _Optional[float] = ..., finite_count: _Optional[int] = ..., duration_s: _Optional[float] = ..., gap_s: _Optional[float] = ..., percentiles: _Optional[_Iterable[float]] = ..., histogram: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("to", "counts", "below", "above")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    ABOVE_FIELD_NUMBER: _ClassVar[int]
    to: float
    counts: _containers.RepeatedScalarFieldContainer[int]
    below: int
    above: int
    def __init__(self, to: _Optional[float] = ..., counts: _Optional[_Iterable[int]] = ..., below: _Optional[int] = ..., above: _Optional[int] = ..., **kwargs) -> None: ...

class CompareRunsRequest(_message.Message):
    __slots__ = ("workspace", "first", "second", "signal", "metric", "align_marker", "points_max")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    ALIGN_MARKER_FIELD_NUMBER: _ClassVar[int]
    POINTS_MAX_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    first: str
    second: str
    signal: str
    metric: Metric
    align_marker: str
    points_max: int
    def __init__(self, workspace: _Optional[str] = ..., first: _Optional[str] = ..., second: _Optional[str] = ..., signal: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ..., align_marker: _Optional[str] = ..., points_max: _Optional[int] = ...) -> None: ...

class CompareRunsResponse(_message.Message):
    __slots__ = ("sentence", "notes", "signal", "unit", "metric", "metric_unit", "first", "second", "difference", "mean_difference", "columns")
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    METRIC_UNIT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    sentence: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    signal: str
    unit: str
    metric: Metric
    metric_unit: str
    first: RunGroup
    second: RunGroup
    difference: Difference
    mean_difference: Difference
    columns: ComparedColumns
    def __init__(self, sentence: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ..., signal: _Optional[str] = ..., unit: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ..., metric_unit: _Optional[str] = ..., first: _Optional[_Union[RunGroup, _Mapping]] = ..., second: _Optional[_Union[RunGroup, _Mapping]] = ..., difference: _Optional[_Union[Difference, _Mapping]] = ..., mean_difference: _Optional[_Union[Difference, _Mapping]] = ..., columns: _Optional[_Union[ComparedColumns, _Mapping]] = ...) -> None: ...

class RunGroup(_message.Message):
    __slots__ = ("name", "runs", "mean", "std")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    name: str
    runs: _containers.RepeatedCompositeFieldContainer[MeasuredRun]
    mean: float
    std: float
    def __init__(self, name: _Optional[str] = ..., runs: _Optional[_Iterable[_Union[MeasuredRun, _Mapping]]] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ...) -> None: ...

class MeasuredRun(_message.Message):
    __slots__ = ("run", "device", "from_ns", "to_ns", "align_ns", "duration_s", "gap_s", "sample_count", "gap_sample_count", "finite_count", "mean", "min", "peak", "energy_joule", "charge_coulomb", "value")
    RUN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    TO_NS_FIELD_NUMBER: _ClassVar[int]
    ALIGN_NS_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    GAP_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAP_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULE_FIELD_NUMBER: _ClassVar[int]
    CHARGE_COULOMB_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    run: str
    device: str
    from_ns: int
    to_ns: int
    align_ns: int
    duration_s: float
    gap_s: float
    sample_count: int
    gap_sample_count: int
    finite_count: int
    mean: float
    min: float
    peak: float
    energy_joule: float
    charge_coulomb: float
    value: float
    def __init__(self, run: _Optional[str] = ..., device: _Optional[str] = ..., from_ns: _Optional[int] = ..., to_ns: _Optional[int] = ..., align_ns: _Optional[int] = ..., duration_s: _Optional[float] = ..., gap_s: _Optional[float] = ..., sample_count: _Optional[int] = ..., gap_sample_count: _Optional[int] = ..., finite_count: _Optional[int] = ..., mean: _Optional[float] = ..., min: _Optional[float] = ..., peak: _Optional[float] = ..., energy_joule: _Optional[float] = ..., charge_coulomb: _Optional[float] = ..., value: _Optional[float] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("absolute", "relative", "interval", "welch", "verdict")
    ABSOLUTE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    WELCH_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    absolute: float
    relative: float
    interval: Interval
    welch: Welch
    verdict: Verdict
    def __init__(self, absolute: _Optional[float] = ..., relative: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., welch: _Optional[_Union[Welch, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high", "level")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    level: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., level: _Optional[float] = ...) -> None: ...

class Welch(_message.Message):
    __slots__ = ("t", "degrees_of_freedom", "p")
    T_FIELD_NUMBER: _ClassVar[int]
    DEGREES_OF_FREEDOM_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    t: float
    degrees_of_freedom: float
    p: float
    def __init__(self, t: _Optional[float] = ..., degrees_of_freedom: _Optional[float] = ..., p: _Optional[float] = ...) -> None: ...

class ComparedColumns(_message.Message):
    __slots__ = ("from_ns", "column_ns", "first", "second", "difference")
    FROM_NS_FIELD_NUMBER: _ClassVar[int]
    COLUMN_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    from_ns: int
    column_ns: int
    first: GroupColumns
    second: GroupColumns
    difference: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, from_ns: _Optional[int] = ..., column_ns: _Optional[int] = ..., first: _Optional[_Union[GroupColumns, _Mapping]] = ..., second: _Optional[_Union[GroupColumns, _Mapping]] = ..., difference: _Optional[_Iterable[float]] = ...) -> None: ...

class GroupColumns(_message.Message):
    __slots__ = ("min", "max", "mean", "runs")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    min: _containers.RepeatedScalarFieldContainer[float]
    max: _containers.RepeatedScalarFieldContainer[float]
    mean: _containers.RepeatedScalarFieldContainer[float]
    runs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, min: _Optional[_Iterable[float]] = ..., max: _Optional[_Iterable[float]] = ..., mean: _Optional[_Iterable[float]] = ..., runs: _Optional[_Iterable[int]] = ...) -> None: ...

class TailRequest(_message.Message):
    __slots__ = ("workspace", "selection", "after", "from_start", "encodings")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FROM_START_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    after: _containers.RepeatedCompositeFieldContainer[ChunkCursor]
    from_start: bool
    encodings: _containers.RepeatedScalarFieldContainer[_stream_pb2.Encoding]
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., after: _Optional[_Iterable[_Union[ChunkCursor, _Mapping]]] = ..., from_start: _Optional[bool] = ..., encodings: _Optional[_Iterable[_Union[_stream_pb2.Encoding, str]]] = ...) -> None: ...

class TailPart(_message.Message):
    __slots__ = ("chunk", "stream", "start")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    chunk: WaveformChunk
    stream: StreamInfo
    start: TailStart
    def __init__(self, chunk: _Optional[_Union[WaveformChunk, _Mapping]] = ..., stream: _Optional[_Union[StreamInfo, _Mapping]] = ..., start: _Optional[_Union[TailStart, _Mapping]] = ...) -> None: ...

class TailStart(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: _containers.RepeatedCompositeFieldContainer[ChunkCursor]
    def __init__(self, after: _Optional[_Iterable[_Union[ChunkCursor, _Mapping]]] = ...) -> None: ...

class ReconcileRequest(_message.Message):
    __slots__ = ("workspace", "selection")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    selection: Selection
    def __init__(self, workspace: _Optional[str] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ...) -> None: ...

class StreamAccount(_message.Message):
    __slots__ = ("stream", "chunks", "first_seq", "from_sample", "succeeded_at", "may_have_expired", "report")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    FROM_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_AT_FIELD_NUMBER: _ClassVar[int]
    MAY_HAVE_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    stream: StreamInfo
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkSum]
    first_seq: int
    from_sample: int
    succeeded_at: int
    may_have_expired: bool
    report: AgentReport
    def __init__(self, stream: _Optional[_Union[StreamInfo, _Mapping]] = ..., chunks: _Optional[_Iterable[_Union[ChunkSum, _Mapping]]] = ..., first_seq: _Optional[int] = ..., from_sample: _Optional[int] = ..., succeeded_at: _Optional[int] = ..., may_have_expired: _Optional[bool] = ..., report: _Optional[_Union[AgentReport, _Mapping]] = ...) -> None: ...

class ChunkSum(_message.Message):
    __slots__ = ("kind", "reason", "quarantined", "succeeded", "chunks", "seqs", "sample_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SEQS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: int
    reason: _stream_pb2.Reason
    quarantined: bool
    succeeded: bool
    chunks: int
    seqs: int
    sample_count: int
    def __init__(self, kind: _Optional[int] = ..., reason: _Optional[_Union[_stream_pb2.Reason, str]] = ..., quarantined: _Optional[bool] = ..., succeeded: _Optional[bool] = ..., chunks: _Optional[int] = ..., seqs: _Optional[int] = ..., sample_count: _Optional[int] = ...) -> None: ...

class AgentReport(_message.Message):
    __slots__ = ("agent", "stored_seq", "next_sample", "outbox_bytes", "oldest_unacked_ms", "age_ms")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    STORED_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_UNACKED_MS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    stored_seq: int
    next_sample: int
    outbox_bytes: int
    oldest_unacked_ms: int
    age_ms: int
    def __init__(self, agent: _Optional[str] = ..., stored_seq: _Optional[int] = ..., next_sample: _Optional[int] = ..., outbox_bytes: _Optional[int] = ..., oldest_unacked_ms: _Optional[int] = ..., age_ms: _Optional[int] = ...) -> None: ...
