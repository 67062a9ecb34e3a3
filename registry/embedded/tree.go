package embedded

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tree is all state that outlives a connection: the nodes and the sessions that own some of them.
// It is a pure function of the changes applied to it (change.go), live and in recovery alike.
// It belongs to one goroutine.
type tree struct {
	zxid       int64 // of the last transaction
	nodes      map[string]*node
	sessions   map[int64]*lease
	ephemerals map[int64]map[string]struct{} // by session
	reapable   map[string]struct{}           // containers and nodes with a TTL
	bytes      int64                         // as Options.MaxTreeBytes counts
}

// lease is the part of a session that is kept.
type lease struct {
	timeoutMs int32
	password  []byte
}

type node struct {
	data     []byte
	acl      []aclEntry
	children map[string]struct{}
	meta
}

// meta are a node's numbers. It is copied whole to undo a change.
type meta struct {
	created, modified, childrenModified int64 // zxids
	createdMs, modifiedMs               int64
	version, aclVersion                 int32
	// creations counts the children ever created. It numbers sequential nodes. Clients see
	// creations and deletions together, which is twice this less the children there are.
	creations int32
	owner     int64 // the session of an ephemeral node, else 0
	ttl       int64 // ms; container for a container, 0 for a lasting node
}

// container as a ttl marks a node that goes when its last child has gone.
const container = -1

// nodeOverhead is what a node is taken to cost beside its path, data and ACL, in bytes.
const nodeOverhead = 256

func newTree() *tree {
	t := &tree{
		nodes:      make(map[string]*node),
		sessions:   make(map[int64]*lease),
		ephemerals: make(map[int64]map[string]struct{}),
		reapable:   make(map[string]struct{}),
	}
	// As in ZooKeeper, the nodes that are always there do not count as created.
	t.plant(&node{data: []byte{}, acl: openACL()})
	for _, path := range []string{"/zookeeper", "/zookeeper/quota", "/zookeeper/config"} {
		t.link(path, &node{data: []byte{}, acl: openACL()})
	}
	t.nodes["/zookeeper/config"].acl = []aclEntry{{permRead, identity{"world", "anyone"}}}
	return t
}

// plant puts the root into the maps.
func (t *tree) plant(root *node) {
	t.nodes["/"] = root
	t.bytes += cost("/", root)
}

// link puts any other node into the maps. Its parent is there. unlink is the reverse.
func (t *tree) link(path string, n *node) {
	parentPath, name, _ := splitPath(path)
	parent := t.nodes[parentPath]
	if parent.children == nil {
		parent.children = make(map[string]struct{})
	}
	parent.children[name] = struct{}{}
	t.nodes[path] = n
	t.bytes += cost(path, n)
	if n.owner != 0 {
		if t.ephemerals[n.owner] == nil {
			t.ephemerals[n.owner] = make(map[string]struct{})
		}
		t.ephemerals[n.owner][path] = struct{}{}
	}
	if n.ttl != 0 {
		t.reapable[path] = struct{}{}
	}
}

func (t *tree) unlink(path string, n *node) {
	parentPath, name, _ := splitPath(path)
	parent := t.nodes[parentPath]
	delete(parent.children, name)
	if len(parent.children) == 0 {
		parent.children = nil
	}
	delete(t.nodes, path)
	t.bytes -= cost(path, n)
	delete(t.reapable, path)
	if n.owner != 0 {
		delete(t.ephemerals[n.owner], path)
		if len(t.ephemerals[n.owner]) == 0 {
			delete(t.ephemerals, n.owner)
		}
	}
}

func cost(path string, n *node) int64 {
	return nodeOverhead + int64(len(path)+len(n.data)) + aclCost(n.acl)
}

func aclCost(acl []aclEntry) int64 {
	var sum int
	for _, a := range acl {
		sum += 40 + len(a.id.scheme) + len(a.id.name)
	}
	return int64(sum)
}

// childNames returns the names of n's children, sorted, which clients do not need but people like.
func (n *node) childNames() []string {
	return slices.Sorted(maps.Keys(n.children))
}

// ownedBy returns the paths of the session's ephemeral nodes, sorted.
func (t *tree) ownedBy(session int64) []string {
	return slices.Sorted(maps.Keys(t.ephemerals[session]))
}

// countBelow returns how many nodes there are under path.
func (t *tree) countBelow(path string) int {
	if path == "/" {
		return len(t.nodes) - 1
	}
	count := 0
	for p := range t.nodes {
		if len(p) > len(path) && p[len(path)] == '/' && strings.HasPrefix(p, path) {
			count++
		}
	}
	return count
}

