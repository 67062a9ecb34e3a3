package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// A checkpoint file, little endian: the header, the heads, the records in their journal layout.
//
//	 0       8         12     16       24         32         40       48        56      60       64
//	+-------+---------+------+--------+----------+----------+--------+---------+-------+--------+
//	| magic | version | body | number | position | sequence | length | records | heads | crc32c |
//	+-------+---------+------+--------+----------+----------+--------+---------+-------+--------+
//	| heads: next seq of the stream (8), length of name (4), name                                |
//	| records                                                                                    |
//	+--------------------------------------------------------------------------------------------+
//
// It stands for every batch before position; sequence is that of the batch there. crc32c covers what
// precedes it, body is the checksum of everything behind the header. Heads keep a stream's next Seq when all
// its records were trimmed.
const (
	checkpointHeader  = 64
	checkpointMagic   = "KITEQCKP"
	checkpointVersion = 1
	checkpointsKept   = 2
)

// checkpoint is a checked file, mapped.
type checkpoint struct {
	number   uint64
	position kite.Position
	sequence uint64
	heads    int
	records  uint64
	path     string
	data     []byte
}

func (c *checkpoint) release(fs FS) { _ = fs.Unmap(c.data) }

// Checkpoint writes what Replay will begin with. See store.Journal. It syncs the journal first,
// whatever Class says. The newest two are kept. When a full disk has no room for it even without the
// reserve it returns store.ErrFull, and the checkpoint before stays the newest.
func (j *Journal) Checkpoint(state func(yield func(*kite.Record) bool)) error {
	if err := j.usable(); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	number := j.snapshot + 1
	path := numbered(j.o.Dir, number, checkpointExt)
	position := j.tail()
	size, err := j.writeCheckpoint(path+tempExt, number, position, state)
	if errors.Is(err, store.ErrFull) && j.reserve > 0 {
		if err := j.spend("a checkpoint", 0); err != nil {
			return err
		}
		size, err = j.writeCheckpoint(path+tempExt, number, position, state)
	}
	if err != nil {
		return err
	}
	if err := j.fs.Rename(path+tempExt, path); err != nil {
		return j.fail("rename to "+path, err)
	}
	if err := j.fs.SyncDir(j.o.Dir); err != nil {
		return j.fail("sync the directory "+j.o.Dir, err)
	}
	j.covered, j.snapshot = position, number
	j.snapshots = append(j.snapshots, number)
	for len(j.snapshots) > checkpointsKept {
		old := numbered(j.o.Dir, j.snapshots[0], checkpointExt)
		if err := j.fs.Remove(old); err != nil {
			j.log.Warn("remove an old checkpoint", "file", old, "err", err)
		}
		j.snapshots = j.snapshots[1:]
	}
	half := j.reserveBytes() / 2
	return j.restock(half, min(half, size+size/4))
}

// tail returns where the next batch goes, or would if a segment were open.
func (j *Journal) tail() kite.Position {
	if n := len(j.segments); n > 0 {
		return j.segments[n-1].limit()
	}
	return 0
}

func (j *Journal) writeCheckpoint(path string, number uint64, position kite.Position, state func(yield func(*kite.Record) bool)) (size int64, err error) {
	file, err := j.fs.Create(path)
	if err != nil {
		return 0, j.full("create "+path, err)
	}
	w := &checkpointWriter{file: file, at: checkpointHeader}
	heads := 0
	for _, st := range j.streams {
		if _, minute := kite.DelayMinute(st.name); st.next > 0 && !minute {
			heads++
			w.head(st)
		}
	}
	records := uint64(0)
	var refused error
	state(func(r *kite.Record) bool {
		if refused = checkRecord(r); refused != nil {
			return false
		}
		w.record(r)
		records++
		return w.err == nil
	})
	w.flush()
	if w.err == nil && refused == nil {
		b := make([]byte, checkpointHeader)
		le := binary.LittleEndian
		copy(b, checkpointMagic)
		le.PutUint32(b[8:], checkpointVersion)
		le.PutUint64(b[16:], number)
		le.PutUint64(b[24:], uint64(position))
		le.PutUint64(b[32:], j.sequence)
		le.PutUint64(b[40:], uint64(w.at))
		le.PutUint32(b[12:], w.crc)
		le.PutUint64(b[48:], records)
		le.PutUint32(b[56:], uint32(heads))
		le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
		_, w.err = file.WriteAt(b, 0)
	}
	if w.err == nil && refused == nil {
		w.err = file.Sync()
	}
	return w.at, j.finish(path, file, w.err, refused)
}

