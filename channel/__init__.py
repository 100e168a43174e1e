"""Links, media and the emulator: what the radio does to a message on its way.

Each physical model is one file that gives the SNR over time; `rate.py` and `slotted_link.py` turn it into rates,
transfer times and noise; `medium.py`, `round_robin.py` and `mahimahi.py` share the air among devices; `config.py` has
what a scenario says of all of it, and what builds it. May import `protos/`; grpc is imported for the emulator alone.
"""
