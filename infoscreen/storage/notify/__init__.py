"""Channels, rules, what was told of incidents, and the outbox of messages."""
