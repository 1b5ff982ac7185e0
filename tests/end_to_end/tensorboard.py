# SPDX-License-Identifier: Apache-2.0
"""Reads the scalars of TensorBoard event files, checking every checksum."""

import struct
from pathlib import Path


def make_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = make_table()


def masked_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    data = Path(path).read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        (length_crc,) = struct.unpack_from("<I", data, at + 8)
        payload = data[at + 12 : at + 12 + length]
        (payload_crc,) = struct.unpack_from("<I", data, at + 12 + length)
        assert masked_crc32c(data[at : at + 8]) == length_crc, f"{path}: length at {at}"
        assert masked_crc32c(payload) == payload_crc, f"{path}: data at {at}"
        yield payload
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(message):
    """(number, value) of a protocol buffer message."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, at = varint(message, at)
            value, at = message[at : at + size], at + size
        yield number, value


def scalars(folder):
    """{tag: {step: value}} as TensorBoard shows it: a new session takes back what is after its
    first step. Throws where a step is there twice."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        for record in records(path):
            event = dict(fields(record))
            step = event.get(2, 0)
            if 7 in event:
                for values in found.values():
                    for later in [s for s in values if s >= step]:
                        del values[later]
            for number, value in fields(event.get(5, b"")):
                assert number == 1
                entry = dict(fields(value))
                values = found.setdefault(entry[1].decode(), {})
                assert step not in values, f"{path}: {entry[1]} has step {step} twice"
                values[step] = struct.unpack("<f", entry[2])[0]
    return found
