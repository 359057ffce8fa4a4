import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;

import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Reads lines of `<number of partitions> <key in base64>`, writes for each the partition that Java's producer chooses. */
final class Partitions
{
    public static void main(String[] args) throws Exception
    {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine())
        {
            String[] parts = line.split(" ", 2);
            out.append(BuiltInPartitioner.partitionForKey(Base64.getDecoder().decode(parts[1]), Integer.parseInt(parts[0]))).append('\n');
        }
        System.out.print(out);
    }
}
