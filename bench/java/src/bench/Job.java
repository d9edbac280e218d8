package bench;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.LongAdder;

/** What bench.trial tells a job by its environment, and what the job tells it back. */
final class Job {
    static final String BOOTSTRAP = System.getenv("BENCH_BOOTSTRAP");
    static final String INPUT = System.getenv("BENCH_INPUT");
    static final String OUTPUT = System.getenv("BENCH_OUTPUT");
    static final String DIRECTORY = System.getenv("BENCH_DIR");
    static final String GUARANTEE = System.getenv("BENCH_GUARANTEE");
    static final long WINDOW_MS = number("BENCH_WINDOW_MS");
    static final long GRACE_MS = number("BENCH_GRACE_MS");
    static final long SNAPSHOT_EVERY_MS = number("BENCH_SNAPSHOT_EVERY_MS");
    static final int PARALLELISM = (int) number("BENCH_PARALLELISM");

    static final LongAdder CONSUMED = new LongAdder();

    private Job() {}

    private static long number(String name) {
        return Long.parseLong(System.getenv(name));
    }

    /** Prints `consumed COUNT UNIX_SECONDS` ten times a second from a thread of its own. */
    static void report() {
        Thread thread = new Thread(() -> {
            long told = 0;
            while (true) {
                long now = CONSUMED.sum();
                if (now != told) {
                    System.out.println("consumed " + now + " " + System.currentTimeMillis() / 1000.0);
                    told = now;
                }
                try {
                    Thread.sleep(100);
                } catch (InterruptedException stop) {
                    return;
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    static long windowOf(long timestamp) {
        return Math.floorDiv(timestamp, WINDOW_MS) * WINDOW_MS;
    }

    static byte[] key(String key) {
        return key.getBytes(StandardCharsets.UTF_8);
    }

    /** Counts of play, pause, skip, like, share, and the sum of ms_played: six big-endian longs. */
    static byte[] value(long[] counts) {
        ByteBuffer buffer = ByteBuffer.allocate(Long.BYTES * counts.length);
        for (long count : counts) {
            buffer.putLong(count);
        }
        return buffer.array();
    }

    static long[] counts(byte[] value) {
        long[] counts = new long[6];
        if (value != null) {
            ByteBuffer.wrap(value).asLongBuffer().get(counts);
        }
        return counts;
    }
}
