"""Conversations as plain data: records, sessions and session names."""