// finish closes a temporary checkpoint and removes one that did not come about.
func (j *Journal) finish(path string, file File, failed, refused error) error {
	closed := file.Close()
	if failed == nil && refused == nil && closed == nil {
		return nil
	}
	removed := j.fs.Remove(path)
	switch {
	case failed == nil && closed == nil && removed == nil:
		return fmt.Errorf("write the checkpoint %s: %w", path, refused)
	case errors.Is(failed, unix.ENOSPC) && removed == nil || errors.Is(failed, unix.EDQUOT) && removed == nil:
		return j.full("write the checkpoint "+path, failed)
	}
	return j.fail("write the checkpoint "+path, errors.Join(failed, closed, removed))
}

// checkpointWriter gathers what it is given into writes of at least checkpointBuffer bytes.
type checkpointWriter struct {
	file File
	buf  []byte
	at   int64
	crc  uint32
	err  error
}

const checkpointBuffer = 256 << 10

func (w *checkpointWriter) head(st *stream) {
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(st.next))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(st.name)))
	w.buf = append(w.buf, st.name...)
	w.spill()
}

func (w *checkpointWriter) record(r *kite.Record) {
	w.buf = appendRecord(w.buf, r)
	w.spill()
}

func (w *checkpointWriter) spill() {
	if len(w.buf) >= checkpointBuffer {
		w.flush()
	}
}

func (w *checkpointWriter) flush() {
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	_, w.err = w.file.WriteAt(w.buf, w.at)
	w.crc = crc32.Update(w.crc, castagnoli, w.buf)
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
}

// openCheckpoint maps and checks a checkpoint. A damaged one is a *store.CorruptionError.
func openCheckpoint(fs FS, dir string, number uint64) (c *checkpoint, err error) {
	c = &checkpoint{number: number, path: numbered(dir, number, checkpointExt)}
	if c.data, err = mapFile(fs, c.path); err != nil {
		return nil, err
	}
	if err := guarded(c.path, c.data, c.check); err != nil {
		c.release(fs)
		return nil, err
	}
	return c, nil
}

func (c *checkpoint) check() error {
	le, b := binary.LittleEndian, c.data
	if len(b) < checkpointHeader {
		return c.corrupt(0, errShort)
	}
	sound := crc32.Checksum(b[:60], castagnoli) == le.Uint32(b[60:])
	if string(b[:8]) != checkpointMagic {
		return c.corrupt(0, fmt.Errorf("it begins with %q, not with %s", b[:8], checkpointMagic))
	}
	if err := checkVersion(c.path, le.Uint32(b[8:]), checkpointVersion, sound); err != nil {
		return err
	}
	if !sound || le.Uint64(b[16:]) != c.number || le.Uint64(b[40:]) != uint64(len(b)) {
		return c.corrupt(0, errChecksum)
	}
	if crc32.Checksum(b[checkpointHeader:], castagnoli) != le.Uint32(b[12:]) {
		return c.corrupt(checkpointHeader, errChecksum)
	}
	c.position = kite.Position(le.Uint64(b[24:]))
	c.sequence = le.Uint64(b[32:])
	c.heads = int(le.Uint32(b[56:]))
	c.records = le.Uint64(b[48:])
	_, err := c.eachHead(func([]byte, kite.Seq) {})
	return err
}

func (c *checkpoint) corrupt(off int64, err error) error {
	return &store.CorruptionError{File: c.path, Offset: off, Err: err}
}

// eachHead visits the heads and returns where they end.
func (c *checkpoint) eachHead(visit func(name []byte, next kite.Seq)) (off int, err error) {
	off = checkpointHeader
	for range c.heads {
		b := c.data[off:]
		if len(b) < 12 {
			return off, c.corrupt(int64(off), errShort)
		}
		n := uint64(binary.LittleEndian.Uint32(b[8:]))
		if n > uint64(len(b)-12) {
			return off, c.corrupt(int64(off), errShort)
		}
		visit(b[12:12+n], kite.Seq(binary.LittleEndian.Uint64(b)))
		off += 12 + int(n)
	}
	return off, nil
}

// each visits the records; the topic of a visited one is in topic only.
func (c *checkpoint) each(r *kite.Record, visit func(topic []byte) error) error {
	return guarded(c.path, c.data, func() error { return c.visit(r, visit) })
}

func (c *checkpoint) visit(r *kite.Record, visit func(topic []byte) error) error {
	off, err := c.eachHead(func([]byte, kite.Seq) {})
	if err != nil {
		return err
	}
	for range c.records {
		topic, n, err := decodeRecord(c.data[off:], r)
		if err != nil {
			return c.corrupt(int64(off), err)
		}
		r.Position = 0
		if err := visit(topic); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// mapFile maps all of an existing file; an empty one gives nil.
func mapFile(fs FS, path string) (data []byte, err error) {
	file, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	return file.Map(size)
}
