package embedded

import (
	"fmt"
)

// changeKind says what a change does. The values are in the log: append only.
type changeKind int32

const (
	changeCreate       changeKind = 1
	changeDelete       changeKind = 2
	changeData         changeKind = 3
	changeACL          changeKind = 4
	changeOpenSession  changeKind = 5
	changeCloseSession changeKind = 6
)

// change is one step of a transaction with everything decided: the sequence number is in the path
// and the ACL is settled, so that applying it needs no clock, no connection and no check.
type change struct {
	kind      changeKind
	path      string
	data      []byte // of the node; of changeOpenSession the password
	acl       []aclEntry
	session   int64 // create: the owner of an ephemeral node, else 0
	ttl       int64 // create: as in meta
	timeoutMs int32 // openSession
}

// txn is what happens under one zxid: all of its changes or none. Nodes that go with a session go
// by changes of their own, before the session's.
type txn struct {
	zxid    int64
	timeMs  int64
	changes []change
	applied []applied // one for each change, while it is under way; not kept
}

// applied is what is remembered of a change until its transaction ends.
type applied struct {
	undo func()
	// Who may read a node may hear of it; these are the ACLs as they were at the change.
	acl, parentACL []aclEntry
}

// encode appends the transaction as it stands in the log.
//
//	int64 zxid | int64 time ms | int32 changes | each: int32 kind, then by kind:
//	  create        text path | bytes data | acl | int64 session | int64 ttl
//	  delete        text path
//	  data          text path | bytes data
//	  acl           text path | acl
//	  openSession   int64 session | int32 timeout ms | bytes password
//	  closeSession  int64 session
func (t *txn) encode(e *encoder) {
	e.int64(t.zxid)
	e.int64(t.timeMs)
	e.int32(int32(len(t.changes)))
	for i := range t.changes {
		t.changes[i].encode(e)
	}
}

func (c *change) encode(e *encoder) {
	e.int32(int32(c.kind))
	switch c.kind {
	case changeCreate:
		e.text(c.path)
		e.bytes(c.data)
		e.acl(c.acl)
		e.int64(c.session)
		e.int64(c.ttl)
	case changeDelete:
		e.text(c.path)
	case changeData:
		e.text(c.path)
		e.bytes(c.data)
	case changeACL:
		e.text(c.path)
		e.acl(c.acl)
	case changeOpenSession:
		e.int64(c.session)
		e.int32(c.timeoutMs)
		e.bytes(c.data)
	case changeCloseSession:
		e.int64(c.session)
	}
}

func decodeTxn(d *decoder) (txn, error) {
	t := txn{zxid: d.int64(), timeMs: d.int64()}
	n := d.count(8) // the shortest, delete, is a kind and an empty path
	for range n {
		c, err := decodeChange(d)
		if err != nil {
			return txn{}, err
		}
		t.changes = append(t.changes, c)
	}
	return t, d.err
}

func decodeChange(d *decoder) (change, error) {
	c := change{kind: changeKind(d.int32())}
	switch c.kind {
	case changeCreate:
		c.path, c.data, c.acl, c.session, c.ttl = d.text(), d.bytes(), d.acl(), d.int64(), d.int64()
	case changeDelete:
		c.path = d.text()
	case changeData:
		c.path, c.data = d.text(), d.bytes()
	case changeACL:
		c.path, c.acl = d.text(), d.acl()
	case changeOpenSession:
		c.session, c.timeoutMs, c.data = d.int64(), d.int32(), d.bytes()
	case changeCloseSession:
		c.session = d.int64()
	default:
		if d.err == nil {
			return change{}, fmt.Errorf("change of unknown kind %d", c.kind)
		}
	}
	return c, d.err
}

// replay applies the whole transaction to the tree in recovery.
func (t *tree) replay(x *txn) error {
	if x.zxid != t.zxid+1 {
		return fmt.Errorf("transaction %d follows %d: one is missing", x.zxid, t.zxid)
	}
	for i := range x.changes {
		if _, err := t.apply(&x.changes[i], x.zxid, x.timeMs); err != nil {
			return fmt.Errorf("transaction %d: %w", x.zxid, err)
		}
	}
	t.zxid = x.zxid
	return nil
}
