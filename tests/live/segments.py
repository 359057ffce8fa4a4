"""What the commit log says by itself: where the chain of sync markers of a segment ends, and which files are finished."""
import struct
import zlib


def chain_ends(node):
    """{segment id: the position behind which a restarting Cassandra reads nothing}, of all segments that it still has."""
    return {int(p.stem.rpartition('-')[2]): chain_end(p.read_bytes()) for p in node.commitlog.glob('CommitLog-*.log')}


def chain_end(segment):
    """Of a plain segment. A marker is the offset of the next one and a CRC over the segment's id and the marker's own offset."""
    if len(segment) < 14:
        return 0
    _, segment_id, parameters = struct.unpack_from('>iqH', segment)
    at = 14 + parameters + 4
    while at + 8 <= len(segment):
        following, crc = struct.unpack_from('>iI', segment, at)
        if following <= at or crc != zlib.crc32(struct.pack('>III', segment_id & 0xffffffff, segment_id >> 32, at)):
            break
        at = following
    return at


def finished(node):
    """Segments in cdc_raw to which the node adds nothing any more: the agent's to delete."""
    complete = {p.name.removesuffix('_cdc.idx') for p in node.cdc_raw.glob('*_cdc.idx') if is_complete(p)}
    return sorted(p.name for p in node.cdc_raw.iterdir()
                  if p.name.removesuffix('_cdc.idx').removesuffix('.log') in complete or not (node.commitlog / log_name(p.name)).exists())


def only_in_spool(node, spool):
    """Segments that someone but the agent took out of cdc_raw, or that the agent is about to release."""
    if not spool.is_dir():
        return []
    return sorted(p.name for p in spool.glob('CommitLog-*.log') if not (node.cdc_raw / p.name).exists())


def is_complete(index):
    try:
        return index.read_text().endswith('COMPLETED')
    except FileNotFoundError:  # deleted just now
        return False


def log_name(name):
    return name.replace('_cdc.idx', '.log')
