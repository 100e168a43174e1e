"""Requests made wrong: bytes of a message, or its fields, changed at random."""

import math
import struct

from splitpoint.codec.requests import payload_crc
from splitpoint.protos import splitpoint_pb2 as pb

NUMBERS = (0, 1, 2, 3, 7, 8, 9, 17, 18, 25, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
REALS = (0.0, -0.0, 1e-45, -1.0, 0.5, 1.0, 3.4e38, math.nan, math.inf, -math.inf)
HALVES = [struct.pack("<e", value) for value in (0.0, -1.0, 65504.0, math.nan, math.inf, -math.inf)]


def mutated_bytes(rng, data):
    """A serialised request with bits flipped, bytes cut out, put in, repeated, or its end missing."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(5):
            case 0 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place:place] = rng.randbytes(rng.randint(1, 9))
            case 2:
                del data[place : place + rng.randint(1, 40)]
            case 3:
                data[place:place] = data[place : place + rng.randint(1, 200)]
            case _:
                # The head of the message, where the scalars are, is hit as often as the payload.
                del data[min(place, rng.randint(0, 400)) + 1 :]
    return bytes(data)


def mutated_fields(rng, request):
    """A request with one to three fields changed; two times in three with a CRC that is right for them."""
    request = pb.InferRequest.FromString(request.SerializeToString())
    for _ in range(rng.randint(1, 3)):
        mutate_field(rng, request)
    if rng.random() < 0.67:
        request.payload_crc = payload_crc(request)
    return request.SerializeToString()


def mutate_field(rng, message):
    field = rng.choice(message.DESCRIPTOR.fields)
    name, kind = field.name, field.type
    if kind == field.TYPE_MESSAGE:
        inner = getattr(message, name)
        if rng.random() < 0.1:
            message.ClearField(name)
        elif rng.random() < 0.1:
            inner.SetInParent()
        else:
            mutate_field(rng, inner)
    elif field.is_repeated:
        values = list(getattr(message, name))
        rng.shuffle(values)
        del getattr(message, name)[:]
        getattr(message, name).extend(values[rng.randint(0, 2) :] * rng.choice((1, 1, 2)))
    elif kind == field.TYPE_BYTES:
        old = getattr(message, name)
        new = (b"", old[:-1], old + b"\0", rng.randbytes(len(old)), rng.choice(HALVES) * (len(old) // 2))
        setattr(message, name, rng.choice(new))
    elif kind == field.TYPE_STRING:
        setattr(message, name, rng.choice(("", "x" * 100_000, "0" * 16, "\u0000é")))
    elif kind == field.TYPE_BOOL:
        setattr(message, name, not getattr(message, name))
    elif kind == field.TYPE_FLOAT:
        setattr(message, name, rng.choice(REALS))
    elif kind == field.TYPE_ENUM:
        setattr(message, name, rng.randint(0, 5))
    else:
        setattr(message, name, rng.choice(NUMBERS))
