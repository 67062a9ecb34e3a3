package mmap

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestRecordFlags round-trips a record with and without a time to wait for, into a record that held another,
// and refuses flags of a newer broker.
func TestRecordFlags(t *testing.T) {
	t.Parallel()
	for _, dueMs := range []int64{0, 1, 1 << 60} {
		want := kite.Record{
			Kind: kite.KindPrepared, Command: 0x11, Limit: 7, ID: kite.MessageID{1, 2}, Seq: 3, TimeMs: 4, ExpiresMs: 5,
			DueMs: dueMs, Ref: 6, Topic: "trade", Type: []byte("pay"), Group: []byte("p"), Body: []byte("body"),
		}
		b := appendRecord(nil, &want)
		if int64(len(b)) != recordSize(&want) {
			t.Errorf("due %d: %d bytes, want %d", dueMs, len(b), recordSize(&want))
		}
		got := kite.Record{DueMs: 99}
		topic, n, err := decodeRecord(b, &got)
		got.Topic = string(topic)
		if diff := cmp.Diff(want, got); err != nil || n != len(b) || diff != "" {
			t.Errorf("due %d: %d of %d bytes, %v (-want +got):\n%s", dueMs, n, len(b), err, diff)
		}
		if dueMs == 0 && b[15] != 0 {
			t.Error("a record without a time has another layout than before")
		}
		b[15] |= 2
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
		if _, _, err := decodeRecord(b, &got); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("a record with an unknown flag: %v, want the word newer", err)
		}
	}
}
