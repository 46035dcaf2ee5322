"""The only place that knows Kopf: it watches, runs the probes and the process."""
