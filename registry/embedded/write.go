package embedded

import "fmt"

// The kinds of node that a create may ask for.
const (
	flagPersistent           = 0
	flagEphemeral            = 1
	flagPersistentSequential = 2
	flagEphemeralSequential  = 3
	flagContainer            = 4
	flagTTL                  = 5
	flagTTLSequential        = 6
)

// result is what an operation that succeeded answers.
type result struct {
	op   opcode
	path string // create: as it became
	stat []byte // create2 and its kin, setData, setACL: encoded right after the change
}

// write answers a request that changes the tree.
func (o *owner) write(c *conn, r *request) {
	t := o.begin()
	res, refused := o.execute(c, t, r)
	if refused != codeOK {
		o.reply(c, r.xid, refused, nil)
		return
	}
	o.end(t)
	o.reply(c, r.xid, codeOK, res.encode)
}

// encode appends the body of the operation's answer.
func (r *result) encode(e *encoder) {
	if r.path != "" {
		e.text(r.path)
	}
	e.b = append(e.b, r.stat...)
}

// execute checks one operation against the tree as the transaction has left it so far, and applies
// it. The order of the checks is ZooKeeper's: clients see the first that fails.
func (o *owner) execute(c *conn, t *txn, r *request) (result, code) {
	switch r.op {
	case opCreate, opCreate2, opCreateContainer, opCreateTTL:
		return o.create(c, t, r)
	case opDelete:
		return o.delete(c, t, r)
	case opSetData:
		return o.setData(c, t, r)
	case opSetACL:
		return o.setACL(c, t, r)
	case opCheck:
		_, refused := o.checkNode(c, r, permRead)
		return result{op: opCheck}, refused
	}
	return result{}, codeUnimplemented
}

func (o *owner) create(c *conn, t *txn, r *request) (result, code) {
	ch := change{kind: changeCreate, path: r.path, data: r.data}
	sequential, ok := ch.setKind(c, r)
	parentPath, _, split := splitPath(r.path)
	if r.path == "/" { // it is there; or, sequential, the name is only the number
		parentPath, split = "/", true
	}
	if !ok || !split {
		return result{}, codeBadArguments
	}
	if ch.acl, ok = settleACL(r.acl, c.ids); !ok {
		return result{}, codeInvalidACL
	}
	parent := o.tree.nodes[parentPath]
	if parent == nil {
		return result{}, codeNoNode
	}
	if !allowed(parent.acl, c.ids, permCreate) {
		return result{}, codeNoAuth
	}
	if sequential {
		ch.path += fmt.Sprintf("%010d", parent.creations)
	}
	switch {
	case !validPath(ch.path):
		return result{}, codeBadArguments
	case o.tree.nodes[ch.path] != nil:
		return result{}, codeNodeExists
	case parent.owner != 0:
		return result{}, codeNoChildrenForEphemerals
	case !o.room(nodeOverhead + int64(len(ch.path)+len(ch.data)) + aclCost(ch.acl)):
		return result{}, codeQuotaExceeded
	}
	o.do(t, ch)
	res := result{op: r.op, path: ch.path}
	if r.op != opCreate {
		res.op = opCreate2
		res.stat = o.stat(ch.path)
	}
	return res, codeOK
}

// setKind takes from the request's flags what kind of node the change makes.
func (ch *change) setKind(c *conn, r *request) (sequential, ok bool) {
	switch r.flags {
	case flagPersistent:
	case flagPersistentSequential:
		sequential = true
	case flagEphemeral, flagEphemeralSequential:
		ch.session = c.session.id
		sequential = r.flags == flagEphemeralSequential
	case flagContainer:
		ch.ttl = container
	case flagTTL, flagTTLSequential:
		ch.ttl = r.ttl
		sequential = r.flags == flagTTLSequential
		return sequential, r.op == opCreateTTL && r.ttl > 0
	default:
		return false, false
	}
	return sequential, r.op != opCreateTTL
}

func (o *owner) delete(c *conn, t *txn, r *request) (result, code) {
	parentPath, _, ok := splitPath(r.path)
	if !ok || reservedPath(r.path) {
		return result{}, codeBadArguments
	}
	parent, n := o.tree.nodes[parentPath], o.tree.nodes[r.path]
	switch {
	case parent == nil:
		return result{}, codeNoNode
	case !allowed(parent.acl, c.ids, permDelete):
		return result{}, codeNoAuth
	case n == nil:
		return result{}, codeNoNode
	case !r.matches(n.version):
		return result{}, codeBadVersion
	case len(n.children) > 0:
		return result{}, codeNotEmpty
	}
	o.do(t, change{kind: changeDelete, path: r.path})
	return result{op: opDelete}, codeOK
}

func (o *owner) setData(c *conn, t *txn, r *request) (result, code) {
	n, refused := o.checkNode(c, r, permWrite)
	if refused != codeOK {
		return result{}, refused
	}
	if !o.room(int64(len(r.data) - len(n.data))) {
		return result{}, codeQuotaExceeded
	}
	o.do(t, change{kind: changeData, path: r.path, data: r.data})
	return result{op: opSetData, stat: o.stat(r.path)}, codeOK
}

func (o *owner) setACL(c *conn, t *txn, r *request) (result, code) {
	if !validPath(r.path) {
		return result{}, codeBadArguments
	}
	acl, ok := settleACL(r.acl, c.ids)
	n := o.tree.nodes[r.path]
	switch {
	case !ok:
		return result{}, codeInvalidACL
	case n == nil:
		return result{}, codeNoNode
	case !allowed(n.acl, c.ids, permAdmin):
		return result{}, codeNoAuth
	case !r.matches(n.aclVersion):
		return result{}, codeBadVersion
	case !o.room(aclCost(acl) - aclCost(n.acl)):
		return result{}, codeQuotaExceeded
	}
	o.do(t, change{kind: changeACL, path: r.path, acl: acl})
	return result{op: opSetACL, stat: o.stat(r.path)}, codeOK
}

// checkNode finds the node of a request that names a version.
func (o *owner) checkNode(c *conn, r *request, perm int32) (*node, code) {
	if !validPath(r.path) {
		return nil, codeBadArguments
	}
	n := o.tree.nodes[r.path]
	switch {
	case n == nil:
		return nil, codeNoNode
	case !allowed(n.acl, c.ids, perm):
		return nil, codeNoAuth
	case !r.matches(n.version):
		return nil, codeBadVersion
	}
	return n, codeOK
}

// matches tells whether the request may change what has this version; -1 asks for none.
func (r *request) matches(version int32) bool { return r.version == -1 || r.version == version }

// room tells whether the tree may grow by so many bytes. It may always shrink.
func (o *owner) room(more int64) bool {
	return more <= 0 || o.tree.bytes+more <= o.options.MaxTreeBytes
}

func (o *owner) stat(path string) []byte {
	var e encoder
	o.tree.nodes[path].encodeStat(&e)
	return e.b
}
