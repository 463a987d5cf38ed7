"""The door to the broker.

Stays connected, hands on batches, acknowledges after commit, publishes. Decides nothing about messages.
"""
