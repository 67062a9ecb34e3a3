package main

import (
	"encoding/binary"
	"time"
)

// A body begins with its stamp, big-endian:
//
//	offset 0   size 8   the run
//	       8        4   the stream
//	      12        8   the place in the stream, from 0
//	      20        8   when it was due, Unix nanoseconds
const stampSize = 28

// probeStream is the stream of the messages that only find out whether a group is bound.
const probeStream = 1<<32 - 1

// stamp says which message a body is.
type stamp struct {
	run    uint64
	stream uint32
	place  uint64
	due    time.Time
}

// write puts the stamp at the beginning of body, which has at least stampSize bytes.
func (s stamp) write(body []byte) {
	binary.BigEndian.PutUint64(body, s.run)
	binary.BigEndian.PutUint32(body[8:], s.stream)
	binary.BigEndian.PutUint64(body[12:], s.place)
	binary.BigEndian.PutUint64(body[20:], uint64(s.due.UnixNano()))
}

// readStamp returns false for bodies that are too short to be ours.
func readStamp(body []byte) (stamp, bool) {
	if len(body) < stampSize {
		return stamp{}, false
	}
	return stamp{
		run:    binary.BigEndian.Uint64(body),
		stream: binary.BigEndian.Uint32(body[8:]),
		place:  binary.BigEndian.Uint64(body[12:]),
		due:    time.Unix(0, int64(binary.BigEndian.Uint64(body[20:]))),
	}, true
}