// encodeStat appends the node's numbers as clients see them.
//
//	int64 created | int64 modified | int64 created ms | int64 modified ms | int32 version |
//	int32 children version | int32 ACL version | int64 owner | int32 data length |
//	int32 children | int64 children modified
func (n *node) encodeStat(e *encoder) {
	e.int64(n.created)
	e.int64(n.modified)
	e.int64(n.createdMs)
	e.int64(n.modifiedMs)
	e.int32(n.version)
	e.int32(n.creations*2 - int32(len(n.children)))
	e.int32(n.aclVersion)
	e.int64(n.owner)
	e.int32(int32(len(n.data)))
	e.int32(int32(len(n.children)))
	e.int64(n.childrenModified)
}

// apply makes one change, as part of the transaction zxid at nowMs, and returns how to take it back.
// What is applied has been checked by the writer; an error means that it does not fit this tree, in
// recovery that the log is damaged.
func (t *tree) apply(ch *change, zxid, nowMs int64) (undo func(), err error) {
	switch ch.kind {
	case changeCreate:
		return t.create(ch, zxid, nowMs)
	case changeDelete:
		return t.remove(ch.path, zxid)
	case changeData, changeACL:
		return t.modify(ch, zxid, nowMs)
	case changeOpenSession:
		if _, exists := t.sessions[ch.session]; exists || ch.session == 0 {
			return nil, fmt.Errorf("session 0x%x is opened twice", ch.session)
		}
		t.sessions[ch.session] = &lease{timeoutMs: ch.timeoutMs, password: cloneBytes(ch.data)}
		return func() { delete(t.sessions, ch.session) }, nil
	case changeCloseSession:
		l, exists := t.sessions[ch.session]
		if !exists || len(t.ephemerals[ch.session]) > 0 {
			return nil, fmt.Errorf("session 0x%x is closed but not open, or owns nodes", ch.session)
		}
		delete(t.sessions, ch.session)
		return func() { t.sessions[ch.session] = l }, nil
	}
	return nil, fmt.Errorf("change of unknown kind %d", ch.kind)
}

func (t *tree) create(ch *change, zxid, nowMs int64) (func(), error) {
	parentPath, _, ok := splitPath(ch.path)
	parent := t.nodes[parentPath]
	if !ok || parent == nil || t.nodes[ch.path] != nil {
		return nil, fmt.Errorf("create %q: the parent is absent or the node is there", ch.path)
	}
	if ch.session != 0 && t.sessions[ch.session] == nil {
		return nil, fmt.Errorf("create %q: session 0x%x is not open", ch.path, ch.session)
	}
	n := &node{data: cloneBytes(ch.data), acl: ch.acl, meta: meta{
		created: zxid, modified: zxid, childrenModified: zxid, createdMs: nowMs, modifiedMs: nowMs,
		owner: ch.session, ttl: ch.ttl,
	}}
	before := parent.meta
	t.link(ch.path, n)
	parent.creations++
	parent.childrenModified = zxid
	return func() { t.unlink(ch.path, n); parent.meta = before }, nil
}

func (t *tree) remove(path string, zxid int64) (func(), error) {
	parentPath, _, ok := splitPath(path)
	n, parent := t.nodes[path], t.nodes[parentPath]
	if !ok || n == nil || parent == nil || len(n.children) > 0 {
		return nil, fmt.Errorf("delete %q: the node is absent or has children", path)
	}
	before := parent.meta
	t.unlink(path, n)
	parent.childrenModified = zxid
	return func() { t.link(path, n); parent.meta = before }, nil
}

func (t *tree) modify(ch *change, zxid, nowMs int64) (func(), error) {
	n := t.nodes[ch.path]
	if n == nil {
		return nil, fmt.Errorf("change %q: the node is absent", ch.path)
	}
	data, acl, before, bytes := n.data, n.acl, n.meta, t.bytes
	t.bytes -= cost(ch.path, n)
	if ch.kind == changeData {
		n.data = cloneBytes(ch.data)
		n.version = nextVersion(n.version)
		n.modified, n.modifiedMs = zxid, nowMs
	} else {
		n.acl = ch.acl
		n.aclVersion = nextVersion(n.aclVersion)
	}
	t.bytes += cost(ch.path, n)
	return func() { n.data, n.acl, n.meta, t.bytes = data, acl, before, bytes }, nil
}

// nextVersion passes over -1, which in a request means any version.
func nextVersion(v int32) int32 {
	if v == -2 {
		return 0
	}
	return v + 1
}
