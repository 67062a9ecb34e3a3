package embedded

import "fmt"

// opcode says what a request asks for. The numbers are ZooKeeper's.
type opcode int32

const (
	opCreate          opcode = 1
	opDelete          opcode = 2
	opExists          opcode = 3
	opGetData         opcode = 4
	opSetData         opcode = 5
	opGetACL          opcode = 6
	opSetACL          opcode = 7
	opGetChildren     opcode = 8
	opSync            opcode = 9
	opPing            opcode = 11
	opGetChildren2    opcode = 12
	opCheck           opcode = 13
	opMulti           opcode = 14
	opCreate2         opcode = 15
	opReconfig        opcode = 16
	opCheckWatches    opcode = 17
	opRemoveWatches   opcode = 18
	opCreateContainer opcode = 19
	opCreateTTL       opcode = 21
	opMultiRead       opcode = 22
	opAuth            opcode = 100
	opSetWatches      opcode = 101
	opGetEphemerals   opcode = 103
	opCountChildren   opcode = 104 // getAllChildrenNumber
	opSetWatches2     opcode = 105
	opAddWatch        opcode = 106
	opWhoAmI          opcode = 107
	opCloseSession    opcode = -11
	opError           opcode = -1 // only in results of multi
)

// request is a decoded packet. Which fields mean something depends on op. The byte slices are views
// into the packet, which belongs to the request.
type request struct {
	xid     int32
	op      opcode
	path    string
	watch   bool
	data    []byte // create, setData; the credentials of auth
	acl     []aclEntry
	flags   int32 // create: what kind of node
	ttl     int64 // createTTL, ms
	version int32
	mode    int32  // checkWatches, removeWatches: which; addWatch: what kind
	scheme  string // auth
	ops     []request
	watches *watchLists
}

// watchLists is what a reconnected client had been watching when it last heard from us.
type watchLists struct {
	zxid       int64
	data       []string
	exist      []string
	child      []string
	persistent []string
	recursive  []string
}

// connectRequest is the first packet of a connection.
//
//	int32 version | int64 last zxid seen | int32 timeout ms | int64 session | bytes password | [bool read-only]
type connectRequest struct {
	lastZxid  int64
	timeoutMs int32
	session   int64
	password  []byte
	// readOnlyByte is true for clients since 3.4, which send one byte more and expect it in the answer.
	readOnlyByte bool
}

func decodeConnect(packet []byte) (connectRequest, error) {
	d := decoder{b: packet}
	if v := d.int32(); v != 0 {
		return connectRequest{}, fmt.Errorf("protocol version %d: only 0 exists", v)
	}
	c := connectRequest{
		lastZxid: d.int64(), timeoutMs: d.int32(), session: d.int64(), password: d.bytes(),
	}
	c.readOnlyByte = d.err == nil && len(d.b) > 0
	return c, d.err
}

// decodeRequest reads a packet that is not the first. An opcode that this server does not know is
// no error: it is answered Unimplemented. Bytes after the known fields are ignored, since newer
// clients append fields.
func decodeRequest(packet []byte) (request, error) {
	d := decoder{b: packet}
	r := request{xid: d.int32(), op: opcode(d.int32())}
	switch r.op {
	case opMulti, opMultiRead:
		r.decodeMulti(&d)
	case opSetWatches, opSetWatches2:
		r.decodeWatches(&d)
	default:
		r.decodeBody(&d)
	}
	if d.err != nil {
		return request{}, fmt.Errorf("opcode %d: %w", r.op, d.err)
	}
	return r, nil
}

// decodeBody reads the fields of one operation, alone or inside a multi.
func (r *request) decodeBody(d *decoder) {
	switch r.op {
	case opCreate, opCreate2, opCreateContainer:
		r.path, r.data, r.acl, r.flags = d.text(), d.bytes(), d.acl(), d.int32()
	case opCreateTTL:
		r.path, r.data, r.acl, r.flags, r.ttl = d.text(), d.bytes(), d.acl(), d.int32(), d.int64()
	case opDelete, opCheck:
		r.path, r.version = d.text(), d.int32()
	case opSetData:
		r.path, r.data, r.version = d.text(), d.bytes(), d.int32()
	case opSetACL:
		r.path, r.acl, r.version = d.text(), d.acl(), d.int32()
	case opExists, opGetData, opGetChildren, opGetChildren2:
		r.path, r.watch = d.text(), d.bool()
	case opGetACL, opSync, opGetEphemerals, opCountChildren:
		r.path = d.text()
	case opCheckWatches, opRemoveWatches, opAddWatch:
		r.path, r.mode = d.text(), d.int32()
	case opAuth:
		d.int32() // the type, always 0
		r.scheme, r.data = d.text(), d.bytes()
	}
}

// decodeMulti reads a multi: before each operation a header, and a last header that says it is.
//
//	int32 opcode | bool last | int32 error (unused)
func (r *request) decodeMulti(d *decoder) {
	for {
		op, last := opcode(d.int32()), d.bool()
		d.int32()
		if last || d.err != nil {
			return
		}
		sub := request{op: op}
		switch {
		case r.op == opMulti && writes(op), r.op == opMultiRead && (op == opGetData || op == opGetChildren):
			sub.decodeBody(d)
		default:
			d.err = fmt.Errorf("opcode %d inside: not allowed there", op)
			return
		}
		r.ops = append(r.ops, sub)
	}
}

// writes tells whether op may stand in a multi.
func writes(op opcode) bool {
	switch op {
	case opCreate, opCreate2, opCreateContainer, opCreateTTL, opDelete, opSetData, opCheck:
		return true
	}
	return false
}

func (r *request) decodeWatches(d *decoder) {
	w := &watchLists{zxid: d.int64(), data: d.texts(), exist: d.texts(), child: d.texts()}
	if r.op == opSetWatches2 {
		w.persistent, w.recursive = d.texts(), d.texts()
	}
	r.watches = w
}
