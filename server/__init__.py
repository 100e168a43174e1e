"""The server: validation, batching across devices, tails and the gRPC service.

May import the floors below. Torch is imported where networks run (`tail`, `learner`, training) only; `held` needs
neither torch nor grpc, so that the simulation can use it.
"""
