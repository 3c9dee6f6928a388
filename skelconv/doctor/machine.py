"""What this machine has for skelconv: Python, processors, memory, cards, and the extras that are
installed.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from skelconv.doctor.finding import Finding
from skelconv.extras import install_command, missing_of

USES = {
    "train": "models, pretraining, evaluation",
    "view": "pictures, animations, pages, crops",
    "parquet": "export --to parquet",
    "synth": "generated Human3.6M files",
    "cluster": "ingest --scheduler",
    "remote": "stores behind https:// and s3://",
}
"""What each extra is for."""


def examine_machine() -> Finding:
    """Look at this machine; takes the seconds that torch needs to start, where it is installed."""
    facts = [
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"{len(_processors())} processors, {_memory()}",
        _cards(),
        *(f"extra {name} ({use}): {_state(name)}" for name, use in USES.items()),
    ]
    odd = []
    if os.name == "nt":
        odd.append(
            "Windows has no advisory locks: two commands may write one output at once. Start one at a time"
        )
    return Finding(f"skelconv {version('skelconv')}", tuple(facts), tuple(odd))


def _state(extra: str) -> str:
    return install_command(extra) if missing_of(extra) else "installed"


def _processors() -> range | set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return "memory not known on this system"
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return f"{sizes['MemTotal'] / 1e9:.0f} GB of memory, {sizes['MemAvailable'] / 1e9:.0f} GB free"


def _cards() -> str:
    if find_spec("torch") is None:
        return "no torch, so no card is looked for"
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__}: no CUDA card, training runs on the processors"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"torch {torch.__version__}: {', '.join(names)}"
