"""Scouting: what could be a student, and how fast it is on a device before anything is trained."""
