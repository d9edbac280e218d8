package bench;

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The simple job on Kafka Streams in its best case: one window store per input partition and no repartition topic, so
 * the rows of a track come out once per input partition. The DSL would write each event to Kafka once more, by track.
 */
public final class StreamsJob {
    static Properties settings() {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-streams-" + System.nanoTime());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Job.BOOTSTRAP);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Job.DIRECTORY);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Job.PARALLELISM);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Job.SNAPSHOT_EVERY_MS);
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                Job.GUARANTEE.equals("exactly-once") ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256 << 20);
        // the DSL tells closed windows at most once a second, and the last ones only when more comes after that second
        settings.put("__emit.interval.ms.kstreams.windowed.aggregation__", 0L);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }

    static void run(Topology topology) {
        Job.report();
        KafkaStreams streams = new KafkaStreams(topology, settings());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(3))));
        streams.start();
    }

    public static void main(String[] args) {
        Deserializer<Event> decode = (topic, value) -> value == null ? null : Event.decode(value);
        Duration window = Duration.ofMillis(Job.WINDOW_MS);
        Topology topology = new Topology();
        topology.addSource(
                Topology.AutoOffsetReset.EARLIEST, "events", new EventTime(), new ByteArrayDeserializer(), decode, Job.INPUT);
        topology.addProcessor("windows", Windows::new, "events");
        topology.addStateStore(
                Stores.windowStoreBuilder(
                                Stores.persistentWindowStore(
                                        "windows",
                                        window.multipliedBy(2).plusMillis(Job.GRACE_MS),
                                        window,
                                        false),
                                Serdes.String(),
                                Serdes.ByteArray())
                        .withCachingEnabled(),
                "windows");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(
                        Stores.inMemoryKeyValueStore("closed"), Serdes.Integer(), Serdes.Long()),
                "windows");
        topology.addSink("results", Job.OUTPUT, new ByteArraySerializer(), new ByteArraySerializer(), "windows");
        run(topology);
    }

    static final class EventTime implements TimestampExtractor {
        @Override
        public long extract(ConsumerRecord<Object, Object> record, long partitionTime) {
            return ((Event) record.value()).timestamp;
        }
    }

    private static final class Windows implements Processor<byte[], Event, byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private WindowStore<String, byte[]> windows;
        private KeyValueStore<Integer, Long> closed;
        private int partition;
        private long closedBefore;
        private long read;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            windows = context.getStateStore("windows");
            closed = context.getStateStore("closed");
            partition = context.taskId().partition();
            Long stored = closed.get(partition);
            closedBefore = stored == null ? 0 : stored;
        }

        @Override
        public void process(Record<byte[], Event> record) {
            if (++read % 1000 == 0) {
                Job.CONSUMED.add(1000);
            }
            Event event = record.value();
            long window = Job.windowOf(event.timestamp);
            if (window >= closedBefore) {
                long[] counts = Job.counts(windows.fetch(event.track, window));
                counts[event.type]++;
                counts[5] += event.msPlayed;
                windows.put(event.track, Job.value(counts), window);
            }
            long border = Job.windowOf(context.currentStreamTimeMs() - Job.GRACE_MS);
            if (border > closedBefore) {
                emit(record, border);
            }
        }

        private void emit(Record<byte[], Event> record, long border) {
            try (KeyValueIterator<Windowed<String>, byte[]> rows = windows.fetchAll(closedBefore, border - 1)) {
                while (rows.hasNext()) {
                    KeyValue<Windowed<String>, byte[]> row = rows.next();
                    String key = row.key.window().start() + "/" + row.key.key() + "/" + partition;
                    context.forward(new Record<>(Job.key(key), row.value, record.timestamp()));
                }
            }
            closedBefore = border;
            closed.put(partition, border);
        }
    }
}
