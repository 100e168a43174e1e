"""The wire: messages and services of `splitpoint.v1`, what is generated from them, and the one client."""

PROTOCOL_VERSION = 1
