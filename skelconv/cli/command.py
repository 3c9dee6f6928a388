"""What every command line of the project shares: errors to exit codes, progress, lists, completion.

Exit codes: 0 done; 1 done, but something was set aside or found wrong; 2 not done, the message says why;
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem, get_completion_class

from skelformats.errors import SkelconvError

DONE, PROBLEMS, FAILED, INTERRUPTED = 0, 1, 2, 130
LOG_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal."""


class RunInterruptedError(SkelconvError):
    """The user stopped a run that can be resumed; the text says how."""


class NaturalOrderGroup(click.Group):
    """Lists its verbs in the order in which they are used, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs as they were added."""
        return list(self.commands)


class LazyGroup(NaturalOrderGroup):
    """A group whose verbs are imported when they are used, so that ``--help`` is there at once.

    ``verbs`` has the module of each verb, where it stands under the verb's name, and its line in the help.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]] = {}, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.verbs = dict(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs as they stand in the table, then those that were added."""
        return [*self.verbs, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name in self.verbs:
            command: click.Command = getattr(import_module(self.verbs[cmd_name][0]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the verbs without importing them, and the options."""
        rows = [(name, line) for name, (_, line) in self.verbs.items()]
        rows += [(name, command.get_short_help_str(99)) for name, command in self.commands.items()]
        found = [CompletionItem(name, help=line) for name, line in rows if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        rows = [(name, line) for name, (_, line) in self.verbs.items()]
        rows += [(name, command.get_short_help_str(99)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def run(cli: click.Command, args: list[str] | None = None) -> NoReturn:
    """Run a command line and exit; an error a user can act on becomes one message, never a traceback."""
    with _heard_interrupts() as heard:
        try:
            code = cli.main(args=args, standalone_mode=False)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            code = INTERRUPTED
        except RunInterruptedError as error:
            click.echo(str(error), err=True)
            code = INTERRUPTED
        except SkelconvError as error:
            click.echo(f"Error: {error}", err=True)
            code = FAILED
        except BrokenPipeError:
            # the reader of our output went away (`skelconv info ... | head`): not an error
            sys.stderr.close()
            code = DONE
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"Error: {where}{error.strerror or error}", err=True)
            code = FAILED
        except Exception:
            # libraries turn an interrupt into errors of other kinds
            if not heard:
                raise
            click.echo("\nInterrupted.", err=True)
            code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else DONE)


@contextmanager
def _heard_interrupts() -> Iterator[list[int]]:
    """Raise `KeyboardInterrupt` at Ctrl-C within the block, and collect the signals; afterwards, end at once.

    In the middle of an import the process ends at once too: libraries catch all that is raised there, or turn
    it into errors of other kinds. Where Ctrl-C is ignored, it stays ignored.
    """
    heard: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if _is_importing(frame):
            os.write(2, b"\nInterrupted.\n")
            os._exit(INTERRUPTED)
        heard.append(number)
        raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield heard
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield heard
    finally:
        # what is left is the end of the interpreter, where an exception would only be printed
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def progress(
    total: int, unit: str, total_bytes: int, quiet: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Yield ``advance(steps, bytes)``: a bar on a terminal, a line every few seconds elsewhere (stderr).

    The bar counts bytes where ``total_bytes`` is known, and steps where it is 0.
    """
    if quiet:
        yield lambda steps, size: None
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(
            total=total_bytes or total,
            unit="B" if total_bytes else f" {unit}",
            unit_scale=bool(total_bytes),
            file=sys.stderr,
            dynamic_ncols=True,
        )
        with bar:
            done = 0

            def advance(steps: int, size: int) -> None:
                nonlocal done
                done += steps
                if total_bytes:
                    bar.set_postfix_str(f"{done}/{total} {unit}", refresh=False)
                bar.update(size if total_bytes else steps)

            yield advance
        return
    began = last = time.monotonic()
    steps_done = bytes_done = 0

    def log(steps: int, size: int) -> None:
        nonlocal last, steps_done, bytes_done
        steps_done += steps
        bytes_done += size
        now = time.monotonic()
        if now - last >= LOG_SECONDS or steps_done == total:
            last = now
            seconds = max(now - began, 1e-9)
            rate = f"{steps_done / seconds:.3g} a second"
            if total_bytes:
                rate = f"{bytes_done / 1e6 / seconds:.0f} MB/s"
            click.echo(f"{steps_done}/{total} {unit}, {rate}", err=True)

    yield log


@contextmanager
def stop_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block as Ctrl-C does: by `KeyboardInterrupt`.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    taken = {name: old for name, old in before.items() if old is not signal.SIG_IGN}
    # only the main thread may: elsewhere whoever runs the thread decides what a signal means
    if threading.current_thread() is not threading.main_thread():
        taken = {}
    for name in taken:
        signal.signal(getattr(signal, name), interrupt)
    try:
        yield
    finally:
        for name, old in taken.items():
            signal.signal(getattr(signal, name), old)


class CommaList(click.ParamType[tuple[str, ...]]):
    """Words separated by commas: ``color,depth``."""

    name = "LIST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split the text; an empty one is an empty list."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in str(value).split(",") if word.strip())


def completion_command(program: str) -> click.Command:
    """Make the verb ``completion``, which prints a shell's completion script."""

    @click.command("completion", short_help="Print the completion script of a shell.")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    @click.pass_context
    def completion(ctx: click.Context, shell: str) -> None:
        variable = f"_{program.upper()}_COMPLETE"
        kind = get_completion_class(shell)
        if kind is None:
            raise click.UsageError(f"no completion for {shell}")
        click.echo(kind(ctx.find_root().command, {}, program, variable).source())

    completion.help = (
        f"Print the script that completes {program}'s verbs and options in SHELL.\n\n"
        f'Example, in ~/.bashrc:\n\n\b\n    eval "$({program} completion bash)"'
    )
    return completion
