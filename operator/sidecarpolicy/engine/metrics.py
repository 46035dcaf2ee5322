"""Placeholder."""


class Metrics:
    def workload_write(self, result: str) -> None: ...
