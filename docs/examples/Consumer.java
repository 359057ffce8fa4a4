import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintStream;
import java.time.Duration;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints every change of a keyspace once: table, key, row, what happened, write time; separated by tabs.
 *
 * <p>Needs kafka-clients and jackson-databind on the class path: {@code java -cp 'jars/*' Consumer.java
 * localhost:9092 shop}. With a third argument, {@code until-end}, it stops at the end of the topics.
 */
public final class Consumer {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, true, java.nio.charset.StandardCharsets.UTF_8);
    /** Digests that are remembered. Copies that are further apart are printed again. */
    private static final int REMEMBERED = 1_000_000;

    private static final Pattern END = Pattern.compile("(/r\\d+)?(/p\\d+)?$");

    private static final Map<String, Boolean> SEEN = new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
            return size() > REMEMBERED;
        }
    };

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", "change-printer-java");
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        boolean untilEnd = arguments.length > 2 && arguments[2].equals("until-end");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            consumer.subscribe(Pattern.compile("cassandra\\." + Pattern.quote(arguments[1]) + "\\..*"));
            do {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    print(JSON.readTree(record.value()));
                }
                // Behind the work: what was not finished comes again after a crash.
                consumer.commitSync();
            } while (!untilEnd || !atEnd(consumer));
        }
    }

    private static boolean atEnd(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, Long> ends = new HashMap<>(consumer.endOffsets(consumer.assignment()));
        return !ends.isEmpty() && ends.entrySet().stream().allMatch(e -> consumer.position(e.getKey()) >= e.getValue());
    }

    private static void print(JsonNode event) {
        // Rows and parts of one change share its digest; the end of the id tells them apart.
        Matcher end = END.matcher(event.get("id").asText());
        if (end.find() && SEEN.put(event.get("digest").asText() + end.group(), true) != null) {
            return;
        }
        String at = event.get("keyspace").asText() + "." + event.get("table").asText() + "\t" + event.get("key");
        if (event.has("partition_delete")) {
            line(at, "-", "delete partition", event.get("partition_delete"));
        }
        cells(at, "static", event.path("static"));
        for (JsonNode row : event.path("rows")) {
            String clustering = row.has("clustering") ? row.get("clustering").toString() : "{}";
            if (row.has("delete")) {
                line(at, clustering, "delete row", row.get("delete"));
            }
            if (row.has("liveness")) {
                line(at, clustering, "insert", row.get("liveness"));
            }
            cells(at, clustering, row.path("cells"));
        }
        for (JsonNode range : event.path("range_deletes")) {
            line(at, "-", "delete from " + bound(range, "start") + " to " + bound(range, "end"), range);
        }
    }

    private static void cells(String at, String row, JsonNode cells) {
        cells.fields().forEachRemaining(column -> {
            JsonNode cell = column.getValue();
            // A collection that was assigned or removed as a whole: all its older elements are gone.
            if (cell.has("overwrite")) {
                line(at, row, "clear " + column.getKey(), cell.get("overwrite"));
            }
            for (JsonNode element : cell.path("elements")) {
                line(at, row, change(column.getKey() + "[" + element.get("path") + "]", element), element);
            }
            if (cell.has("ts")) {
                line(at, row, change(column.getKey(), cell), cell);
            }
        });
    }

    private static String change(String name, JsonNode cell) {
        if (cell.has("deleted")) {
            return "delete " + name;
        }
        // An element of a set has no value: its path is the element.
        return cell.has("value") ? "set " + name + " = " + cell.get("value") : "add " + name;
    }

    private static String bound(JsonNode range, String side) {
        JsonNode bound = range.get(side);
        // A side that is missing is the partition's edge.
        return bound == null ? "edge"
                : bound.get("clustering") + (bound.get("inclusive").asBoolean() ? " included" : " excluded");
    }

    private static void line(String at, String row, String what, JsonNode timed) {
        OUT.println(at + "\t" + row + "\t" + what + "\t" + timed.get("ts").asLong());
    }
}
