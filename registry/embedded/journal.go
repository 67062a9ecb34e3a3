package embedded

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// journal keeps the tree in a directory: a snapshot and the log of transactions since.
//
//	lock                     held by the process that uses the directory
//	log-<zxid, hex>          transactions after zxid
//	snapshot-<zxid, hex>     the tree as it was at zxid
//
// A log is a header and records. A record is what one commit wrote: one or more transactions, whole
// or, when the process or machine died in between, torn; then it is the last of the last log, since
// the next is not written before this one is synced. All numbers are big-endian.
//
//	log header, 32 bytes     0 "KITEQZKL" | 8 uint32 version | 12 uint64 salt | 20 int64 zxid | 28 uint32 crc of the above
//	record, 12 bytes + n     0 uint32 n | 4 uint32 crc of the payload | 8 uint32 crc of the 8 bytes before | 12 payload
//
// Checksums are CRC32C. Those of records begin with the salt, which is random for each log, so that
// bytes which a client stored can never pass for a record.
type journal struct {
	dir  string
	lock *os.File
	file *os.File // the log that is written
	logHeader
	size     int64  // of file
	scratch  []byte // one record
	lastCopy int64  // size of the newest snapshot
	copying  sync.WaitGroup
	copied   chan error // nil while no snapshot is being written
}

const (
	logMagic        = "KITEQZKL"
	logVersion      = 1
	logHeaderSize   = 32
	recordHeadSize  = 12
	logPrefix       = "log-"
	snapshotPrefix  = "snapshot-"
	temporaryPrefix = "tmp-"
	lockName        = "lock"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type logHeader struct {
	base int64  // the zxid before the log's first
	seed uint32 // what records' checksums begin with
}

func newLogHeader(base int64) ([]byte, logHeader) {
	b := make([]byte, logHeaderSize)
	copy(b, logMagic)
	binary.BigEndian.PutUint32(b[8:], logVersion)
	rand.Read(b[12:20])
	binary.BigEndian.PutUint64(b[20:], uint64(base))
	binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b, logHeader{base, crc32.Checksum(b[12:20], castagnoli)}
}

var errNotWhole = errors.New("the header is not whole")

func parseLogHeader(b []byte) (logHeader, error) {
	if len(b) < logHeaderSize || string(b[:8]) != logMagic ||
		binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return logHeader{}, errNotWhole
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != logVersion {
		return logHeader{}, fmt.Errorf("log version %d: this program reads %d", v, logVersion)
	}
	return logHeader{int64(binary.BigEndian.Uint64(b[20:])), crc32.Checksum(b[12:20], castagnoli)}, nil
}

// appendRecord appends payload as a record.
func (h logHeader) appendRecord(b, payload []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Update(h.seed, castagnoli, payload))
	b = binary.BigEndian.AppendUint32(b, crc32.Update(h.seed, castagnoli, b[at:at+8]))
	return append(b, payload...)
}

// record returns the payload of the record at off, and where the next begins.
func (h logHeader) record(b []byte, off int) (payload []byte, next int, ok bool) {
	if len(b)-off < recordHeadSize {
		return nil, 0, false
	}
	head := b[off : off+recordHeadSize]
	n := int64(binary.BigEndian.Uint32(head))
	if binary.BigEndian.Uint32(head[8:]) != crc32.Update(h.seed, castagnoli, head[:8]) ||
		n == 0 || n > int64(len(b)-off-recordHeadSize) {
		return nil, 0, false
	}
	next = off + recordHeadSize + int(n)
	payload = b[off+recordHeadSize : next]
	return payload, next, binary.BigEndian.Uint32(head[4:]) == crc32.Update(h.seed, castagnoli, payload)
}

// append writes one record and returns when it is durable. After an error the journal is not used again.
func (j *journal) append(payload []byte) error {
	j.scratch = j.appendRecord(j.scratch[:0], payload)
	n, err := j.file.Write(j.scratch)
	j.size += int64(n)
	j.scratch = recycle(j.scratch)
	if err != nil {
		return err
	}
	if err := syncData(j.file); err != nil {
		return fmt.Errorf("sync %s: %w", j.file.Name(), err)
	}
	return nil
}

// startLog begins a new log after zxid base.
func (j *journal) startLog(base int64) error {
	header, parsed := newLogHeader(base)
	f, err := os.OpenFile(filepath.Join(j.dir, fileName(logPrefix, base)), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(header); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(j.dir)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("start log %s: %w", f.Name(), err)
	}
	if j.file != nil {
		j.file.Close() // everything in it is synced
	}
	j.file, j.logHeader, j.size = f, parsed, logHeaderSize
	return nil
}

// due tells whether it is time for a snapshot: the log is longer than both limit and the last
// snapshot, and none is being written.
func (j *journal) due(limit int64) bool {
	return j.copied == nil && j.size > max(limit, j.lastCopy)
}

// snapshot begins to write the tree as it is now, and a new log. When the snapshot is durable
// snapshotDone yields, and retire removes what it makes superfluous. Until then, recovery uses the
// older snapshot and both logs.
func (j *journal) snapshot(t *tree) error {
	b := encodeSnapshot(t)
	if t.zxid != j.base { // else the log is as good as new
		if err := j.startLog(t.zxid); err != nil {
			return err
		}
	}
	j.lastCopy = int64(len(b))
	done := make(chan error, 1)
	j.copied = done
	name := fileName(snapshotPrefix, t.zxid)
	j.copying.Go(func() { done <- writeFile(j.dir, name, b) })
	return nil
}

// snapshotDone yields the outcome of the snapshot that is being written; it may be called on nil.
func (j *journal) snapshotDone() <-chan error {
	if j == nil {
		return nil
	}
	return j.copied
}

// retire takes snapshotDone's outcome. A failed snapshot costs disk space, not data: it is tried
// again when the next is due.
func (j *journal) retire(outcome error, log *slog.Logger) {
	j.copied = nil
	if outcome != nil {
		log.Warn("snapshot not written, the log is kept", "dir", j.dir, "err", outcome)
		return
	}
	files, err := listFiles(j.dir)
	if err == nil {
		err = files.removeBefore(j.base)
	}
	if err != nil {
		log.Warn("superfluous files not removed", "dir", j.dir, "err", err)
	}
}

// close waits for the snapshot that is being written and frees the directory. It may be called on nil.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	j.copying.Wait()
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, unlockDir(j.lock))
}

// writeFile makes the file appear whole and durable, or not at all.
func writeFile(dir, name string, b []byte) error {
	temporary := filepath.Join(dir, temporaryPrefix+name)
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(temporary)
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
