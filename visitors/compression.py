"""Answers as gzip for clients that accept it; the page from shared parts that are compressed once a second.

An observer of the traffic can guess a secret that is compressed together with the text of a stranger. No answer of
this application holds a secret, and none repeats anything of a request.
"""

from collections.abc import Iterable
from functools import lru_cache
import gzip
import zlib

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

LEVEL = 9
# No file name and no time in it, so that the same content gives the same bytes.
HEAD = b'\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff'
LAST_BLOCK = b'\x03\x00'
LEAST_BYTES = 500  # below that the answer fits into one packet either way


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client that sends this header accepts gzip, and does not prefer an uncompressed answer."""
    return parse_accept_header(accept_encoding, Accept).best_match(('gzip', 'identity')) == 'gzip'


@lru_cache(maxsize=16)
def gzipped(content: bytes) -> bytes:
    """Return a content compressed; the latest results are kept."""
    return gzip.compress(content, LEVEL, mtime=0)


def packed(shared: bytes) -> bytes:
    """Return a part that many answers share as compressed blocks that refer to nothing outside themselves."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(shared) + compressor.flush(zlib.Z_FULL_FLUSH)


def stored(own: bytes) -> bytes:
    """Return a short part of one answer as an uncompressed block."""
    length = len(own)
    return b'\x00' + length.to_bytes(2, 'little') + (length ^ 0xffff).to_bytes(2, 'little') + own


def joined(content: Iterable[bytes], blocks: Iterable[bytes]) -> bytes:
    """Return one gzip file of blocks; its checksum is that of their content, which comes in the same order."""
    checksum = length = 0
    for part in content:
        checksum = zlib.crc32(part, checksum)
        length += len(part)
    return b''.join([HEAD, *blocks, LAST_BLOCK, checksum.to_bytes(4, 'little'), length.to_bytes(4, 'little')])
