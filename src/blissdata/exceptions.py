"""Every error of the package, under one root, branched by what the caller can do.

    BlissdataError
    ├── StoreError                              the server, as a whole
    │   ├── ProtocolVersionError                (RuntimeError) not ours, or of another version
    │   ├── ServerNotEmptyError                 (RuntimeError) will not prepare a server in use
    │   ├── StoreConnectionError                (ConnectionError) nobody answers
    │   ├── StoreClosedError                    (RuntimeError) its `close` was called before
    │   ├── ServerRefusedError                  the server would not do it
    │   │   ├── ServerFullError                 memory limit reached; nothing was stored
    │   │   └── ServerBusyError                 not now: loading, disk trouble, read-only replica
    │   │       └── NotDurableYetError          stored, but not on disk or on a replica in time
    │   ├── DurabilityUnavailableError          (RuntimeError) the server cannot give it
    │   └── LocalServerError                    (RuntimeError) the embedded server would not start
    ├── ScanError
    │   ├── ScanLoadError
    │   │   ├── ScanNotFoundError               (KeyError) no such scan, or deleted
    │   │   └── ScanValidationError             (ValueError) its document cannot be understood
    │   ├── ScanKeyError                        (RuntimeError) that cannot be the key of a scan
    │   ├── ScanNotClosedError                  (RuntimeError) still open, and not to be touched
    │   ├── ScanTooLargeError                   (RuntimeError) metadata above the limit
    │   ├── UnauthorizeStateTransition          (RuntimeError) not from this state
    │   ├── ScanInfoError                       (RuntimeError) info changed where nobody can see it
    │   └── NoScanAvailable                     (LookupError) none, or none in time
    ├── StreamError
    │   ├── StreamExistsError                   (RuntimeError) the name is taken
    │   ├── StreamConflictError                 somebody else wrote at this index
    │   ├── StreamSealedError                   (RuntimeError) sealed: it takes no more points
    │   ├── StreamRewoundError                  the server lost what it had confirmed
    │   ├── StreamVanishedError                 its key left the server
    │   ├── PublisherLostError                  a scan's publisher gives no sign of life any more
    │   ├── PublishError                        (RuntimeError) points that were not confirmed
    │   │   └── PublishTimeoutError             (TimeoutError) not in the time allowed
    │   ├── PayloadError                        (ValueError) an entry that lies or is damaged
    │   ├── UnknownEncodingError                (ValueError)
    │   └── MissingPluginException              a plugin that is not installed
    ├── IndexNotYetThereError                   (IndexError) later
    ├── IndexNoMoreThereError                   (IndexError) gone from the server
    │   └── PointsNotInFileError                … and they cannot be read from the stream's file
    ├── IndexWontBeThereError                   (IndexError) never
    ├── PinError                                a pin does not hold what it should
    │   ├── PinBrokenError                      points that it held were forgotten
    │   └── PinGoneError                        (LookupError) it was removed or taken over, or its scan is gone
    ├── DataTimeoutError                        (TimeoutError) points that did not come in the time allowed
    ├── EndOfStream                             every point was read
    │   ├── StreamAbandonedError                … of a stream that nobody will ever seal
    │   └── StreamDeletedError                  … of a stream whose scan was deleted: perhaps not all
    ├── EmptyViewException                      a plugin has no view yet
    ├── NoWritePermission                       (PermissionError) a read-only scan or stream
    │   └── ReadOnlyFileError                   (ValueError) a file that is opened to be read
    ├── DataFileError                           (OSError) points or images cannot be read from a file
    │   ├── DataFileRefusedError                (PermissionError) outside the data roots, or no file
    │   ├── DataFileMissingError                (FileNotFoundError) not there, perhaps not yet
    │   ├── DataFileBusyError                   (BlockingIOError) somebody is writing it: not now
    │   ├── DataFileIncompleteError             (LookupError) the item, or a part, is not in it yet
    │   └── DataFileContentError                (ValueError) it holds something else, or is damaged
    ├── FileClosedError                         (ValueError) it was closed, and so was all that is in it
    ├── FileWriteError                          (OSError) a file cannot be written
    │   └── FileWriteRefusedError               (PermissionError) outside the roots, somebody else's, or taken
    ├── ImageError                              an image cannot be had from a detector
    │   ├── ImageServerError                    (RuntimeError) its server refuses, or nobody answers
    │   │   └── NoImageAvailable                that frame is not taken yet
    │   └── ImageFormatNotSupported             (ValueError) bytes of a format that is not known
    ├── SharedMemoryError                       (OSError) no room for a buffer of frames
    ├── BeaconError                             a Beacon server
    │   ├── BeaconAddressError                  (ValueError) that is no address of one
    │   ├── BeaconConnectionError               (ConnectionError) nobody answers
    │   ├── BeaconTimeoutError                  (TimeoutError) no answer in time
    │   ├── BeaconRefusedError                  (RuntimeError) it refuses, or says what means nothing
    │   └── BeaconUndefinedError                (KeyError) it has no such key
    ├── LayoutError                             (ValueError) a file's layout, or a value in it, that cannot be
    │   └── LayoutOverflowError                 (OverflowError) … a number beyond its dtype
    ├── SourceFileError                         (ValueError) a file that cannot be replayed
    │   └── RecordingError                      … a recording that is damaged, or not one
    └── MissingExtraError                       (ImportError) an optional dependency, and its name

Errors that come from the server are raised in a flavour that is also the Redis client's error
(see `blissdata.redis_engine.backends.client`), so that this module stays cheap to import.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BeaconAddressError",
    "BeaconConnectionError",
    "BeaconError",
    "BeaconRefusedError",
    "BeaconTimeoutError",
    "BeaconUndefinedError",
    "BlissdataError",
    "DataFileBusyError",
    "DataFileContentError",
    "DataFileError",
    "DataFileIncompleteError",
    "DataFileMissingError",
    "DataFileRefusedError",
    "DataTimeoutError",
    "DurabilityUnavailableError",
    "EmptyViewException",
    "EndOfStream",
    "FileClosedError",
    "FileWriteError",
    "FileWriteRefusedError",
    "ImageError",
    "ImageFormatNotSupported",
    "ImageServerError",
    "IndexNoMoreThereError",
    "IndexNotYetThereError",
    "IndexWontBeThereError",
    "LayoutError",
    "LayoutOverflowError",
    "LocalServerError",
    "MissingExtraError",
    "MissingPluginException",
    "NoImageAvailable",
    "NoScanAvailable",
    "NoWritePermission",
    "NotDurableYetError",
    "PayloadError",
    "PinBrokenError",
    "PinError",
    "PinGoneError",
    "PointsNotInFileError",
    "ProtocolVersionError",
    "PublishError",
    "PublishTimeoutError",
    "PublisherLostError",
    "ReadOnlyFileError",
    "RecordingError",
    "ScanError",
    "ScanInfoError",
    "ScanKeyError",
    "ScanLoadError",
    "ScanNotClosedError",
    "ScanNotFoundError",
    "ScanTooLargeError",
    "ScanValidationError",
    "ServerBusyError",
    "ServerFullError",
    "ServerNotEmptyError",
    "ServerRefusedError",
    "SharedMemoryError",
    "SourceFileError",
    "StoreClosedError",
    "StoreConnectionError",
    "StoreError",
    "StreamAbandonedError",
    "StreamConflictError",
    "StreamDeletedError",
    "StreamError",
    "StreamExistsError",
    "StreamRewoundError",
    "StreamSealedError",
    "StreamVanishedError",
    "UnauthorizeStateTransition",
    "UnknownEncodingError",
]


class BlissdataError(Exception):
    """The root: `except BlissdataError` catches everything that this package raises on purpose,
    except plain `TypeError` and `ValueError` for arguments of the wrong kind."""


# ---------------------------------------------------------------------------------- the server


class StoreError(BlissdataError):
    """The server as a whole cannot be used as asked."""


class ProtocolVersionError(StoreError, RuntimeError):
    """The database is not prepared for blissdata, or for another version of it."""


class ServerNotEmptyError(StoreError, RuntimeError):
    """`init_db=True` prepares empty servers only; this one holds data."""


class StoreConnectionError(StoreError, ConnectionError):
    """Nobody answers at that address, or the connection was lost."""


class StoreClosedError(StoreError, RuntimeError):
    """The data store was closed, and then asked for something."""


class ServerRefusedError(StoreError):
    """The server answered with a refusal; nothing was stored."""


class ServerFullError(ServerRefusedError):
    """The server reached its memory limit; nothing of this request was stored. It passes when
    memory is freed (memory tracker, deleted scans) or the limit is raised."""


class ServerBusyError(ServerRefusedError):
    """The server cannot do it at the moment (it loads its data, its disk is full, it is a read-only
    replica, a script blocks it); nothing of this request was stored."""


class NotDurableYetError(ServerBusyError):
    """The server has the points, but they were not on its disk, or on a replica, in the time that was
    given to that. The publisher asks again."""


class DurabilityUnavailableError(StoreError, RuntimeError):
    """The server cannot give the durability that a scan asks for."""


class LocalServerError(StoreError, RuntimeError):
    """The embedded server could not be started, found or stopped."""


# ---------------------------------------------------------------------------------- scans


class ScanError(BlissdataError):
    """About one scan."""


class ScanLoadError(ScanError):
    """The scan cannot be loaded."""


class ScanNotFoundError(ScanLoadError, KeyError):
    """There is no scan under that key: never was, was deleted, or expired."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return Exception.__str__(self)


