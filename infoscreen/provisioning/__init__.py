"""Prepares what the daemon and the devices need of the broker: its files, accounts and passwords."""
