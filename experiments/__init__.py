"""Experiments: functions that return a complete config. No logic here."""
