package mysql

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// A checkpoint is the rows of one generation in kite_checkpoint: chunks of up to chunkBytes and a little,
// numbered from 0. They are written one by one, and count only when the journal's row names their generation,
// which is one transaction with the position that it stands for.
const chunkBytes = 512 << 10

type chunkKind uint8

const (
	headChunk   chunkKind = 1 // per stream: next seq (8, little endian), length of name (4), name
	idsChunk    chunkKind = 2 // since when the filters know every id, Unix ms (8), then one of them
	recordChunk chunkKind = 3 // records as in record.go
)

// Checkpoint writes what Replay will begin with. See store.Journal. When the database does not answer that is
// an error of code Unavailable which poisons nothing, and the checkpoint before stays the newest.
func (j *Journal) Checkpoint(state func(yield func(*kite.Record) bool)) error {
	if err := j.usable(); err != nil {
		return err
	}
	w := chunkWriter{j: j, generation: j.generation + 1}
	w.err = w.clear()
	w.heads()
	w.filters()
	state(func(r *kite.Record) bool {
		w.buf = appendRecord(w.buf, r)
		w.spill(recordChunk, chunkBytes)
		return w.err == nil
	})
	w.spill(recordChunk, 1)
	if w.err != nil {
		return w.err
	}
	t := &j.tx
	t.begin(j, j.head, 0, fmt.Sprintf(",generation=%d,covered=%d", w.generation, j.head))
	t.next(128)
	t.write(fmt.Sprintf("DELETE FROM kite_checkpoint WHERE journal=%d AND generation<%d", j.held.Journal, w.generation))
	t.commit()
	if err := j.once("write a checkpoint", t); err != nil {
		return err
	}
	j.generation, j.covered = w.generation, j.head
	return nil
}

// chunkWriter gathers what it is given into chunks.
type chunkWriter struct {
	j          *Journal
	generation uint64
	number     int
	buf        []byte
	err        error
}

// clear removes what a checkpoint that did not come about has left.
func (w *chunkWriter) clear() error {
	t := &w.j.tx
	t.begin(w.j, w.j.head, 0, "")
	t.next(128)
	t.write(fmt.Sprintf("DELETE FROM kite_checkpoint WHERE journal=%d AND generation>=%d", w.j.held.Journal, w.generation))
	t.commit()
	return w.j.once("write a checkpoint", t)
}

// heads writes where the streams go on: that must be known when all their records were trimmed. Minutes are
// forgotten then.
func (w *chunkWriter) heads() {
	for _, st := range w.j.streams {
		if _, minute := kite.DelayMinute(st.name); minute || st.next == 0 {
			continue
		}
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(st.next))
		w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(st.name)))
		w.buf = append(w.buf, st.name...)
		w.spill(headChunk, chunkBytes)
	}
	w.spill(headChunk, 1)
}

func (w *chunkWriter) filters() {
	filters, sinceMs := w.j.ids.all()
	for _, f := range filters {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(sinceMs))
		w.buf = append(w.buf, f.encode()...)
		w.spill(idsChunk, 1)
	}
}

// spill writes a chunk when there are so many bytes.
func (w *chunkWriter) spill(kind chunkKind, least int) {
	if w.err != nil || len(w.buf) < least {
		return
	}
	t := &w.j.tx
	t.begin(w.j, w.j.head, 0, "")
	t.next(256 + 2*len(w.buf))
	t.write(fmt.Sprintf("INSERT INTO kite_checkpoint VALUES(%d,%d,%d,%d,?)", w.j.held.Journal, w.generation, w.number, kind))
	t.arg(w.buf)
	t.commit()
	w.err = w.j.once("write a checkpoint", t)
	w.number++
	w.buf = w.buf[:0]
}

// chunks visits the chunks of the newest checkpoint, one in memory at a time.
func (j *Journal) chunks(visit func(kind chunkKind, body []byte) error) error {
	for number := 0; ; number++ {
		var kind chunkKind
		var body []byte
		err := j.db.readers.QueryRow("SELECT kind,body FROM kite_checkpoint WHERE journal=? AND generation=? AND number=?",
			j.held.Journal, j.generation, number).Scan(&kind, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = visit(kind, body)
		}
		if err != nil {
			return err
		}
	}
}

// restore takes over what a chunk says about streams and ids.
func (j *Journal) restore(kind chunkKind, body []byte) error {
	switch kind {
	case headChunk:
		return j.restoreHeads(body)
	case idsChunk:
		if len(body) < 8 {
			return errRecord
		}
		f, err := decodeFilter(body[8:])
		if err != nil {
			return err
		}
		j.ids.sinceMs = int64(binary.LittleEndian.Uint64(body))
		j.ids.filters = append(j.ids.filters, f)
	}
	return nil
}

func (j *Journal) restoreHeads(b []byte) error {
	for len(b) > 0 {
		if len(b) < 12 || uint64(binary.LittleEndian.Uint32(b[8:])) > uint64(len(b)-12) {
			return errRecord
		}
		next, end := kite.Seq(binary.LittleEndian.Uint64(b)), 12+int(binary.LittleEndian.Uint32(b[8:]))
		name := string(b[12:end])
		b = b[end:]
		st := j.streams[name]
		if st == nil {
			st = newStream(j.held.Journal, name, j.db.shards)
			st.first, st.next = next, next
			j.streams[name] = st
		}
		st.next = max(st.next, next)
	}
	return nil
}
