"""Recorded segments laid into a `cdc_raw` of their own, as often as wanted: each copy with an id, and so a name, of its own."""
import gzip
import pathlib
import struct
import zlib

CASES = pathlib.Path(__file__).resolve().parents[2] / 'fixtures'


class Recorded:
    """The segment of a case that has this id."""

    def __init__(self, case, segment_id):
        folder = CASES / case / 'segments'
        self.id, self._stem = segment_id, f'CommitLog-7-{segment_id}'
        self._bytes = gzip.decompress((folder / f'{self._stem}.log.gz').read_bytes())
        self._index = (folder / f'{self._stem}_cdc.idx').read_text()

    def lay(self, cdc_raw, segment_id=None, name_of=None):
        """Into `cdc_raw`, under the name of its id or of another one. The index comes last, as a server writes it."""
        stem = f'CommitLog-7-{name_of or segment_id or self.id}'
        beside = cdc_raw.parent / f'{stem}.new'
        beside.write_bytes(self._bytes if segment_id is None else renumbered(self._bytes, segment_id))
        beside.rename(cdc_raw / f'{stem}.log')
        (cdc_raw / f'{stem}_cdc.idx').write_text(self._index)
        return cdc_raw / f'{stem}.log'


def renumbered(segment, segment_id):
    """A plain segment of version 7 with another id: in its header, and in the checksums of header and sync markers."""
    changed = bytearray(segment)
    version, _, length = struct.unpack_from('>iqH', changed)
    struct.pack_into('>q', changed, 4, segment_id)
    low, high = segment_id & 0xffffffff, segment_id >> 32
    parameters = bytes(changed[14:14 + length])
    struct.pack_into('>I', changed, 14 + length, zlib.crc32(struct.pack('>iIII', version, low, high, length) + parameters))
    at = 14 + length + 4
    while at + 8 <= len(changed) and (following := struct.unpack_from('>i', changed, at)[0]) > at:
        struct.pack_into('>I', changed, at + 4, zlib.crc32(struct.pack('>III', low, high, at)))
        at = following
    return bytes(changed)
