"""Gymnasium and PettingZoo environments in which policies learn to decide, from a calibration Profile.

They walk the same pure rules, links, media and Profiles as the engines. Needs numpy, gymnasium and pettingzoo;
may import `models/` (Profile) and `channel/`. What reads scenarios and registers ids is `sim/environments.py`.
"""
