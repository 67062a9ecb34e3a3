package mmap

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

func numberedID(n int) (id kite.MessageID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)) // all but the last bytes are alike, as serial numbers are
	return id
}

// TestIDs enters ids into a table and a file of it and finds exactly those again, each with all its places, and
// with those of an id that happens to have the same hash: some thousand ids may have one.
func TestIDs(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 47, 48, 49, 1000, 50_000} {
		table, want := newIDTable(0), map[uint32][]uint32{}
		for i := range n {
			id := numberedID(i - i%10) // some have ten places and others none
			table.add(id, int64(64+8*i))
			hash := table.key.hash(id)
			want[hash] = append(want[hash], uint32(64+8*i))
		}
		seg := &segment{number: 1, epoch: 7, end: 1 << 30}
		file, err := openIDs(buildIDs(seg, table), seg)
		if err != nil || file.check() != nil {
			t.Fatalf("%d ids: %v, %v", n, err, file.check())
		}
		passed := 0
		for i := range n + 1000 {
			hash := file.key.hash(numberedID(i))
			fromTable, fromFile := table.find(hash, nil), file.find(hash, nil)
			slices.Sort(fromTable)
			if !slices.Equal(fromTable, want[hash]) || !slices.Equal(fromFile, want[hash]) {
				t.Fatalf("%d ids: number %d at %v and %v, want %v", n, i, fromTable, fromFile, want[hash])
			}
			if len(want[hash]) == 0 && filterHolds(file.filter, hash) {
				passed++
			}
		}
		if absent := n + 1000 - len(want); passed > 5+absent/40 {
			t.Errorf("%d ids: the filter let %d of %d pass that are not there", n, passed, absent)
		}
	}
}

// TestIDsSpread has serial numbers spread evenly: no long way from home to place.
func TestIDsSpread(t *testing.T) {
	t.Parallel()
	table := newIDTable(0)
	const n = 100_000
	for i := range n {
		table.add(numberedID(i), int64(64+8*i))
	}
	far := 0
	for at, entry := range table.slots {
		home := int(uint32(entry>>32) >> table.shift)
		if entry != 0 && (at-home+len(table.slots))%len(table.slots) > 64 {
			far++
		}
	}
	if far > 0 || table.count != n {
		t.Errorf("%d of %d ids lie more than 64 slots from their home", far, table.count)
	}
}

// TestDamagedIDs flips each bit of an id index in turn: every id is found all the same, and the file is good
// after the look.
func TestDamagedIDs(t *testing.T) {
	t.Parallel()
	all, _, read := sample(t, true)
	for off := range all["00000001.ids"] {
		fs, warned := newFS(all.with("00000001.ids", flip(int64(off), 1<<(off%8)))), &warnings{}
		j, err := Open(options(fs), slog.New(warned))
		if err != nil {
			t.Fatalf("byte %d: %v", off, err)
		}
		if _, got := mustEverything(t, j, "a", "b", "a/group"); !slices.Equal(got, read) {
			t.Fatalf("byte %d: %d records, want %d", off, len(got), len(read))
		}
		if warned.n.Load() != 1 {
			t.Errorf("byte %d: %d warnings, want one", off, warned.n.Load())
		}
		mustClose(t, j)
		seg := firstSegment(t, fs.snapshot())
		if file, err := openIDs(fs.snapshot()["00000001.ids"], seg); err != nil || file.check() != nil {
			t.Errorf("byte %d: the file was not mended: %v", off, err)
		}
	}
}

// firstSegment reads the first segment's header and takes its end from the second's.
func firstSegment(t *testing.T, all files) *segment {
	t.Helper()
	first, second := &segment{number: 1, data: all["00000001.seg"]}, &segment{number: 2, data: all["00000002.seg"]}
	for _, s := range []*segment{first, second} {
		if err := s.readHeader(); err != nil {
			t.Fatal(err)
		}
	}
	first.end = int64(second.base - first.base)
	return first
}

func BenchmarkIDTableAdd(b *testing.B) {
	b.ReportAllocs()
	table := newIDTable(1 << 20)
	for i := 0; b.Loop(); i++ {
		if table.count == 1<<20 {
			clear(table.slots)
			table.count = 0
		}
		table.add(numberedID(i), 64)
	}
}

// BenchmarkFindAbsent looks for ids that are not there in journals of some sealed segments.
func BenchmarkFindAbsent(b *testing.B) {
	for _, segments := range []int{0, 4, 16} {
		b.Run(slog.IntValue(segments).String()+" segments", func(b *testing.B) {
			j := mustOpen(b, Options{Dir: b.TempDir(), Sync: SyncOS, SegmentBytes: 16 << 20})
			seq := 1
			for len(j.segments) <= segments {
				batch := make([]*kite.Record, 0, 1000)
				for range cap(batch) {
					r := message("a", seq, 16)
					r.ID = numberedID(seq)
					batch = append(batch, r)
					seq++
				}
				mustAppend(b, j, batch...)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				err := j.Find(numberedID(1<<40+i), 0, func(*kite.Record) bool { return true })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
