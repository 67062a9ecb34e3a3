package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Jute is the record format of the protocol: big-endian numbers, one byte for a bool, and a 32-bit
// length before text, bytes and vectors. Length -1 is null. The log and the snapshot use it too.

var errShort = errors.New("the packet ends inside a field")

// decoder reads jute fields from a packet. The first error sticks: later reads give zero values, so
// that a record is read field by field and checked once. It allocates no more than the packet's
// own bytes justify. Bytes it returns are views into the packet.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.b) {
		d.err = errShort
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) int32() int32 {
	if p := d.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if p := d.take(8); p != nil {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

func (d *decoder) bool() bool {
	p := d.take(1)
	return p != nil && p[0] != 0
}

// bytes returns nil for null, which ZooKeeper keeps apart from empty.
func (d *decoder) bytes() []byte {
	n := d.int32()
	switch {
	case d.err != nil || n == -1:
		return nil
	case n < 0:
		d.err = fmt.Errorf("a field of length %d", n)
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) text() string { return string(d.bytes()) }

// count reads a vector's length and refuses one whose elements, each at least size bytes, cannot be
// in the rest of the packet. A null vector counts 0.
func (d *decoder) count(size int) int {
	n := d.int32()
	switch {
	case d.err != nil || n == -1:
		return 0
	case n < 0:
		d.err = fmt.Errorf("a vector of length %d", n)
		return 0
	case int(n) > len(d.b)/size:
		d.err = errShort
		return 0
	}
	return int(n)
}

func (d *decoder) texts() []string {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.text())
	}
	return list
}

func (d *decoder) acl() []aclEntry {
	n := d.count(12)
	if n == 0 {
		return nil
	}
	list := make([]aclEntry, 0, n)
	for range n {
		list = append(list, aclEntry{perms: d.int32(), id: identity{scheme: d.text(), name: d.text()}})
	}
	return list
}

// encoder appends jute fields to b.
type encoder struct {
	b []byte
}

func (e *encoder) int32(v int32) { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) int64(v int64) { e.b = binary.BigEndian.AppendUint64(e.b, uint64(v)) }

func (e *encoder) bool(v bool) {
	if v {
		e.b = append(e.b, 1)
		return
	}
	e.b = append(e.b, 0)
}

func (e *encoder) bytes(v []byte) {
	if v == nil {
		e.int32(-1)
		return
	}
	e.int32(int32(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) text(v string) {
	e.int32(int32(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) texts(list []string) {
	e.int32(int32(len(list)))
	for _, v := range list {
		e.text(v)
	}
}

func (e *encoder) acl(list []aclEntry) {
	e.int32(int32(len(list)))
	for _, a := range list {
		e.int32(a.perms)
		e.text(a.id.scheme)
		e.text(a.id.name)
	}
}

// open reserves room for a length and returns where it is; shut fills it in.
func (e *encoder) open() int {
	e.int32(0)
	return len(e.b)
}

func (e *encoder) shut(at int) {
	binary.BigEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-at))
}
