"""Frames' ends: what an answer says, counted once, written down and published."""
