"""The server's process: load, listen, serve, drain on SIGTERM or SIGINT, exit 0."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import grpc

from ..errors import ConfigError, MissingExtra, UsageError
from ..models.card import ModelCard
from ..protos.last_calls import last_calls
from ..protos.options import POLICY_SERVICE, SERVICE, server_options
from ..protos.tls import server_credentials
from .config import ServerConfig
from .deciding import PolicyDesk, PolicySource
from .engine import Engine, Parts, load_parts
from .health import HEALTH, HealthService
from .memory import keep_freed_memory
from .opening import open_desks
from .policy_service import PolicyService
from .service import InferenceService

if TYPE_CHECKING:
    from .training import TrainService

__all__ = ["main", "serve"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SWITCH_INTERVAL_S = 1e-4


async def serve(
    config: ServerConfig,
    parts: Engine | Parts | None = None,
    *,
    policies: PolicySource | None = None,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set or a signal comes, then drain.

    parts  what to serve; None loads what the configuration names
    policies  who decides for boards that ask; None: they decide for themselves
    ready  called with "host:port" when requests are welcome; None prints `listening on host:port`
    Raises UsageError where the port cannot be had, ConfigError for policies of another network, DataError for
    certificates that are none.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    if parts is None:
        parts = await asyncio.to_thread(load_parts, config)
    if isinstance(parts, Engine):
        parts = Parts(parts)
    if policies is not None:
        _check_policies(policies, parts)
    desks = await open_desks(config, parts)
    training = _training(config, parts.engine.card) if config.training and parts.engine else None
    service = InferenceService(
        desks.desk,
        max_message_bytes=config.max_message_bytes,
        gates=desks.gates,
        train=training.step if training else None,
        policy=policies.name if policies else "",
    )
    deciders = PolicyDesk(policies) if policies else None
    deciding = PolicyService(deciders)
    server = grpc.aio.server(options=server_options(max_message_bytes=config.max_message_bytes))
    server.add_generic_rpc_handlers((service.handler(), deciding.handler()))
    health = HealthService(SERVICE)
    server.add_generic_rpc_handlers((health.handler(),))
    _reflect(server)
    try:
        address = _bind(server, config)
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop.set)
        await server.start()
        health.set(desks.able)
        following = asyncio.create_task(health.follow(lambda: desks.able))
        try:
            (ready or _announce)(address)
            await stop.wait()
        finally:
            following.cancel()
        health.set(False)
        deciding.drain()
        await service.drain(config.grace_s)
    finally:
        await server.stop(0.25)
        await desks.close()
        if deciders is not None:
            deciders.close()
        if training is not None:
            training.close()


def main(
    config: ServerConfig, parts: Engine | Parts | None = None, policies: PolicySource | None = None
) -> None:
    """`serve` in a process of its own; returns after a drained shutdown."""
    # Pillow warns of every damaged tag of an image, and each text is remembered: 1 MB of log for one request.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # The compute thread and the event loop share the interpreter: hand it over quickly.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    keep_freed_memory()
    parts = parts or load_parts(config)
    gc.collect()
    gc.freeze()
    asyncio.run(_to_the_end(serve(config, parts, policies=policies)))
    # A second signal while the interpreter ends must not turn a clean exit into a killed process.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


async def _to_the_end(serving: Coroutine[Any, Any, None]) -> None:
    await serving
    await last_calls()


def _training(config: ServerConfig, card: ModelCard) -> TrainService:
    try:
        from .training import TrainService
    except ImportError:
        raise MissingExtra("split learning", "sim") from None
    from ..models.store import load_network

    assert config.training is not None
    return TrainService(card, lambda: load_network(config.network)[0], config.training, config.threads)


def _check_policies(policies: PolicySource, parts: Parts) -> None:
    card = parts.engine.card if parts.engine else parts.device[0] if parts.device else None
    if card is not None and card.id != policies.card.id:
        raise ConfigError(
            f"policy '{policies.name}' is for model {policies.card.id} ({policies.card.name}), "
            f"this server runs {card.id} ({card.name})"
        )


def _announce(address: str) -> None:
    print(f"listening on {address}", flush=True)


def _reflect(server: grpc.aio.Server) -> None:
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        return
    names = (SERVICE, POLICY_SERVICE, HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


def _bind(server: grpc.aio.Server, config: ServerConfig) -> str:
    where = f"{config.host}:{config.port}"
    try:
        if config.certificate is None or config.key is None:
            port = server.add_insecure_port(where)
        else:
            credentials = server_credentials(config.certificate, config.key, config.client_root)
            port = server.add_secure_port(where, credentials)
    except RuntimeError:
        raise UsageError(
            f"cannot listen on {where}: the port is taken, or address and port are not ours to use"
        ) from None
    return f"{config.host}:{port}"
