package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// testConcurrency reads and loads beside Append, Checkpoint and Trim. The body of each message is
// its Seq over and over, so a view that is unmapped, moved or torn shows.
func testConcurrency(t *testing.T, e Env) {
	j := e.mustOpen(t, t.TempDir())
	const topics, batches = 3, 400
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for topic := range topics {
		readers.Go(func() { follow(ctx, t, j, fmt.Sprint("topic-", topic), topics*batches) })
	}
	m := newModel()
	for i := range batches {
		var batch []*kite.Record
		for topic := range topics {
			r := m.message(fmt.Sprint("topic-", topic), 0)
			r.Body = stamp(r.Seq, 64+i%512)
			batch = append(batch, r)
		}
		if err := j.Append(batch); err != nil {
			t.Errorf("append: %v", err)
			break
		}
		if i%16 == 15 {
			mustCheckpoint(t, j)
			floors := map[string]kite.Seq{}
			for stream, seq := range m.nextSeq {
				floors[stream] = max(seq, 64) - 63
			}
			mustTrim(t, j, store.Needs{Floors: floors, BeforeMs: late})
		}
	}
	cancel()
	readers.Wait()
}

func stamp(seq kite.Seq, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(seq)
	}
	return b
}

// follow reads the stream to its end again and again until ctx ends.
func follow(ctx context.Context, t *testing.T, j store.Journal, stream string, most int) {
	next, newest := kite.Seq(1), kite.Position(0)
	for done := false; !done; {
		done = ctx.Err() != nil // once more after the last append
		err := j.Read(stream, next, func(r *kite.Record) bool {
			if r.Seq < next || r.Topic != stream || string(r.Body) != string(stamp(r.Seq, len(r.Body))) {
				t.Errorf("read %s: seq %d of %s where %d or later belongs, body %.8x", stream, r.Seq, r.Topic, next, r.Body)
				return false
			}
			next, newest = r.Seq+1, r.Position
			return true
		})
		if err != nil || t.Failed() {
			t.Errorf("read %s from %d: %v", stream, next, err)
			return
		}
		if first, end := j.Bounds(stream); first > end || end < next || int(end) > most {
			t.Errorf("bounds of %s: %d to %d after reading up to %d", stream, first, end, next)
			return
		}
		if newest > 0 && !done {
			// It may be trimmed by now; then an error is right, another record is not.
			_ = j.Load(newest, func(r *kite.Record) {
				if r.Topic != stream || r.Position != newest {
					t.Errorf("load %d: %s at %d", newest, r.Topic, r.Position)
				}
			})
		}
	}
}
