package bench;

import java.time.Duration;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The simple job as a DataStream program in a local cluster: keyBy track, event-time window, incremental aggregate. */
public final class FlinkJob {
    public static void main(String[] args) throws Exception {
        boolean exactly = Job.GUARANTEE.equals("exactly-once");
        Configuration configuration = new Configuration();
        configuration.set(TaskManagerOptions.NUM_TASK_SLOTS, Job.PARALLELISM);
        configuration.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(128));
        configuration.set(PipelineOptions.GENERIC_TYPES, false);
        configuration.set(RestOptions.BIND_PORT, "0"); // 8081 may be taken, by a collector for instance
        configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + Job.DIRECTORY + "/checkpoints");
        StreamExecutionEnvironment flow = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        flow.setParallelism(Job.PARALLELISM);
        flow.getConfig().enableObjectReuse();
        flow.enableCheckpointing(
                Job.SNAPSHOT_EVERY_MS,
                exactly ? CheckpointingMode.EXACTLY_ONCE : CheckpointingMode.AT_LEAST_ONCE);

        KafkaSource<Tuple4<String, Integer, Long, Long>> events = KafkaSource.<Tuple4<String, Integer, Long, Long>>builder()
                .setBootstrapServers(Job.BOOTSTRAP)
                .setTopics(Job.INPUT)
                .setGroupId("bench-flink")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new Decode())
                .setProperty("max.partition.fetch.bytes", "4194304")
                .setProperty("max.poll.records", "5000")
                .build();
        Properties producer = new Properties();
        producer.put("transaction.timeout.ms", "600000");
        producer.put("linger.ms", "5");
        producer.put("batch.size", "262144");
        producer.put("compression.type", "lz4");
        KafkaSink<Result> results = KafkaSink.<Result>builder()
                .setBootstrapServers(Job.BOOTSTRAP)
                .setKafkaProducerConfig(producer)
                .setTransactionalIdPrefix("bench-flink-" + System.nanoTime())
                .setDeliveryGuarantee(exactly ? DeliveryGuarantee.EXACTLY_ONCE : DeliveryGuarantee.AT_LEAST_ONCE)
                .setRecordSerializer((KafkaRecordSerializationSchema<Result>) (row, context, timestamp) ->
                        new ProducerRecord<>(Job.OUTPUT, Job.key(row.key), Job.value(row.counts)))
                .build();

        flow.fromSource(
                        events,
                        WatermarkStrategy.<Tuple4<String, Integer, Long, Long>>forBoundedOutOfOrderness(
                                        Duration.ofMillis(Job.GRACE_MS))
                                .withTimestampAssigner((event, kafka) -> event.f2),
                        "events")
                .keyBy(event -> event.f0, Types.STRING)
                .window(TumblingEventTimeWindows.of(Duration.ofMillis(Job.WINDOW_MS)))
                .aggregate(
                        new Count(),
                        new Emit(),
                        PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO,
                        PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO,
                        Types.POJO(Result.class))
                .sinkTo(results);
        Job.report();
        flow.execute();
    }

    /** One row of the output. */
    public static final class Result {
        public String key;
        public long[] counts;
    }

    private static final class Decode implements DeserializationSchema<Tuple4<String, Integer, Long, Long>> {
        private long read;

        @Override
        public Tuple4<String, Integer, Long, Long> deserialize(byte[] value) {
            if (++read % 1000 == 0) {
                Job.CONSUMED.add(1000);
            }
            Event event = Event.decode(value);
            return Tuple4.of(event.track, event.type, event.timestamp, event.msPlayed);
        }

        @Override
        public boolean isEndOfStream(Tuple4<String, Integer, Long, Long> event) {
            return false;
        }

        @Override
        public TypeInformation<Tuple4<String, Integer, Long, Long>> getProducedType() {
            return Types.TUPLE(Types.STRING, Types.INT, Types.LONG, Types.LONG);
        }
    }

    private static final class Count implements AggregateFunction<Tuple4<String, Integer, Long, Long>, long[], long[]> {
        @Override
        public long[] createAccumulator() {
            return new long[6];
        }

        @Override
        public long[] add(Tuple4<String, Integer, Long, Long> event, long[] counts) {
            counts[event.f1]++;
            counts[5] += event.f3;
            return counts;
        }

        @Override
        public long[] getResult(long[] counts) {
            return counts;
        }

        @Override
        public long[] merge(long[] one, long[] other) {
            for (int i = 0; i < one.length; i++) {
                one[i] += other[i];
            }
            return one;
        }
    }

    private static final class Emit extends ProcessWindowFunction<long[], Result, String, TimeWindow> {
        @Override
        public void process(String track, Context context, Iterable<long[]> counts, Collector<Result> out) {
            Result result = new Result();
            result.key = context.window().getStart() + "/" + track;
            result.counts = counts.iterator().next();
            out.collect(result);
        }
    }
}
