package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A snapshot is the tree at one zxid.
//
//	header, 24 bytes   0 "KITEQZKS" | 8 uint32 version | 12 int64 zxid | 20 uint32 crc of 0 to 20 and the payload
//	payload            sessions  int32 count | each: int64 id | int32 timeout ms | bytes password
//	                   nodes     int32 count | each: text path | bytes data | acl | numbers
//	numbers            int64 created | modified | children modified | created ms | modified ms
//	                   int32 version | ACL version | creations | int64 owner | ttl
const (
	snapshotMagic      = "KITEQZKS"
	snapshotVersion    = 1
	snapshotHeaderSize = 24
)

func encodeSnapshot(t *tree) []byte {
	e := encoder{b: make([]byte, snapshotHeaderSize, snapshotHeaderSize+int(t.bytes))}
	e.int32(int32(len(t.sessions)))
	for id, l := range t.sessions {
		e.int64(id)
		e.int32(l.timeoutMs)
		e.bytes(l.password)
	}
	e.int32(int32(len(t.nodes)))
	for path, n := range t.nodes {
		e.text(path)
		e.bytes(n.data)
		e.acl(n.acl)
		n.encodeMeta(&e)
	}
	copy(e.b, snapshotMagic)
	binary.BigEndian.PutUint32(e.b[8:], snapshotVersion)
	binary.BigEndian.PutUint64(e.b[12:], uint64(t.zxid))
	binary.BigEndian.PutUint32(e.b[20:], snapshotSum(e.b))
	return e.b
}

func snapshotSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:20], castagnoli), castagnoli, b[snapshotHeaderSize:])
}

// decodeSnapshot returns a tree whose data is its own, not b's.
func decodeSnapshot(b []byte) (*tree, error) {
	if len(b) < snapshotHeaderSize || string(b[:8]) != snapshotMagic {
		return nil, errors.New("this is not a snapshot")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != snapshotVersion {
		return nil, fmt.Errorf("snapshot version %d: this program reads %d", v, snapshotVersion)
	}
	if binary.BigEndian.Uint32(b[20:]) != snapshotSum(b) {
		return nil, errors.New("the checksum does not match")
	}
	t := &tree{
		zxid:       int64(binary.BigEndian.Uint64(b[12:])),
		nodes:      make(map[string]*node),
		sessions:   make(map[int64]*lease),
		ephemerals: make(map[int64]map[string]struct{}),
		reapable:   make(map[string]struct{}),
	}
	d := decoder{b: b[snapshotHeaderSize:]}
	for range d.count(16) {
		id := d.int64()
		t.sessions[id] = &lease{timeoutMs: d.int32(), password: cloneBytes(d.bytes())}
	}
	for range d.count(80) {
		path := d.text()
		n := &node{data: cloneBytes(d.bytes()), acl: d.acl()}
		n.decodeMeta(&d)
		t.nodes[path] = n
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, t.linkAll()
}

// cloneBytes copies b, so that the packet or file it is a view of can go. It keeps empty apart from nil.
func cloneBytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// linkAll makes the tree out of its nodes.
func (t *tree) linkAll() error {
	if t.nodes["/"] == nil {
		return errors.New("there is no root")
	}
	for path, n := range t.nodes {
		parent, _, ok := splitPath(path)
		switch {
		case path == "/":
			t.plant(n)
			continue
		case !ok || t.nodes[parent] == nil:
			return fmt.Errorf("node %q has no parent", path)
		case n.owner != 0 && t.sessions[n.owner] == nil:
			return fmt.Errorf("node %q belongs to session 0x%x, which is not open", path, n.owner)
		}
		t.link(path, n)
	}
	return nil
}

func (m *meta) encodeMeta(e *encoder) {
	for _, v := range []int64{m.created, m.modified, m.childrenModified, m.createdMs, m.modifiedMs} {
		e.int64(v)
	}
	for _, v := range []int32{m.version, m.aclVersion, m.creations} {
		e.int32(v)
	}
	e.int64(m.owner)
	e.int64(m.ttl)
}

func (m *meta) decodeMeta(d *decoder) {
	for _, v := range []*int64{&m.created, &m.modified, &m.childrenModified, &m.createdMs, &m.modifiedMs} {
		*v = d.int64()
	}
	for _, v := range []*int32{&m.version, &m.aclVersion, &m.creations} {
		*v = d.int32()
	}
	m.owner = d.int64()
	m.ttl = d.int64()
}
