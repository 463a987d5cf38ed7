"""The protocol, v1 (frozen).

Bytes to typed messages and back, and the topics. Shared by daemon, agent and simulator.
"""
