"""The process: Kopf for its life, Reflectors for what is there, the engine for the work, a Lease for who may write."""
