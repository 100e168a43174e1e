"""Scenarios, the virtual-time engines, the live runner and the reports."""
