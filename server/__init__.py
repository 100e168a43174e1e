"""The server: validation, batching across devices, tails and the gRPC service.

May import protos/, codec/, models/ and channel/. Torch is imported by `tail` only, grpc by `service` and
`serve`; `schedule` needs neither, so that the simulation can use it.
"""
