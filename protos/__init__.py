"""The wire: messages and services of `splitpoint.v1`, what is generated from them, and the one client."""

import os

PROTOCOL_VERSION = 1

# Read when grpc is imported. A server that goes away is an exception for the caller, not a line for a terminal.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
