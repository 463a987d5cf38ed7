"""Notifications: channels, what is told when, and delivering it."""
