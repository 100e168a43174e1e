"""From loaded parts to what answers: a tail's desk or a quorum's, and the gates of the learners in this process."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError, DataError
from ..models.card import ModelCard
from .config import ServerConfig
from .coordinator import Coordinator
from .desk import Desk, TailDesk
from .engine import Parts
from .gates import GateLog, GateWorker
from .host import Host
from .quorum_desk import QuorumDesk
from .run_gates import GateService
from .voters import LocalVoter, RemoteVoter, Voter, misfit

__all__ = ["Desks", "open_desks"]


@dataclass(frozen=True, slots=True)
class Desks:
    """`desk` takes requests in, `gates` answers RunGates; each is None where the server has none."""

    desk: Desk | None
    gates: GateService | None
    log: GateLog | None
    coordinator: Coordinator | None = None

    @property
    def able(self) -> bool:
        """Whether requests can be answered: by a quorum only while it has learners."""
        return self.coordinator is None or self.coordinator.able

    async def close(self) -> None:
        """Finish what is queued and end the threads."""
        if self.desk is not None:
            await self.desk.close()
        if self.gates is not None:
            self.gates.close()
        if self.log is not None:
            self.log.close()


async def open_desks(config: ServerConfig, parts: Parts) -> Desks:
    """Call it on the event loop. Raises ConfigError for a learner that does not fit the devices' network."""
    pace = config.pace.pace() if config.pace else None
    log = _log(config)
    gates = None
    if parts.runners:
        worker = GateWorker(
            tuple(parts.runners.values()),
            max_batch=config.max_batch,
            max_pending=config.max_pending,
            pace=pace,
            log=log,
        )
        gates = GateService(worker, parts.codecs)
    desk: Desk | None = None
    coordinator = None
    if parts.device is not None:
        card, codec = parts.device
        coordinator = _coordinator(config, parts, card, gates, log)
        desk = QuorumDesk(
            card, codec, coordinator, max_batch=config.max_batch, max_pending=config.max_pending
        )
        await coordinator.open()
    elif parts.engine is not None:
        engine = parts.engine
        desk = TailDesk(
            engine.card,
            engine.codec,
            engine.tail,
            max_batch=config.max_batch,
            max_pending=config.max_pending,
            pace=pace,
        )
    return Desks(desk, gates, log, coordinator)


def _coordinator(
    config: ServerConfig, parts: Parts, card: ModelCard, gates: GateService | None, log: GateLog | None
) -> Coordinator:
    quorum, device = config.quorum, card.to_message()
    assert quorum is not None
    hosts: dict[str, Host] = {}
    tls = None if quorum.tls is None else quorum.tls.tls()
    voters: dict[int, Voter] = {}
    for index, place in enumerate(quorum.learners):
        if place.address:
            if place.address not in hosts:
                hosts[place.address] = Host(place.address, quorum.probe_s, tls)
            host = hosts[place.address]
            voters[index] = RemoteVoter(index, place.model, host, device)
        elif not place.on_device:
            assert gates is not None
            voter = LocalVoter(index, parts.runners[place.model].card.name, gates)
            voters[index] = voter
            if problem := misfit(voter.card, device):
                raise ConfigError(f"learners.{index}: {problem}")
    names = [voter.name for voter in voters.values()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"learners: '{twice[0]}' is here and elsewhere; a network has one vote")
    return Coordinator(quorum, len(card.exits), voters, hosts.values(), log)


def _log(config: ServerConfig) -> GateLog | None:
    if config.gate_log is None:
        return None
    try:
        return GateLog(config.gate_log)
    except OSError as error:
        raise DataError(f"cannot write {config.gate_log}: {error.strerror}") from None
