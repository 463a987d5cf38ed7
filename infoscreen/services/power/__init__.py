"""Power cycles: carrying them out at the outlet, and as commands of clients."""
