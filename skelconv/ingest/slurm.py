"""Job scripts that ingest in parts under Slurm: an array of parts, then the merge.

``OUT.parts/`` holds the scripts, the parts' stores, their markers and logs. A part that is relaunched goes on
where it stopped, one that is finished ends at once. The scripts need nothing of Slurm but the number of their
part, so that any other scheduler, or a loop, can run them too.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from skelconv.store.publish import refuse_existing
from skelformats.errors import SkelconvError

JOB = "job.json"
LOGS = "logs"


class ClusterError(SkelconvError):
    """Job scripts cannot be written as asked."""


@dataclass(frozen=True)
class Job:
    """An ingest in parts.

    Attributes
    ----------
    parts
        How many.
    words
        The command line of a part up to OUT, without it: ``ingest DATASET RAW``, absolute paths.
    options
        What follows OUT.
    """

    parts: int
    words: tuple[str, ...]
    options: tuple[str, ...] = ()


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of an output."""
    return out.with_name(out.name + ".parts")


def part_store(out: Path, number: int) -> Path:
    """Return the store of a part; complete where it is there."""
    return parts_folder(out) / f"part-{number}.zarr"


def marker(out: Path, number: int, what: str) -> Path:
    """Return the marker of a part: ``done``, ``failed`` or ``begun``."""
    return parts_folder(out) / f"part-{number}.{what}"


def read_job(out: Path) -> Job | None:
    """Return the job that was written for an output; None where there is none.

    Raises
    ------
    ClusterError
        What is there is not the account of a job.
    """
    path = parts_folder(out) / JOB
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text())
        return Job(int(known["parts"]), tuple(known["words"]), tuple(known["options"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"{path}: found no account of a job ({error}), expected the one that `skelconv cluster` wrote. "
            "Write the scripts again after removing it"
        ) from error


def write_scripts(job: Job, out: Path, program: Sequence[str], directives: Sequence[str]) -> Path:
    """Write the scripts of a job for the absolute path ``out``; return the one that submits them.

    Written again for the same job, the scripts are replaced and the parts stay.

    Parameters
    ----------
    program
        Words that start skelconv in the job.
    directives
        Options of sbatch, such as ``--time=4:00:00``, for all jobs.

    Raises
    ------
    StoreError
        ``out`` exists.
    ClusterError
        Scripts of another job are there, or an option has a line break in it.
    """
    refuse_existing(out)
    for text in (*directives, *job.words, *job.options, str(out)):
        if "\n" in text:
            raise ClusterError(f"found {text!r}, expected an option or path without a line break")
    folder, earlier = parts_folder(out), read_job(out)
    if earlier is not None and earlier != job:
        raise ClusterError(
            f"{folder}: found the parts of another command ({shlex.join((*earlier.words, *earlier.options))} "
            f"in {earlier.parts} parts), expected none or those of this one. Remove the folder, or choose "
            "another OUT"
        )
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    (folder / JOB).write_text(json.dumps(asdict(job), indent=1) + "\n")
    _write(folder / "part.sh", _part_script(job, out, program, directives))
    _write(folder / "merge.sh", _merge_script(job, out, program, directives))
    return _write(folder / "submit.sh", _submit_script(job, out))


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _head(name: str, log: Path, directives: Sequence[str]) -> str:
    lines = [f"--job-name={name}", f"--output={log}", "--open-mode=append", *directives]
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines)


def _part_script(job: Job, out: Path, program: Sequence[str], directives: Sequence[str]) -> str:
    folder = parts_folder(out)
    command = shlex.join([*program, *job.words])
    options = "".join(f" {shlex.quote(word)}" for word in job.options)
    head = _head(f"ingest-{out.stem}", folder / LOGS / "part-%a.log", [f"--array=1-{job.parts}", *directives])
    return f"""{head}
# One part of {job.parts}: its number is that of the array task. Run again, it goes on where it stopped.
part=${{SLURM_ARRAY_TASK_ID:?set it to the number of a part, 1 to {job.parts}}}
cd {shlex.quote(str(folder))} || exit 2
at=$PWD/part-$part
finish() {{ echo "$1" > "$at.done.new" && mv "$at.done.new" "$at.done" && rm -f "$at.begun" "$at.failed"; }}
if [ -e "$at.zarr/zarr.json" ]; then
    # a store under its final name is complete
    [ -e "$at.done" ] || finish "exit code unknown"
    exit 0
fi
rm -f "$at.done" "$at.failed"
echo "host $(hostname) job ${{SLURM_JOB_ID:-none}} at $(date -u +%Y-%m-%dT%H:%M:%SZ)" > "$at.begun"
{command} "$at.zarr" --part "$part/{job.parts}" --quiet{options}
code=$?
if [ "$code" -le 1 ]; then
    # 1: done, and some sources were set aside
    finish "exit code $code"
    exit 0
fi
[ "$code" -ge 128 ] || echo "exit code $code on $(hostname) at $(date -u +%Y-%m-%dT%H:%M:%SZ)" > "$at.failed"
exit "$code"
"""


def _merge_script(job: Job, out: Path, program: Sequence[str], directives: Sequence[str]) -> str:
    folder = parts_folder(out)
    stores = " ".join(shlex.quote(str(part_store(out, number))) for number in range(1, job.parts + 1))
    target = shlex.quote(str(out))
    return f"""{_head(f"merge-{out.stem}", folder / LOGS / "merge.log", directives)}
# The parts to the store that one run would have made, byte for byte.
[ -e {target}/zarr.json ] && exit 0
exec {shlex.join([*program, "merge"])} {target} {stores}
"""


def _submit_script(job: Job, out: Path) -> str:
    return f"""#!/bin/bash
# Submits the parts that are not finished, and the merge that waits for them. Run it again after failures.
set -eu
cd {shlex.quote(str(parts_folder(out)))}
todo=
for part in $(seq 1 {job.parts}); do
    [ -e "part-$part.zarr/zarr.json" ] || todo=$todo,$part
done
wait_for=
if [ -n "$todo" ]; then
    array=$(sbatch --parsable --array="${{todo#,}}" part.sh)
    wait_for="--dependency=afterok:${{array%%;*}} --kill-on-invalid-dep=yes"
    echo "parts ${{todo#,}}: job ${{array%%;*}}"
fi
echo "merge: job $(sbatch --parsable $wait_for merge.sh)"
"""
