"""Decision, Observation, the rules as pure functions, and the policies that decide.

May read `models/` (Profile) and `channel/`; needs numpy only.
"""
