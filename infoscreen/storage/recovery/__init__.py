"""What the recovery remembers: attempts, decisions, incidents, ladders, pauses; and reading the unwell."""
