package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// A journal on a full disk must still take what makes room: progress, decisions and dead letters settle
// messages, a checkpoint lets Trim remove their segments. All of these need a little space first, so a
// file of nothing keeps some. It is given up when one of them finds none, and made again as soon as
// there is room for it, at the end of each Trim that removed something and of each checkpoint. Until it is
// whole no message is taken: whoever is refused keeps it, and what the reserve gave is for those who settle.
//
// Those may have half of it, for two small segments, since the last one cannot be trimmed: when the second
// is full the first one goes, and its space is the third one's. The other half is for checkpoints, without
// which nothing could be trimmed.
const (
	reserveName   = "reserve"
	maxReserve    = 64 << 20
	spareSegments = 4 // as many small segments as the whole reserve would have room for
)

var errSpent = fmt.Errorf("%w: the reserve was given up, messages are taken when there is room for it again", store.ErrFull)

func (j *Journal) reserveBytes() int64 { return min(maxReserve, int64(j.o.SegmentBytes)) }

// reserved tells whether the reserve is whole.
func (j *Journal) reserved() bool { return j.reserve >= j.reserveBytes() }

// settles tells whether the batch has no message and nothing prepared.
func settles(batch []*kite.Record) bool {
	for _, r := range batch {
		if r.Kind == kite.KindMessage || r.Kind == kite.KindPrepared {
			return false
		}
	}
	return true
}

// restock makes the reserve whole. When there is no room for that, which is no error, a checkpoint leaves
// some for the next one, the first of the sizes that can be had; a Trim leaves what it freed to those who settle.
func (j *Journal) restock(sizes ...int64) error {
	if j.reserved() {
		return nil
	}
	path := filepath.Join(j.o.Dir, reserveName)
	var full error
	for _, size := range append([]int64{j.reserveBytes()}, sizes...) {
		if j.reserve >= size {
			break
		}
		err := j.growReserve(path, size)
		if err != nil && !errors.Is(err, store.ErrFull) {
			return err
		}
		full = errors.Join(full, err)
	}
	if j.reserved() {
		j.log.Info("reserve made", "file", path, "bytes", j.reserve)
		return nil
	}
	j.log.Warn("no room for the reserve, publishes are refused", "file", path, "bytes", j.reserveBytes(), "has", j.reserve, "err", full,
		"hint", "free disk space, or find who holds old messages: a group that never comes back, undecided transactions")
	return nil
}

// growReserve gives the file so many bytes, or leaves it as it is.
func (j *Journal) growReserve(path string, size int64) error {
	file, err := j.fs.Create(path)
	if errors.Is(err, fs.ErrExist) {
		file, err = j.fs.Open(path)
	}
	if err != nil {
		return j.full("create "+path, err)
	}
	if j.reserve, err = file.Size(); err == nil {
		err = file.Allocate(size)
	}
	if err == nil {
		j.reserve = max(j.reserve, size)
		if err := file.Close(); err != nil {
			return j.fail("close "+path, err)
		}
		return nil
	}
	// A part of it may have been allocated.
	if cut := errors.Join(file.Truncate(j.reserve), file.Close()); cut != nil {
		return j.fail("cut "+path, errors.Join(err, cut))
	}
	return j.full("allocate "+path, err)
}

// spend leaves so many bytes of the reserve, if there are more.
func (j *Journal) spend(on string, left int64) error {
	if j.reserve <= left {
		return nil
	}
	path := filepath.Join(j.o.Dir, reserveName)
	file, err := j.fs.Open(path)
	if err == nil {
		err = errors.Join(file.Truncate(left), file.Close())
	}
	if err == nil {
		err = j.fs.SyncDir(j.o.Dir) // some file systems have the room only when they have written that down
	}
	if err != nil {
		return j.fail("give up "+path, err)
	}
	j.reserve = left
	j.log.Warn("disk full, the reserve is given up, publishes are refused", "for", on, "left", left,
		"hint", "free disk space, or let consumers settle what they have")
	return nil
}