class ScanValidationError(ScanLoadError, ValueError):
    """There is something under that key, but not a scan document that we understand."""


class ScanKeyError(ScanError, RuntimeError):
    """That text cannot be the key of a scan in this store."""


class ScanNotClosedError(ScanError, RuntimeError):
    """The scan is still open."""


class ScanTooLargeError(ScanError, RuntimeError):
    """The scan's metadata are above the limit."""


class UnauthorizeStateTransition(ScanError, RuntimeError):  # noqa: N818 — the name that clients import
    """A scan steps CREATED → PREPARED → STARTED → STOPPED → CLOSED; `close` from any state."""

    def __init__(self, orig_state: Any, dest_state: Any, hint: str = "") -> None:
        def name(state: Any) -> str:
            return str(getattr(state, "name", state))

        message = f"Unauthorize scan transition from {name(orig_state)} to {name(dest_state)}"
        super().__init__(f"{message}: {hint}" if hint else message)
        self.orig_state = orig_state
        self.dest_state = dest_state
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:  # pickled by the constructor's arguments
        return type(self), (self.orig_state, self.dest_state, self._hint)


class ScanInfoError(ScanError, RuntimeError):
    """`scan.info` was changed at a time when readers would never learn of it."""


class NoScanAvailable(ScanError, LookupError):  # noqa: N818 — the name that clients import
    """No scan (yet)."""


