# SPDX-License-Identifier: Apache-2.0
"""Writes a SentencePiece model from the tokenizer of llama2.c (tok512.bin), for its weights."""

import struct

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def read_llama2c_tokenizer(data):
    """(score, piece) of each token: int32 longest, then float32 score, int32 length, bytes."""
    at, pieces = 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append((score, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return pieces


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def whole(number, value):
    return varint(number << 3) + varint(value)


def text(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def kind_of(index, piece):
    if index < 3:
        return UNKNOWN if index == 0 else CONTROL
    return BYTE if len(piece) == 6 and piece.startswith(b"<0x") else NORMAL


def sentencepiece_model(pieces):
    """sentencepiece_model.proto: pieces, trainer_spec {model_type BPE, byte_fallback, ids},
    normalizer_spec {add_dummy_prefix, keep whitespace, escape it}."""
    model = b""
    for index, (score, piece) in enumerate(pieces):
        piece = piece.strip(b"\n") if index < 3 else piece.replace(b" ", "\u2581".encode())
        entry = text(1, piece) + varint(2 << 3 | 5) + struct.pack("<f", score)
        model += text(1, entry + whole(3, kind_of(index, piece)))
    trainer = whole(3, 2) + whole(35, 1) + whole(40, 0) + whole(41, 1) + whole(42, 2)
    normalizer = text(1, b"identity") + whole(3, 1) + whole(4, 0) + whole(5, 1)
    return model + text(2, trainer) + text(3, normalizer)
