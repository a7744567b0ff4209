"""Publishes and finds scans with a redis-om `HashModel` as the identity, as existing programs define it.

python identities_program.py URL
"""

from __future__ import annotations

import json
import sys

import pydantic
from redis_om import Field, HashModel

from blissdata import DataStore


class Beamline(HashModel):
    """Who a scan is, on another beamline."""

    name: str = Field(index=True)
    number: int = Field(index=True)
    sample: str | None = Field(index=True, default=None)

    class Meta:
        """Where such scans are."""

        global_key_prefix = "bl99"


def main() -> None:
    """Prints one line of JSON."""
    with DataStore(sys.argv[1], identity_model_cls=Beamline) as store:
        scan = store.create_scan({"name": "tomo", "number": 7, "unknown": 1}, {"title": "t"})
        other = store.create_scan({"name": "tomo", "number": 8, "sample": "steel"})
        try:
            store.create_scan({"name": "tomo"})
        except pydantic.ValidationError as error:
            refused = [list(problem["loc"]) for problem in error.errors()]
        copy = store.load_scan(other.key)
        found = {
            "prefixes": [key.split(":")[:2] for key in (scan.key, other.key)],
            "fields": [copy.name, copy.number, copy.sample, scan.sample],
            "refused": refused,
            "number": store.search_existing_scans(number=7)[1] == [scan.key],
            "sample": store.search_existing_scans(sample="st*")[1] == [other.key],
            "all": store.search_existing_scans()[1] == [scan.key, other.key],
            "newest": store.get_last_scan()[1] == other.key,
        }
        scan.close()
        other.close()
        print(json.dumps(found))


if __name__ == "__main__":
    main()
