"""A server that follows a script, at the level of gRPC: it says what it is told to, true or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from wavekeep import Client, Waveform
from wavekeep.v1 import catalog_pb2, query_pb2


@dataclass
class Script:
    """What is answered, and what was asked."""

    parts: Sequence[query_pb2.WaveformPart] = ()
    streams: Sequence[query_pb2.StreamInfo] = ()
    markers: Sequence[query_pb2.ListedMarker] = ()
    statistics: Sequence[query_pb2.SignalStatistics] = ()
    stalls: threading.Event | None = None
    """Before the end of a waveform nothing comes until this is set."""
    failure: tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]] | None = None
    """Instead of an answer, or after its parts."""
    tails: list[Sequence[query_pb2.TailPart]] = field(default_factory=list)
    """What one question after the other is answered; after the last of them nothing comes, until whoever asks goes."""
    comparison: query_pb2.CompareRunsResponse = field(default_factory=query_pb2.CompareRunsResponse)
    asked: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    def _note(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))

    def _fail(self, context: Any) -> None:
        if self.failure is not None:
            code, message, metadata = self.failure
            context.set_trailing_metadata(metadata)
            context.abort(code, message)

    def devices(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        self._fail(context)
        return query_pb2.ListDevicesResponse(devices=[query_pb2.Device(name="js220-001", streams=1)])

    def list_streams(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        return query_pb2.ListStreamsResponse(streams=self.streams)

    def list_markers(self, request: Any, context: Any) -> Iterator[Any]:
        self._note(request, context)
        yield from self.markers

    def get_statistics(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        return query_pb2.GetStatisticsResponse(signals=self.statistics)

    def waveform(self, request: Any, context: Any) -> Iterator[Any]:
        self._note(request, context)
        yield from self.parts
        if self.stalls is not None:
            self.stalls.wait()
        self._fail(context)

    def import_runs(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        self._fail(context)
        return catalog_pb2.ImportRunsResponse()

    def tail(self, request: Any, context: Any) -> Iterator[Any]:
        self._note(request, context)
        if not self.tails:
            self._fail(context)
        yield from self.tails.pop(0)
        if self.tails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken pipe")
        self._fail(context)
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait()

    def compare(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        return self.comparison


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serves a script; its address."""
    ask, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "ListDevices": ask(script.devices, query_pb2.ListDevicesRequest.FromString, _bytes),
        "ListStreams": ask(script.list_streams, query_pb2.ListStreamsRequest.FromString, _bytes),
        "ListMarkers": stream(script.list_markers, query_pb2.ListMarkersRequest.FromString, _bytes),
        "GetStatistics": ask(script.get_statistics, query_pb2.GetStatisticsRequest.FromString, _bytes),
        "CompareRuns": ask(script.compare, query_pb2.CompareRunsRequest.FromString, _bytes),
        "Tail": stream(script.tail, query_pb2.TailRequest.FromString, _bytes),
        "GetWaveform": stream(script.waveform, query_pb2.GetWaveformRequest.FromString, _bytes),
    }
    changes = {"ImportRuns": ask(script.import_runs, catalog_pb2.ImportRunsRequest.FromString, _bytes)}
    server = grpc.server(ThreadPoolExecutor(2))
    services = {"wavekeep.v1.Query": handlers, "wavekeep.v1.Catalog": changes}
    server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(*service) for service in services.items()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _bytes(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def read(parts: Sequence[query_pb2.WaveformPart], *, streams: Sequence[query_pb2.StreamInfo] = (), **what: Any) -> Waveform:
    """What the client makes of these parts."""
    with serving(Script(parts=parts, streams=streams)) as url, Client(url) as client:
        return client.waveform(**{"device": "js220-001", **what})
