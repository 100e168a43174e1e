"""Whether the server at an address fits this device: protocol, network, a common coder, and what it takes."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import RemoteError
from ..models.card import ModelCard
from ..protos import splitpoint_pb2 as pb
from ..protos.client import ServiceClient
from .encoder import CODERS

__all__ = ["Agreement", "agreement"]


class Agreement(NamedTuple):
    """How to speak to a server: the coder, whether it takes whole inputs only, as a quorum of other networks, and the
    name of the policy that it decides by for boards that ask, if any."""

    coder: str
    whole_input: bool
    policy: str = ""


async def agreement(client: ServiceClient, card: ModelCard, coder: str, tables_crc: int) -> Agreement:
    """With this server: `coder` where the server has it too, and for the entropy coder the same tables
    (`TokenCodec.tables_crc`); else bit packing.

    Raises RemoteError, naming both sides, where the server speaks another protocol version or runs other
    weights; LinkDown or TimedOut where it is not to be reached.
    """
    description = await client.describe(client.timeouts.health)
    model = description.model
    if model.id != card.id:
        raise RemoteError(
            f"{client.address} runs model {model.id} ({model.name}), this device {card.id} ({card.name})"
        )
    known = CODERS[coder] in description.coders
    agreed = coder if known and (coder == "packed" or description.tables_crc == tables_crc) else "packed"
    return Agreement(agreed, pb.PAYLOAD_KIND_TOKENS not in description.payloads, description.policy)
