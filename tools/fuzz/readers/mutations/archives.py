"""Damages files with a structure of records: zip archives, safetensors and ONNX."""

import functools
import io
import json
import re
import struct
import zipfile
import zlib
from random import Random
from typing import Any

from . import binary
from .values import PATHS, any_number, any_value

_Records = list[tuple[str, bytes]]
_BOMB_SIZE = 300_000_000


def _read(data: bytes) -> _Records | None:
    """The records of an archive; None where an earlier mutation has damaged it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(record.filename, archive.read(record)) for record in archive.infolist()]
    except Exception:  # zipfile raises many types
        return None


def write_zip(records: _Records) -> bytes:
    """Write an archive with right checksums; the same in each run."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records:
            archive.writestr(zipfile.ZipInfo(name[:60_000]), content)
    return file.getvalue()


def record(data: bytes, rng: Random) -> bytes | None:
    """Damage the content of a record; its checksum is right again."""
    records = _read(data)
    if not records:
        return None
    # Weights are most of the records, and their numbers matter least.
    small = [i for i, (name, _) in enumerate(records) if "/data/" not in name]
    index = rng.choice(small) if small and rng.random() < 0.8 else rng.randrange(len(records))
    changed = rng.choice(binary.MUTATIONS)(records[index][1], rng)
    if changed is None:
        return None
    records[index] = records[index][0], changed
    return write_zip(records)


def record_list(data: bytes, rng: Random) -> bytes | None:
    """Remove, repeat, rename or exchange records."""
    records = _read(data)
    if not records:
        return None
    first, second = rng.randrange(len(records)), rng.randrange(len(records))
    kind = rng.randrange(5)
    if kind == 0:
        del records[first]
    elif kind == 1:
        records.append(records[first])
    elif kind == 2:
        name = rng.choice((*PATHS, "", "/", "a/../../x", f"../{records[first][0]}"))
        records[first] = name.replace("\0", "0"), records[first][1]
    elif kind == 3:
        (a, b), (c, d) = records[first], records[second]
        records[first], records[second] = (a, d), (c, b)
    else:
        records[first] = records[first][0], rng.choice((b"", b"\0" * 10, b"x" * 10_000))
    try:
        return write_zip(records)
    except (ValueError, UnicodeError):
        return None


def zip_bomb(data: bytes, rng: Random) -> bytes | None:
    """Compress a record: 300 MB of zeros in the place of one, or in addition."""
    records = _read(data)
    if not records:
        return None
    index = rng.randrange(len(records))
    if rng.random() < 0.5:
        folder = records[0][0].partition("/")[0]
        name = rng.choice(("extra/config", ".data/serialization_id", "data/99"))
        records.append((f"{folder}/{name}", b""))
        index = len(records) - 1
    stream, checksum = _compressed_zeros()
    records[index] = records[index][0], stream
    archive = bytearray(write_zip(records))
    with zipfile.ZipFile(io.BytesIO(archive)) as written:
        local, central = written.infolist()[index].header_offset, written.start_dir
    for _ in range(index):
        central += 46 + sum(struct.unpack_from("<HHH", archive, central + 28))
    # The record was stored; its headers now say that its content is compressed.
    for start, shift in ((local, 0), (central, 2)):
        struct.pack_into("<H", archive, start + 8 + shift, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", archive, start + 14 + shift, checksum)
        struct.pack_into("<I", archive, start + 22 + shift, _BOMB_SIZE)
    return bytes(archive)


@functools.cache
def _compressed_zeros() -> tuple[bytes, int]:
    compressor, checksum, parts = zlib.compressobj(9, wbits=-15), 0, []
    part = bytes(_BOMB_SIZE // 100)
    for _ in range(100):
        checksum = zlib.crc32(part, checksum)
        parts.append(compressor.compress(part))
    return b"".join([*parts, compressor.flush()]), checksum


def directory_size(data: bytes, rng: Random) -> bytes | None:
    """Lie about the size or the place of a record, in one of its headers."""
    magic = rng.choice((b"PK\x01\x02", b"PK\x03\x04"))
    places = [match.start() for match in re.finditer(re.escape(magic), data[:-46])]
    if not places:
        return None
    offsets = (8, 10, 16, 20, 24, 28, 30, 32, 42) if magic[2] == 1 else (6, 8, 14, 18, 22, 26, 28)
    place = rng.choice(places) + rng.choice(offsets)
    value = rng.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, len(data), rng.randrange(2**32)))
    packed = struct.pack("<I", value)[: rng.choice((2, 4))]
    return data[:place] + packed + data[place + len(packed) :]