# ---------------------------------------------------------------------------------- streams


class StreamError(BlissdataError):
    """About one stream."""


class StreamExistsError(StreamError, RuntimeError):
    """The scan has a stream of that name."""


class StreamConflictError(StreamError):
    """Somebody else wrote into the stream at the index that this publisher was about to fill."""


class StreamSealedError(StreamError, RuntimeError):
    """The stream is sealed: its length is final."""


class StreamRewoundError(StreamError):
    """The server ends before what it had confirmed: it was restarted from an older state."""


class StreamVanishedError(StreamError):
    """The stream, or its scan, left the server while it was in use."""


class PublisherLostError(StreamError):
    """The publisher of the scan that was waited for has given no sign of life for seconds. Reading may be
    tried again: it may have been held up, or cut off."""


class PublishError(StreamError, RuntimeError):
    """Points that were sent are not confirmed, and the publisher has given up on them."""


class PublishTimeoutError(PublishError, TimeoutError):
    """Points could not be confirmed in the time allowed."""


class PayloadError(StreamError, ValueError):
    """An entry on the server is damaged or does not match the stream's encoding."""


class UnknownEncodingError(StreamError, ValueError):
    """The stream declares an encoding that this version does not know."""


class MissingPluginException(StreamError):  # noqa: N818 — the name that clients import
    """The plugin that interprets the stream is not installed here."""

    def __init__(self, stream_name: str, plugin_name: str, hint: str = "") -> None:
        message = f"Stream '{stream_name}' needs the plugin '{plugin_name}', which is not installed"
        super().__init__(f"{message}: {hint}" if hint else message)
        self.stream_name = stream_name
        self.plugin_name = plugin_name
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:  # pickled by the constructor's arguments
        return type(self), (self.stream_name, self.plugin_name, self._hint)


class IndexNotYetThereError(BlissdataError, IndexError):
    """That point is not published yet; it may come."""


class IndexNoMoreThereError(BlissdataError, IndexError):
    """That point was published and has left the server."""


class PointsNotInFileError(IndexNoMoreThereError):
    """Those points have left the server, and the stream's file does not give them; its cause is the
    `DataFileError` that says why."""


class IndexWontBeThereError(BlissdataError, IndexError):
    """The stream is sealed before that point; it will never come."""


class PinError(BlissdataError):
    """A pin does not hold what it should."""


