"""Whether the server at an address fits this device: the same protocol, the same network, a common coder."""

from __future__ import annotations

from ..errors import RemoteError
from ..models.card import ModelCard
from ..protos.client import ServiceClient
from .encoder import CODERS

__all__ = ["agreed_coder"]


async def agreed_coder(client: ServiceClient, card: ModelCard, coder: str, tables_crc: int) -> str:
    """The coder to use with this server: `coder` where the server has it too, and for the entropy coder the
    same tables (`TokenCodec.tables_crc`); else bit packing.

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
    return coder if known and (coder == "packed" or description.tables_crc == tables_crc) else "packed"