MUTATIONS = (record, record, record, record_list, record_list, zip_bomb, directory_size)


def safetensors_header(data: bytes, rng: Random) -> bytes | None:
    """Change the header, with its length or without."""
    if len(data) < 9:
        return None
    (length,) = struct.unpack("<Q", data[:8])
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
    except ValueError:
        return None
    name = rng.choice(sorted(header))
    entry = header[name]
    kind = rng.randrange(5)
    if kind == 0 or not isinstance(entry, dict):
        header[name] = any_value(rng)
    elif kind == 1:
        entry["data_offsets"] = [any_number(rng), any_number(rng)]
    elif kind == 2:
        entry["shape"] = [any_number(rng) for _ in range(rng.choice((0, 1, 3, 100)))]
    elif kind == 3:
        entry["dtype"] = rng.choice(("F8_E4M3", "F4", "C64", "U64", "BOOL", "X", "", "BF16", "F64"))
    else:
        header["__metadata__"] = any_value(rng)
    try:
        text = json.dumps(header).encode()
    except ValueError:
        return None
    size = len(text) if rng.random() < 0.8 else rng.choice((0, 2**63, 2**64 - 1, 10**8 + 1, length))
    return struct.pack("<Q", size) + text + data[8 + length :]


SAFETENSORS = (safetensors_header,)


def onnx_model(data: bytes, rng: Random) -> bytes | None:
    """Change the model: operators, edges, sizes, tensors, external data, metadata."""
    import onnx

    try:
        proto = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own types
        return None
    kind = rng.randrange(9)
    graph = proto.graph
    if kind == 0 and graph.node:
        node = rng.choice(graph.node)
        node.op_type = rng.choice(
            ("If", "Loop", "Scan", "x" * 1000, "", "NonMaxSuppression", "Tile")
        )
    elif kind == 1 and graph.node:
        node = rng.choice(graph.node)
        names = [n.output[0] for n in graph.node if n.output] + ["images", "", "nothing"]
        if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 2 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        dims = [int(x) for x in (rng.choice((0, -1, 3, 2**31, 2**40, 2**62)) for _ in range(2))]
        del tensor.dims[:]
        tensor.dims.extend(dims)
    elif kind == 3 and graph.initializer:
        _externalize(rng.choice(graph.initializer), rng, onnx)
    elif kind == 4:
        value = rng.choice((*graph.input, *graph.output))
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice((0, 1, -1, 7, 2**40))
    elif kind == 5 and graph.node:
        del graph.node[rng.randrange(len(graph.node))]
    elif kind == 6:
        entry = rng.choice(proto.metadata_props)
        entry.value = _metadata_value(rng)
    elif kind == 7:
        del proto.metadata_props[rng.randrange(len(proto.metadata_props))]
    else:
        proto.ir_version = rng.choice((0, 1, 2**31, 2**62))
        proto.opset_import[0].version = rng.choice((0, 1, 7, 13, 10_000, 2**62))
    return bytes(proto.SerializeToString())


def _externalize(tensor: Any, rng: Random, onnx: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = tensor.external_data.add()
    location.key, location.value = "location", rng.choice(PATHS).replace("\0", "")
    for key in ("offset", "length"):
        if rng.random() < 0.5:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, rng.choice(("0", "-1", "9" * 30, "x", str(2**62)))


def _metadata_value(rng: Random) -> str:
    value = any_value(rng)
    if rng.random() < 0.3:
        return rng.choice(("[" * 100_000, "[1, 2, 3]", '["a"]', '["a", "b", "c"]', "2", "raw"))
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except ValueError:
        return "1" * 5000
    return text.encode("utf-8", "replace").decode()


ONNX = (onnx_model,)
