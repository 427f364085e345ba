"""gRPC health checks as a kubelet makes them: a new connection for each, plain text, `timeoutSeconds` for all of it."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def serving(port: int, probe: dict[str, Any]) -> bool:
    """Does the probe succeed? Anything but SERVING is a failure, no answer among it."""
    asked = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=probe.get("timeoutSeconds", 1))
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
