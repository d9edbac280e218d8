package bench;

import java.nio.charset.StandardCharsets;

/**
 * The fields of a listening event that the job needs, read by hand: strings that nobody asks for are skipped, which a
 * generic Avro reader would copy.
 */
public final class Event {
    public final String track;
    public final int type;
    public final long timestamp;
    public final long msPlayed;

    private Event(String track, int type, long timestamp, long msPlayed) {
        this.track = track;
        this.type = type;
        this.timestamp = timestamp;
        this.msPlayed = msPlayed;
    }

    /** Reads single-object encoding of schemas/listening_event.avsc up to ms_played. */
    public static Event decode(byte[] value) {
        Reader in = new Reader(value);
        if (value[0] != (byte) 0xC3 || value[1] != 1) {
            throw new IllegalArgumentException("not single-object encoding");
        }
        in.at = 10;
        in.skip();
        int type = (int) in.number();
        if (in.number() == 1) { // user_id
            in.skip();
        }
        int length = (int) in.number();
        String track = new String(value, in.at, length, StandardCharsets.UTF_8);
        in.at += length;
        long timestamp = in.number();
        in.skip();
        for (int i = 0; i < 4; i++) { // location, session_id, device, country
            if (in.number() == 1) {
                in.skip();
            }
        }
        if (in.number() == 1) { // position_ms
            in.number();
        }
        long msPlayed = in.number() == 1 ? in.number() : 0;
        return new Event(track, type, timestamp, msPlayed);
    }

    private static final class Reader {
        private final byte[] bytes;
        private int at;

        Reader(byte[] bytes) {
            this.bytes = bytes;
        }

        long number() {
            long raw = 0;
            for (int shift = 0; ; shift += 7) {
                byte part = bytes[at++];
                raw |= (long) (part & 0x7F) << shift;
                if (part >= 0) {
                    return raw >>> 1 ^ -(raw & 1);
                }
            }
        }

        void skip() {
            int length = (int) number();
            at += length;
        }
    }
}
