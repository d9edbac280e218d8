package bench;

import java.nio.ByteBuffer;
import java.time.Duration;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The simple job as one writes it in the DSL of Kafka Streams: group by track, which sends each event through a topic of
 * its own, and a window that is told when it closes.
 */
public final class StreamsDslJob {
    private static long read;

    public static void main(String[] args) {
        Serde<Event> input = Serdes.serdeFrom(
                (topic, event) -> null, (topic, value) -> value == null ? null : Event.decode(value));
        StreamsBuilder flow = new StreamsBuilder();
        flow.stream(
                        Job.INPUT,
                        Consumed.with(Serdes.ByteArray(), input).withTimestampExtractor(new StreamsJob.EventTime()))
                .map((user, event) -> KeyValue.pair(event.track, compact(event)))
                .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
                .windowedBy(TimeWindows.ofSizeAndGrace(
                        Duration.ofMillis(Job.WINDOW_MS), Duration.ofMillis(Job.GRACE_MS)))
                .emitStrategy(EmitStrategy.onWindowClose())
                .aggregate(
                        () -> new byte[6 * Long.BYTES],
                        (track, event, value) -> {
                            if (++read % 1000 == 0) {
                                Job.CONSUMED.add(1000);
                            }
                            ByteBuffer one = ByteBuffer.wrap(event);
                            long[] counts = Job.counts(value);
                            counts[one.get()]++;
                            counts[5] += one.getLong();
                            return Job.value(counts);
                        },
                        Materialized.<String, byte[], WindowStore<Bytes, byte[]>>as("windows")
                                .withKeySerde(Serdes.String())
                                .withValueSerde(Serdes.ByteArray()))
                .toStream((window, value) -> window.window().start() + "/" + window.key())
                .to(Job.OUTPUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
        StreamsJob.run(flow.build());
    }

    private static byte[] compact(Event event) {
        return ByteBuffer.allocate(1 + Long.BYTES)
                .put((byte) event.type)
                .putLong(event.msPlayed)
                .array();
    }
}
