"""The door to notification channels: texts in the channel's language, and a process for each delivery."""