class PinBrokenError(PinError):
    """Points that a pin held were forgotten: memory went beyond the operator's limit, or the holder was
    silent for too long. The pin goes on from what is left; the message says what is lost."""


class PinGoneError(PinError, LookupError):
    """The pin was removed or taken over by somebody else, or its scan was deleted."""


class DataTimeoutError(BlissdataError, TimeoutError):
    """Points that a reader waited for did not come in the time that it allowed."""


class EndOfStream(BlissdataError):  # noqa: N818 — the name that clients import
    """Every point of the stream was read, and it is sealed."""


class StreamAbandonedError(EndOfStream):
    """Every point that there is was read; the scan is closed, but nobody sealed the stream."""


class StreamDeletedError(EndOfStream):
    """Every point up to the seal was read, but the scan was deleted meanwhile: if it was still running, by
    force, these are not all that its publisher sent."""


class EmptyViewException(BlissdataError):  # noqa: N818 — the name that clients import
    """Raised by a plugin whose events carry no readable point yet."""


class NoWritePermission(BlissdataError, PermissionError):  # noqa: N818 — the name that clients import
    """The scan or stream was opened for reading."""


class ReadOnlyFileError(NoWritePermission, ValueError):
    """Something asked a file to change that is opened to be read. An `OSError` and a `ValueError`, as
    what h5py raises then."""


# ---------------------------------------------------------------------------------- files of data


class DataFileError(BlissdataError, OSError):
    """Points or images cannot be read from a file; the message names it."""


class DataFileRefusedError(DataFileError, PermissionError):
    """The file lies outside the data roots, or is no regular file: it was not opened."""


class DataFileMissingError(DataFileError, FileNotFoundError):
    """The file is not there. It may come."""


class DataFileBusyError(DataFileError, BlockingIOError):
    """Somebody is writing the file, and it makes no sense at this moment. It passes."""


class DataFileIncompleteError(DataFileError, LookupError):
    """The file has no such item, or less of it than was asked for. It may come."""


class DataFileContentError(DataFileError, ValueError):
    """The file is not what was promised: another shape or dtype, damaged, or no HDF5 file."""


class FileClosedError(BlissdataError, ValueError):
    """A file object was closed: it and its groups and datasets give nothing more."""


class FileWriteError(BlissdataError, OSError):
    """A scan's file cannot be written; the message names it."""


class FileWriteRefusedError(FileWriteError, PermissionError):
    """The file must not be touched: it lies outside the roots, another writer has it, or it was begun by
    somebody else."""


# ---------------------------------------------------------------------------------- detectors


class ImageError(BlissdataError):
    """An image cannot be had from a detector."""


class ImageServerError(ImageError, RuntimeError):
    """The detector's server refused, or nobody answers there."""


class NoImageAvailable(ImageServerError):  # noqa: N818 — the name that clients import
    """The detector has not taken that frame yet."""


class ImageFormatNotSupported(ImageError, ValueError):  # noqa: N818 — the name that clients import
    """The bytes are no image, or one of a format that this version does not know."""


class SharedMemoryError(BlissdataError, OSError):
    """There is no shared memory for the frames of a detector, or not enough of it."""


# ---------------------------------------------------------------------------------- files to replay
class BeaconError(BlissdataError):
    """A Beacon server was asked, and there is no answer to use."""


class BeaconAddressError(BeaconError, ValueError):
    """`$BEACON_HOST` is set, and is not like `hostname:port`."""


class BeaconConnectionError(BeaconError, ConnectionError):
    """Nobody answers at that address, or not to the end."""


class BeaconTimeoutError(BeaconError, TimeoutError):
    """The server was silent for too long."""


class BeaconRefusedError(BeaconError, RuntimeError):
    """The server refuses, with its reason; or what it says means nothing in Beacon's protocol."""


class BeaconUndefinedError(BeaconError, KeyError):
    """The server has no such key."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return Exception.__str__(self)


class LayoutError(BlissdataError, ValueError):
    """The layout of a file, or a value in it, is not what HDF5 can hold; the message names the path."""


class LayoutOverflowError(LayoutError, OverflowError):
    """A number in a layout does not fit into its dtype."""


class SourceFileError(BlissdataError, ValueError):
    """A file cannot be replayed: it is not there, of no known format, or damaged."""


class RecordingError(SourceFileError):
    """A recording is damaged, is none at all, or cannot be published as asked."""


class MissingExtraError(BlissdataError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
