"""The process that serves: CPU, memory, start. As prometheus_client finds them, where there is a /proc."""

from prometheus_client import CollectorRegistry, ProcessCollector

from service.observe.instruments import Instruments


class Process:
    """The instruments of one process. Of several workers all add up, and the start is that of the first."""

    def __init__(self, make: Instruments) -> None:
        self._found = ProcessCollector(registry=CollectorRegistry())
        self._cpu = make.counter("process_cpu_seconds_total", "CPU time, user's and system's.")
        self._memory = make.gauge("process_resident_memory_bytes", "Resident memory.", "sum")
        self._start = make.gauge(
            "process_start_time_seconds", "When the process started, unix seconds.", "min"
        )
        self._spent_s = 0.0

    def refresh(self) -> None:
        found = {sample.name: sample.value for family in self._found.collect() for sample in family.samples}
        if not found:
            return
        self._cpu.inc(found["process_cpu_seconds_total"] - self._spent_s)  # on top of an earlier process's
        self._spent_s = found["process_cpu_seconds_total"]
        self._memory.set(found["process_resident_memory_bytes"])
        self._start.set(found["process_start_time_seconds"])
