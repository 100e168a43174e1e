"""A client that asks and lets no reply through: HTTP/2 by hand, since gRPC's own clients always read on."""

import socket
import struct

_WINDOW = 4
"""SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113): how many bytes of a reply may be sent unasked."""


class Stalled:
    """A connection to "host:port" on which calls begin and nothing can be answered; `with` closes it."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 5.0)
        settings = _frame(4, 0, 0, struct.pack(">HI", _WINDOW, 0))
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        self._stream = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def call(self, path, message=b""):
        """Begin a call of "/service/Method" with one message, and half-close."""
        self._stream += 2
        fields = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"),
                  ("content-type", "application/grpc"), ("te", "trailers"))  # fmt: skip
        headers = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)
        body = b"\0" + struct.pack(">I", len(message)) + message
        self._socket.sendall(_frame(1, 4, self._stream, headers) + _frame(0, 1, self._stream, body))


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _string(text):
    return bytes([len(text)]) + text.encode()
