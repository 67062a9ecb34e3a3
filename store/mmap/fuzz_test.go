package mmap

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// FuzzRecord decodes arbitrary bytes: no panic, and what is accepted is what the encoder writes.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRecord(nil, message("topic", 7, 40)))
	f.Add(appendRecord(nil, &kite.Record{Kind: kite.KindCommit, Ref: 1 << 40}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= recordHeader { // let arbitrary fields get past the checksum
			if n := int(binary.LittleEndian.Uint32(b)); n >= recordHeader && n <= len(b) {
				binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:n], castagnoli))
			}
		}
		var r kite.Record
		topic, n, err := decodeRecord(b, &r)
		if err != nil {
			return
		}
		r.Topic = string(topic)
		if b[15] == 0 && !bytes.Equal(appendRecord(nil, &r), b[:n]) {
			t.Errorf("decoded %+v, which is encoded in another way", r)
		}
	})
}

// signed corrects the checksums of a segment, so that the fuzzer gets behind them.
func signed(b []byte) []byte {
	le := binary.LittleEndian
	b = bytes.Clone(b)
	if len(b) < segmentHeader {
		return b
	}
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	for off := segmentHeader; off+batchHeader <= len(b); {
		n := int(le.Uint32(b[off:]))
		if n < batchHeader || n > len(b)-off {
			break
		}
		for at := off + batchHeader; at+recordHeader <= off+n; {
			m := int(le.Uint32(b[at:]))
			if m < recordHeader || m > off+n-at {
				break
			}
			le.PutUint32(b[at+4:], crc32.Checksum(b[at+8:at+m], castagnoli))
			at += m
		}
		le.PutUint32(b[off+4:], crc32.Checksum(b[off+8:off+n], castagnoli))
		off += n
	}
	return b
}

// seedFiles is a small journal of all kinds of files.
func seedFiles(f *testing.F) files {
	f.Helper()
	fs := newFS(nil)
	j := mustOpen(f, options(fs))
	p := message("b", 0, 30)
	p.Kind = kite.KindPrepared
	mustAppend(f, j, p, message("a", 1, 20))
	for seq := 2; len(j.segments) < 2; seq++ {
		mustAppend(f, j, message("a", seq, 700))
	}
	mustAppend(f, j, &kite.Record{Kind: kite.KindCommit, Topic: "b", Seq: 1, ID: p.ID, Ref: p.Position})
	if err := j.Checkpoint(slices.Values([]*kite.Record{{Kind: kite.KindHead, Topic: "a", Seq: 9}})); err != nil {
		f.Fatal(err)
	}
	mustClose(f, j)
	return fs.snapshot()
}

// usable opens the files and uses all that opens: no panic, and what was readable is so after a
// second Open.
func usable(t *testing.T, all files) {
	t.Helper()
	fs := newFS(all)
	j, err := Open(options(fs), nil)
	if err != nil {
		return
	}
	streams := slices.Sorted(maps.Keys(j.streams))
	replayed, read, err := everything(j, streams...)
	if len(j.segments) < 100 {
		_ = j.Append([]*kite.Record{{Kind: kite.KindProgress, Topic: "a"}})
	}
	if closed := j.Close(); closed != nil || err != nil {
		return
	}
	j, err = Open(options(fs), nil)
	if err != nil {
		t.Fatalf("second open: %v", err)
	}
	defer func() { _ = j.Close() }()
	again, reread, err := everything(j, streams...)
	if err != nil || len(again) < len(replayed) || !slices.Equal(again[:len(replayed)], replayed) || !slices.Equal(reread, read) {
		t.Fatalf("second open: %d records replayed and %d read, %v; the first had %d and %d", len(again), len(reread), err, len(replayed), len(read))
	}
}

// FuzzSegment opens an arbitrary file as the only segment.
func FuzzSegment(f *testing.F) {
	all := seedFiles(f)
	f.Add(all["00000001.seg"][:520], true) // short ones: the fuzzer minimizes what it finds
	f.Add(all["00000001.seg"][:200], true)
	f.Add(all["00000001.seg"][:100], false)
	f.Add([]byte(segmentMagic), false)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign {
			b = signed(b)
		}
		usable(t, files{"00000001.seg": b})
	})
}

// FuzzIndex opens a journal with an arbitrary index, its checksum corrected.
func FuzzIndex(f *testing.F) {
	all := seedFiles(f)
	f.Add(all["00000001.idx"])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= indexHeader {
			binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
		}
		usable(t, all.with("00000001.idx", func([]byte) []byte { return b }))
	})
}

// FuzzIDs opens a journal with an arbitrary id index, its checksums corrected.
func FuzzIDs(f *testing.F) {
	all := seedFiles(f)
	f.Add(all["00000001.ids"])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= idsHeader {
			le := binary.LittleEndian
			le.PutUint32(b[12:], crc32.Checksum(b[idsHeader:], castagnoli))
			le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
		}
		j, err := Open(options(newFS(all.with("00000001.ids", func([]byte) []byte { return b }))), nil)
		if err != nil {
			t.Fatal(err) // it is derived: nothing in it may keep the journal from opening
		}
		defer func() { _ = j.Close() }()
		for n := range 20 {
			// What is found is right or is damage; what is not may be missing, as the checksums are ours.
			id := message("a", n, 0).ID
			_ = j.Find(id, 0, func(r *kite.Record) bool {
				if r.ID != id {
					t.Fatalf("%s was found under %s", r.ID, id)
				}
				return true
			})
		}
	})
}

// FuzzCheckpoint opens a journal with an arbitrary checkpoint, its checksums corrected.
func FuzzCheckpoint(f *testing.F) {
	all := seedFiles(f)
	f.Add(all["00000001.ckpt"])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= checkpointHeader {
			le := binary.LittleEndian
			le.PutUint32(b[12:], crc32.Checksum(b[checkpointHeader:], castagnoli))
			le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
		}
		usable(t, all.with("00000001.ckpt", func([]byte) []byte { return b }))
	})
}

// TestHeaderTimes keeps the creation time in its unit.
func TestHeaderTimes(t *testing.T) {
	t.Parallel()
	s := &segment{number: 3, base: 4096, epoch: 5, sequence: 6}
	s.data = s.putHeader(time.UnixMilli(1234))
	got := &segment{number: 3, data: s.data}
	if err := got.readHeader(); err != nil || got.base != s.base || got.epoch != s.epoch || got.sequence != s.sequence {
		t.Errorf("header read as %+v, %v", got, err)
	}
	if ms := binary.LittleEndian.Uint64(s.data[40:]); ms != 1234 {
		t.Errorf("created %d, want 1234 ms", ms)
	}
}

// resigned corrects the checksum of an index.
func resigned(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}
