"""How a memory tracker is to run, and the command line that says so, as blissdata 2.x has it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from blissdata.redis_engine.limits import PinLimit

__all__ = ["Options", "add_arguments", "options_from"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a tracker is to run; the defaults are those of its command line."""

    cleaning_threshold: float = 80
    """From which part of `maxmemory` on points are forgotten [%]."""

    protected_history: float = 180
    """What came in this time is not forgotten [s]."""

    monitoring_period: float = 30
    """Time between rounds while nothing happens [s]."""

    inactive_scan_deletion: float = 86400
    """Open scans without anything new for so long are closed and deleted [s]."""

    closed_scan_deletion: float = 604800
    """How long closed scans stay [s]."""

    cleaning_time_slice: float = 20
    """Which part of the time that is remembered is forgotten at once [%]."""

    pin_limit: PinLimit = field(default_factory=PinLimit)
    """Up to which use of memory pins are kept."""

    yielding: bool = False
    """True to go into the protected history rather than to let publishers wait."""

    def __post_init__(self) -> None:
        for name in (
            "protected_history",
            "monitoring_period",
            "inactive_scan_deletion",
            "closed_scan_deletion",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a time of 0 s or more, not {getattr(self, name)}")
        if not self.monitoring_period > 0:
            raise ValueError("monitoring_period is a time above 0 s: it would never pause")
        for name in ("cleaning_threshold", "cleaning_time_slice"):
            if not 0 < getattr(self, name) <= 100:
                raise ValueError(
                    f"{name} is a part above 0 and up to 100 %, not {getattr(self, name)}"
                )


def add_arguments(parser: argparse.ArgumentParser, *, everywhere: bool = False) -> None:
    """The options, in this order. `everywhere`: the server is found as other commands find it, where
    none is given."""
    default = Options()
    parser.add_argument(
        *(["--url"] if everywhere else []),
        "--redis-url",
        dest="redis_url",
        required=not everywhere,
        metavar="URL",
        help="the server, redis://host:port"
        + (" (default: $BLISSDATA_URL, else your local server)" if everywhere else ""),
    )
    for name, value, unit, what in (
        ("cleaning-threshold", default.cleaning_threshold, "%", "use of memory to begin at"),
        ("protected-history", default.protected_history, "s", "what is so recent stays"),
        ("monitoring-period", default.monitoring_period, "s", "time between rounds"),
        ("inactive-scan-deletion", default.inactive_scan_deletion, "s", "open scans without news"),
        ("closed-scan-deletion", default.closed_scan_deletion, "s", "how long closed scans stay"),
        (
            "cleaning-time-slice",
            default.cleaning_time_slice,
            "%",
            "part of the time to forget at once",
        ),
    ):
        sign = unit.replace("%", "%%")
        parser.add_argument(
            f"--{name}",
            type=int,
            default=int(value),
            metavar="N",
            help=f"{what} [{sign}] (default {value:g})",
        )
    parser.add_argument(
        "--pin-limit",
        type=PinLimit.argument,
        default=default.pin_limit,
        metavar="LIMIT",
        help="use of memory up to which pins are kept, as a part or a size such as 4gb; 100%%: always, "
        f"publishers wait instead (default {default.pin_limit}%)",
    )
    parser.add_argument(
        "--init-db", action="store_true", help="prepare the server first, if it is empty"
    )


def options_from(arguments: argparse.Namespace) -> Options:
    """What the command line chose. Raises `ValueError`."""
    return Options(
        cleaning_threshold=arguments.cleaning_threshold,
        protected_history=arguments.protected_history,
        monitoring_period=arguments.monitoring_period,
        inactive_scan_deletion=arguments.inactive_scan_deletion,
        closed_scan_deletion=arguments.closed_scan_deletion,
        cleaning_time_slice=arguments.cleaning_time_slice,
        pin_limit=arguments.pin_limit,
    )
