"""The engine's port over HTTP: the API client, leader election and Events."""
