import java.nio.ByteBuffer;

import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.Row;

/** Looks at every byte of every cell: the reader is lazy about none, but a compiler may be about what nobody uses. */
final class Touch extends Passes.Handler
{
    @Override
    void event(Mutation mutation, int size, int position, CommitLogDescriptor descriptor)
    {
        for (PartitionUpdate update : mutation.getPartitionUpdates())
            for (Row row : update)
                for (Cell<?> cell : row.cells())
                {
                    ByteBuffer value = cell.buffer();
                    for (int at = value.position(); at < value.limit(); at++)
                        bytes += value.get(at) & 1;
                }
    }
}
