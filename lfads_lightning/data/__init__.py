"""Recordings: reading, checking, serving, and generating."""
