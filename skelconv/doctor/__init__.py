"""What something is, and what to do with it: any folder, file or store, and this machine.

The function is `skelconv.doctor.look.look`.
"""

from skelconv.doctor.finding import Finding
from skelconv.doctor.look import look
from skelconv.doctor.machine import examine_machine

__all__ = ["Finding", "examine_machine", "look"]
