"""The shortest way through everything."""

from blissdata import DataStore


def test_publish_and_read(store: DataStore) -> None:
    with store.create_scan({"name": "a", "number": 1, "data_policy": "none"}) as scan:
        diode = scan.create_stream("diode", dtype="float64", unit="A")
        scan.prepare()
        diode.send(1.5)
        diode.join()
        assert store.load_scan(scan.key).streams["diode"][0] == 1.5
