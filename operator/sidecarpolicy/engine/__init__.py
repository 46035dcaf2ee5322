"""What the operator sees and does: the store, the queue and the two passes, over a narrow port. No HTTP, no Kopf."""
