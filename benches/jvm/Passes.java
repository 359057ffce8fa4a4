import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Arrays;

import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.statements.schema.CreateTableStatement;
import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.commitlog.CommitLogReadHandler;
import org.apache.cassandra.db.commitlog.CommitLogReader;
import org.apache.cassandra.io.util.File;
import org.apache.cassandra.schema.KeyspaceMetadata;
import org.apache.cassandra.schema.KeyspaceParams;
import org.apache.cassandra.schema.Schema;
import org.apache.cassandra.schema.TableId;
import org.apache.cassandra.schema.Tables;

/**
 * Reads segments with Cassandra's own reader, once for each line on stdin, and answers each with "events bytes". Whoever asks
 * measures, so that passes of a cold and of a warm JVM cost what this process is seen to use.
 *
 * Arguments: handler, keyspace, CREATE TABLE statement, table id, bootstrap, segments. A line is the topic, which only the
 * handler `publish` looks at.
 */
public final class Passes
{
    public static void main(String[] args) throws Exception
    {
        DatabaseDescriptor.toolInitialization();
        String keyspace = args[1];
        Tables tables = Tables.of(CreateTableStatement.parse(args[2], keyspace).id(TableId.fromString(args[3])).build());
        Schema.instance.transform(all -> all.withAddedOrUpdated(KeyspaceMetadata.create(keyspace, KeyspaceParams.simple(1), tables)));
        Handler handler = handler(args[0], args[4]);
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String topic = lines.readLine(); topic != null; topic = lines.readLine())
        {
            handler.begin(topic);
            for (String segment : Arrays.asList(args).subList(5, args.length))
                new CommitLogReader().readCommitLogSegment(handler, new File(segment), CommitLogReader.ALL_MUTATIONS, false);
            handler.end();
            System.out.println(handler.events + " " + handler.bytes);
        }
        System.exit(0); // Cassandra leaves threads
    }

    private static Handler handler(String name, String bootstrap) throws Exception
    {
        switch (name)
        {
            case "count": return new Handler();
            case "touch": return new Touch();
            case "json": return new Json();
            case "publish": return new Publish(bootstrap);
            default: throw new IllegalArgumentException(name);
        }
    }

    /** Counts the changes to tables with CDC; what else is done with one is said below. */
    static class Handler implements CommitLogReadHandler
    {
        long events, bytes;

        void begin(String topic)
        {
            events = bytes = 0;
        }

        void event(Mutation mutation, int size, int position, CommitLogDescriptor descriptor) throws Exception
        {
            bytes += size;
        }

        void end()
        {
        }

        public final void handleMutation(Mutation mutation, int size, int position, CommitLogDescriptor descriptor)
        {
            if (!mutation.trackedByCDC())
                return;
            events++;
            try
            {
                event(mutation, size, position, descriptor);
            }
            catch (Exception e)
            {
                throw new IllegalStateException(e);
            }
        }

        public final boolean shouldSkipSegmentOnError(CommitLogReadException e)
        {
            throw new IllegalStateException(e);
        }

        public final void handleUnrecoverableError(CommitLogReadException e)
        {
            throw new IllegalStateException(e);
        }
    }
}
