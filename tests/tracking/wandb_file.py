"""Read back what an offline W&B run wrote: blocks of 32 KiB with records of one protobuf each."""

import json
import struct
import zlib

import wandb
from wandb.proto import wandb_internal_pb2

BLOCK = 32768


def records(path):
    """All intact records of a `.wandb` file."""
    data, at, payload = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        checksum, size, kind = struct.unpack("<IHB", data[at : at + 7])
        chunk = data[at + 7 : at + 7 + size]
        if (kind == 0 and size == 0) or len(chunk) < size:
            return
        assert checksum == zlib.crc32(bytes([kind]) + chunk)
        at, payload = at + 7 + size, payload + chunk
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(payload)
            payload = b""


def read_run(run_dir):
    """What the only offline run of a folder says."""
    [part] = (run_dir / "wandb").glob("offline-run-*")
    return read_part(part)


def read_part(folder):
    """What one part of an offline run says, and the files of its artifacts."""
    wandb.teardown()  # W&B's process has written everything
    [path] = folder.glob("run-*.wandb")
    found = {"config": {}, "history": [], "summary": {}, "artifacts": {}, "metrics": {}}
    found["alerts"] = []
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= _items(record.run.config.update)
        elif kind == "config":
            found["config"] |= _items(record.config.update)
        elif kind == "history":
            found["history"].append(_items(record.history.item))
        elif kind == "summary":
            found["summary"] |= _items(record.summary.update)
        elif kind == "artifact":
            files = sorted(entry.path for entry in record.artifact.manifest.contents)
            found["artifacts"][record.artifact.type] = files
        elif kind == "alert":
            found["alerts"].append((record.alert.title, record.alert.text, record.alert.level))
        elif kind == "metric":
            found["metrics"][record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def _items(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
