"""Channel and server options of every gRPC hop, in one place: limits, keepalive, reconnection, retries."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["MAX_MESSAGE_BYTES", "POLICY_SERVICE", "SERVICE", "Timeouts", "channel_options", "server_options"]

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SERVICE = "splitpoint.v1.SplitInference"
POLICY_SERVICE = "splitpoint.v1.PolicyService"

# Calls that may be sent twice: they change nothing on the server.
_SAFE_TO_RETRY = (
    {"service": SERVICE, "method": "Describe"},
    {"service": SERVICE, "method": "Infer"},
    {"service": "grpc.health.v1.Health", "method": "Check"},
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every timeout of the client, in seconds.

    call        deadline of Describe, Refine, Learn, and of Infer and Decide where the caller names none
    health      deadline of a health check
    train       deadline of one split-learning step and of one RunGates
    stream      life of one InferStream; a fresh one is opened before it ends
    keepalive   silence after which the peer is pinged
    ping        silence after a ping that counts as a dead peer; a ping waits behind what was sent before it
    attempt     one attempt to connect, TLS included
    backoff     longest pause between two attempts
    retry       longest pause between two tries of a unary call
    """

    call: float = 5.0
    health: float = 1.0
    train: float = 60.0
    stream: float = 3600.0
    keepalive: float = 1.0
    ping: float = 1.0
    attempt: float = 2.0
    backoff: float = 0.5
    retry: float = 0.2


def _milliseconds(seconds: float) -> int:
    """As an option takes it: an int of 32 bits."""
    return min(max(1, round(seconds * 1000)), 2**31 - 1)


def _shared(max_message_bytes: int) -> list[tuple[str, str | int]]:
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def channel_options(
    timeouts: Timeouts | None = None, *, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> list[tuple[str, str | int]]:
    """Options of a client's channel.

    `keepalive_timeout_ms` alone does not notice a dead peer, `ping_timeout_ms` does; the reconnect backoff
    would grow to two minutes; retries of messages over 256 KiB need a larger retry buffer.
    """
    limits = timeouts or Timeouts()
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": f"{limits.retry}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return [
        *_shared(max_message_bytes),
        ("grpc.keepalive_time_ms", _milliseconds(limits.keepalive)),
        ("grpc.keepalive_timeout_ms", _milliseconds(limits.ping)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(limits.ping)),
        ("grpc.initial_reconnect_backoff_ms", _milliseconds(min(0.1, limits.backoff))),
        ("grpc.max_reconnect_backoff_ms", _milliseconds(limits.backoff)),
        ("grpc.min_reconnect_backoff_ms", _milliseconds(limits.attempt)),
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        (
            "grpc.service_config",
            json.dumps({"methodConfig": [{"name": _SAFE_TO_RETRY, "retryPolicy": policy}]}),
        ),
    ]


def server_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[tuple[str, str | int]]:
    """Options of a server: the same limits, and pings as frequent as the clients' are welcome.

    A second server on a taken port is an error (no SO_REUSEPORT); one restarted after a crash is not.
    """
    return [
        *_shared(max_message_bytes),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 100),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
    ]
