"""What to do about it: use cases and loops. No HTTP, no SQL, no MQTT client."""
