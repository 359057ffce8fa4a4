import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;

import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.marshal.AbstractType;
import org.apache.cassandra.db.marshal.BooleanType;
import org.apache.cassandra.db.marshal.DoubleType;
import org.apache.cassandra.db.marshal.Int32Type;
import org.apache.cassandra.db.marshal.MapType;
import org.apache.cassandra.db.marshal.TimestampType;
import org.apache.cassandra.db.marshal.UTF8Type;
import org.apache.cassandra.db.marshal.UUIDType;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.ColumnData;
import org.apache.cassandra.db.rows.ComplexColumnData;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.serializers.UUIDSerializer;
import org.apache.cassandra.utils.ByteBufferUtil;

/**
 * Renders an event as small as one could defend, by the fastest way that Jackson has: one streaming generator into one buffer.
 * It knows the types of the benchmark's table and plain inserts only: what a real agent must know beyond comes on top.
 */
class Json extends Passes.Handler
{
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(1 << 12);
    private final JsonGenerator json;

    Json() throws IOException
    {
        json = new JsonFactory().createGenerator(out);
        json.setRootValueSeparator(null);
    }

    @Override
    final void event(Mutation mutation, int size, int position, CommitLogDescriptor descriptor) throws IOException
    {
        for (PartitionUpdate update : mutation.getPartitionUpdates())
            for (Row row : update)
            {
                out.reset();
                write(update, row, position, descriptor);
                json.flush();
                bytes += out.size();
                take(update, out);
            }
    }

    void take(PartitionUpdate update, ByteArrayOutputStream value)
    {
    }

    private void write(PartitionUpdate update, Row row, int position, CommitLogDescriptor descriptor) throws IOException
    {
        TableMetadata table = update.metadata();
        json.writeStartObject();
        json.writeStringField("op", "i");
        json.writeStringField("ks", table.keyspace);
        json.writeStringField("table", table.name);
        json.writeStringField("segment", descriptor.fileName());
        json.writeNumberField("pos", position);
        json.writeNumberField("ts", row.primaryKeyLivenessInfo().timestamp());
        json.writeObjectFieldStart("key");
        value(table.partitionKeyColumns().get(0), update.partitionKey().getKey());
        for (ColumnMetadata column : table.clusteringColumns())
            value(column, row.clustering().bufferAt(column.position()));
        json.writeEndObject();
        json.writeObjectFieldStart("after");
        for (ColumnData data : row)
        {
            if (data.column().isComplex())
                map((ComplexColumnData) data);
            else
                value(data.column(), ((Cell<?>) data).buffer());
        }
        json.writeEndObject();
        json.writeEndObject();
    }

    private void map(ComplexColumnData data) throws IOException
    {
        MapType<?, ?> type = (MapType<?, ?>) data.column().type;
        json.writeObjectFieldStart(data.column().name.toString());
        for (Cell<?> cell : data)
        {
            json.writeFieldName(ByteBufferUtil.string(cell.path().get(0)));
            value(type.getValuesType(), cell.buffer());
        }
        json.writeEndObject();
    }

    private void value(ColumnMetadata column, ByteBuffer bytes) throws IOException
    {
        json.writeFieldName(column.name.toString());
        value(column.type, bytes);
    }

    private void value(AbstractType<?> type, ByteBuffer bytes) throws IOException
    {
        if (type == UTF8Type.instance)
            json.writeString(ByteBufferUtil.string(bytes));
        else if (type == TimestampType.instance)
            json.writeNumber(ByteBufferUtil.toLong(bytes));
        else if (type == Int32Type.instance)
            json.writeNumber(ByteBufferUtil.toInt(bytes));
        else if (type == DoubleType.instance)
            json.writeNumber(ByteBufferUtil.toDouble(bytes));
        else if (type == BooleanType.instance)
            json.writeBoolean(bytes.get(bytes.position()) != 0);
        else if (type == UUIDType.instance)
            json.writeString(UUIDSerializer.instance.deserialize(bytes).toString());
        else
            throw new IllegalArgumentException(type.toString());
    }
}
