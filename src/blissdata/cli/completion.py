"""`blissdata completion`: what teaches a shell to complete our commands."""

from __future__ import annotations

import argparse

__all__ = ["add_to"]

SHELLS = ("bash", "zsh", "tcsh")

_EXAMPLES = """\
examples:
  eval "$(blissdata completion bash)"       for this shell; in ~/.bashrc for all to come
  blissdata completion bash > ~/.local/share/bash-completion/completions/blissdata
  blissdata completion zsh > ~/.zfunc/_blissdata
                                            with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  blissdata completion tcsh > ~/.blissdata.tcsh
                                            with `source ~/.blissdata.tcsh` in ~/.tcshrc

exit codes: 0 done, 1 failed (stderr says why), 2 wrong usage
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "completion",
        help="print what teaches your shell to complete all this",
        description="Print a script that completes commands and options in a shell.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli import command_line_parser
    from blissdata.cli.tables import missing_extra

    try:
        import shtab
    except ImportError as error:
        raise missing_extra("completion scripts", "shtab") from error
    print(shtab.complete(command_line_parser(), shell=arguments.shell))
    return 0
