import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.serializers.UUIDSerializer;

import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The JSON to Kafka, by Java's own producer at the setting that costs it least. It keeps no account of what is done. */
final class Publish extends Json
{
    private final KafkaProducer<byte[], byte[]> producer;
    private final Callback reported = (metadata, failure) -> { if (failure != null) this.failure = failure; };
    private volatile Exception failure;
    private String topic;

    Publish(String bootstrap) throws IOException
    {
        producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", "true",
                                              "linger.ms", "5", "compression.type", "lz4", "batch.size", "131072"),
                                       new ByteArraySerializer(), new ByteArraySerializer());
    }

    @Override
    void begin(String topic)
    {
        super.begin(topic);
        this.topic = topic;
    }

    @Override
    void take(PartitionUpdate update, ByteArrayOutputStream value)
    {
        String key = UUIDSerializer.instance.deserialize(update.partitionKey().getKey()).toString();
        producer.send(new ProducerRecord<>(topic, key.getBytes(StandardCharsets.US_ASCII), value.toByteArray()), reported);
    }

    @Override
    void end()
    {
        producer.flush();
        if (failure != null)
            throw new IllegalStateException(failure);
    }
}
