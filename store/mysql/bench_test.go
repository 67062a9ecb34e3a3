package mysql

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// BenchmarkAppend appends batches of messages of 256 bytes on 4 topics, in turn with the plainest thing that
// could be done: an INSERT of the same rows into a table of the same shape, by the driver, committed by itself.
// The medians of both are told, so that the machine's other work falls out, and how much of the bare one's
// speed the journal has.
func BenchmarkAppend(b *testing.B) {
	d := mustDial(b, options(b))
	for _, rows := range []int{1, 16, 128, 1024} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			journal, bare := benchJournal(b, d, rows), benchBare(b, d, rows)
			var ours, theirs []time.Duration
			b.SetBytes(int64(rows) * 256)
			for b.Loop() {
				begin := time.Now()
				journal()
				middle := time.Now()
				bare()
				ours, theirs = append(ours, middle.Sub(begin)), append(theirs, time.Since(middle))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			j, i := ours[len(ours)/2], theirs[len(theirs)/2]
			b.ReportMetric(float64(rows)/j.Seconds(), "messages/s")
			b.ReportMetric(float64(rows)/i.Seconds(), "bare/s")
			b.ReportMetric(100*i.Seconds()/j.Seconds(), "%bare")
			b.ReportMetric(ours[len(ours)*99/100].Seconds()*1000, "p99-ms")
		})
	}
}

const benchTopics = 4

func benchBatch(rows int) []*kite.Record {
	batch := make([]*kite.Record, rows)
	for i := range batch {
		batch[i] = message(fmt.Sprint("topic-", i%benchTopics), 0, strings.Repeat("b", 256))
	}
	return batch
}

// scatter gives the record an id that lies anywhere in the index.
func scatter(r *kite.Record, serial int) {
	a, _ := places(kite.MessageID{byte(serial), byte(serial >> 8), byte(serial >> 16), byte(serial >> 24)})
	copy(r.ID[:], fmt.Sprintf("%016x", a))
}

func benchJournal(b *testing.B, d *Database, rows int) func() {
	j := mustCreate(b, d, "bench")
	batch := benchBatch(rows)
	next := map[string]kite.Seq{}
	serial := 0
	return func() {
		for _, r := range batch {
			serial++
			next[r.Topic]++
			r.Seq = next[r.Topic]
			scatter(r, serial)
		}
		if err := j.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func benchBare(b *testing.B, d *Database, rows int) func() {
	c := d.config(d.o.Master)
	c.Params = nil
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	table := fmt.Sprintf("bare_%08x", rand.Uint32())
	if _, err := db.Exec("CREATE TABLE " + table + " LIKE kite_message_0"); err != nil {
		b.Fatal(err)
	}
	const row = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
	query := "INSERT INTO " + table + "(journal," + columns + ")VALUES" + strings.Repeat(row+",", rows-1) + row
	batch := benchBatch(rows)
	args := make([]any, 0, rows*15)
	serial := 0
	return func() {
		args = args[:0]
		for _, r := range batch {
			serial++
			scatter(r, serial)
			args = append(args, 1, serial, uint8(r.Kind), r.Command, r.Limit, r.ID[:], serial, r.TimeMs, r.ExpiresMs, r.DueMs, 0, []byte(r.Topic), r.Type, r.Group, r.Body)
		}
		if _, err := db.Exec(query, args...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads messages of 256 bytes in order, from the database.
func BenchmarkRead(b *testing.B) {
	o := options(b)
	o.tailBytes = 1
	j := mustCreate(b, mustDial(b, o), "bench")
	const total = 10_000
	for seq := kite.Seq(1); seq <= total; {
		var batch []*kite.Record
		for range 500 {
			r := message("a", seq, strings.Repeat("b", 256))
			batch = append(batch, r)
			seq++
		}
		if err := j.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := j.Read("a", 1, func(*kite.Record) bool { n++; return true }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
