"""Which keywords of `File` belong to which kind of file, so that one set serves all."""

from __future__ import annotations

__all__ = ["ignore_file_arguments"]

_OWN = {
    "h5py": {"mode"},
    "static_hdf5": set[str](),
    "dynamic_hdf5": {
        "hdf5_retry_handler",
        "retry_timeout",
        "retry_period",
        "lima_names",
        "instrument_name",
        "lima_url_template",
        "lima_url_template_args",
        "prioritize_non_native_h5items",
    },
}
"""The keywords that only this kind of file understands."""


def ignore_file_arguments(context: str) -> set[str]:
    """The keywords to drop for a file of that kind (`h5py`, `static_hdf5`, `dynamic_hdf5`): those
    that belong to the others. For any other kind: all of them."""
    everything = set[str]().union(*_OWN.values())
    return everything - _OWN.get(context, set())
