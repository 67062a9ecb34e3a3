package mmap

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// warnings counts what is logged as a warning or worse.
type warnings struct{ n atomic.Int64 }

func (w *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w *warnings) Handle(context.Context, slog.Record) error    { w.n.Add(1); return nil }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler           { return w }
func (w *warnings) WithGroup(string) slog.Handler                { return w }

func options(fs FS) Options { return Options{Dir: "/journal", SegmentBytes: minSegment, FS: fs} }

func message(topic string, seq, body int) *kite.Record {
	timeMs := int64(seq)
	return &kite.Record{
		Kind: kite.KindMessage, Command: 0x11, Limit: 3, Seq: kite.Seq(seq), Topic: topic, TimeMs: timeMs, ExpiresMs: timeMs + 9,
		ID: kite.MessageID([]byte(fmt.Sprintf("%16d", seq))), Type: []byte("type"), Group: []byte("group"),
		Body: bytes.Repeat([]byte{byte(seq)}, body),
	}
}

func mustOpen(tb testing.TB, o Options) *Journal {
	tb.Helper()
	j, err := Open(o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j
}

func mustAppend(tb testing.TB, j *Journal, batch ...*kite.Record) {
	tb.Helper()
	if err := j.Append(batch); err != nil {
		tb.Fatal(err)
	}
}

func mustSync(tb testing.TB, j *Journal) {
	tb.Helper()
	if err := j.Sync(j.Class()); err != nil {
		tb.Fatal(err)
	}
}

func mustClose(tb testing.TB, j *Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Fatal(err)
	}
}

// die leaves the journal as a killed process does, but for the lock.
func die(tb testing.TB, j *Journal) {
	tb.Helper()
	if err := j.release(); err != nil {
		tb.Fatal(err)
	}
}

// text is a record as one comparable string.
func text(r *kite.Record) string {
	return fmt.Sprint(r.Kind, r.Command, r.Limit, r.ID, r.Seq, r.TimeMs, r.ExpiresMs, r.Ref, r.Position, r.Topic,
		string(r.Type), string(r.Group), string(r.Body))
}

// everything is what Replay and then Read show. All that is read is found by its id, too.
func everything(j *Journal, streams ...string) (replayed, read []string, err error) {
	err = j.Replay(func(r *kite.Record) error {
		replayed = append(replayed, text(r))
		return nil
	})
	if err != nil {
		return replayed, nil, err
	}
	for _, stream := range streams {
		places := map[kite.Position]kite.MessageID{}
		err = j.Read(stream, 1, func(r *kite.Record) bool {
			read = append(read, text(r))
			places[r.Position] = r.ID
			return true
		})
		if err != nil {
			return replayed, read, err
		}
		for pos, id := range places {
			if err := found(j, id, pos); err != nil {
				return replayed, read, err
			}
		}
	}
	return replayed, read, nil
}

// found looks for the record at pos by its id.
func found(j *Journal, id kite.MessageID, pos kite.Position) error {
	there := false
	err := j.Find(id, 0, func(r *kite.Record) bool {
		there = there || r.Position == pos
		return true
	})
	if err == nil && !there {
		err = fmt.Errorf("message %s at position %d is not found by its id", id, pos)
	}
	return err
}

func mustEverything(tb testing.TB, j *Journal, streams ...string) (replayed, read []string) {
	tb.Helper()
	replayed, read, err := everything(j, streams...)
	if err != nil {
		tb.Fatal(err)
	}
	return replayed, read
}

// with returns the files with one of them changed.
func (f files) with(name string, change func([]byte) []byte) files {
	g := maps.Clone(f)
	g[name] = change(bytes.Clone(f[name]))
	return g
}

// flip changes bits of one byte.
func flip(off int64, mask byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[off] ^= mask
		return b
	}
}
