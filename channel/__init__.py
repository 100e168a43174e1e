"""Links, media and the emulator: what the radio does to a message on its way.

Each physical model is one file that gives the SNR over time; `link.py` turns it into rates, transfer times
and noise, `medium.py` and `round_robin.py` share it among devices, `config.py` builds all of it from a
scenario. This folder needs numpy only and may import `protos/`; grpc is imported in `emulator.py` alone.
"""
