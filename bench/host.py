"""What a report says of the machine that it was made on."""

import datetime
import os
import platform


def description():
    with open("/proc/cpuinfo") as lines:
        names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        model = next(names, "unknown processor")
    return f"{os.cpu_count()} cores, {platform.release()}, {model}; {datetime.date.today()}"


class Stolen:
    """How much of a virtual machine's time its host gives to others, from here on."""

    def __init__(self):
        self.before = ticks()

    def __str__(self):
        stolen, whole = (now - then for now, then in zip(ticks(), self.before))
        return f"The host gave {100 * stolen / max(1, whole):.0f} % of the machine's time to others meanwhile."


def ticks():
    """Since the start, of all cores: stolen, and in all (proc_stat(5))."""
    with open("/proc/stat") as lines:
        values = [int(value) for value in next(lines).split()[1:9]]
    return values[7], sum(values)
