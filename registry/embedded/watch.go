package embedded

// event says what happened to a node. The numbers are ZooKeeper's.
type event int32

const (
	eventCreated         event = 1
	eventDeleted         event = 2
	eventDataChanged     event = 3
	eventChildrenChanged event = 4
)

// aspect is what of a node is watched. A watch set by exists and one set by getData are the same;
// the first may be on a node that is not there.
type aspect uint8

const (
	aspectData     aspect = iota // created, data changed, deleted
	aspectChildren               // children changed, deleted
)

// watchMode is a set of bits, since a client may watch one node in several ways.
type watchMode uint8

const (
	watchOnce       watchMode = 1 << iota // gone when it fired
	watchPersistent                       // stays
	watchRecursive                        // stays, and hears of the nodes below; kept under aspectData only
	watchAny        = watchOnce | watchPersistent | watchRecursive
)

type watchKey struct {
	path   string
	aspect aspect
}

// watches knows which connections watch what. It belongs to the owner goroutine. A connection's
// watches end with it: a client that comes back sets them again (setWatches).
type watches struct {
	byKey     map[watchKey]map[*conn]watchMode
	recursive int // entries with watchRecursive; while 0, nobody looks at ancestors
}

func newWatches() *watches {
	return &watches{byKey: make(map[watchKey]map[*conn]watchMode)}
}

// add sets a watch; the caller has checked the bound on c.watched.
func (w *watches) add(c *conn, path string, a aspect, mode watchMode) {
	k := watchKey{path, a}
	who := w.byKey[k]
	if who == nil {
		who = make(map[*conn]watchMode, 1)
		w.byKey[k] = who
	}
	if mode&watchRecursive&^who[c] != 0 {
		w.recursive++
	}
	who[c] |= mode
	c.watched[k] = struct{}{}
}

// has tells whether the connection has a watch of one of the modes.
func (w *watches) has(c *conn, path string, a aspect, mode watchMode) bool {
	return w.byKey[watchKey{path, a}][c]&mode != 0
}

// remove takes the modes away and tells whether there were any.
func (w *watches) remove(c *conn, k watchKey, mode watchMode) bool {
	who := w.byKey[k]
	had := who[c] & mode
	if had == 0 {
		return false
	}
	if had&watchRecursive != 0 {
		w.recursive--
	}
	if left := who[c] &^ mode; left != 0 {
		who[c] = left
		return true
	}
	delete(who, c)
	delete(c.watched, k)
	if len(who) == 0 {
		delete(w.byKey, k)
	}
	return true
}

// drop removes everything the connection watches.
func (w *watches) drop(c *conn) {
	for k := range c.watched {
		w.remove(c, k, watchAny)
	}
}

// fire finds who is to hear that the aspect of the path changed, adds them to told so that each hears once, and
// ends the watches that fire once. Recursive watchers hear everything but children changed, which
// they would get for every node that they already hear of.
func (w *watches) fire(path string, a aspect, told map[*conn]struct{}) {
	k := watchKey{path, a}
	for c, mode := range w.byKey[k] {
		if mode&(watchOnce|watchPersistent) != 0 {
			told[c] = struct{}{}
			w.remove(c, k, watchOnce)
		}
	}
	if w.recursive == 0 || a != aspectData {
		return
	}
	for up, ok := path, true; ok; up, _, ok = splitPath(up) {
		for c, mode := range w.byKey[watchKey{up, aspectData}] {
			if mode&watchRecursive != 0 {
				told[c] = struct{}{}
			}
		}
	}
}

// notify queues the events of one change: a created node is told to those who watch it and, as
// children changed, to those who watch the parent's children; a deleted one likewise, and to those
// who watch its own children; changed data only to those who watch the node.
func (o *owner) notify(ch *change, done *applied) {
	switch ch.kind {
	case changeCreate:
		o.tell(ch.path, eventCreated, done.acl, aspectData)
	case changeDelete:
		o.tell(ch.path, eventDeleted, done.acl, aspectData, aspectChildren)
	case changeData:
		o.tell(ch.path, eventDataChanged, done.acl, aspectData)
		return
	default:
		return
	}
	parent, _, _ := splitPath(ch.path)
	o.tell(parent, eventChildrenChanged, done.parentACL, aspectChildren)
}

// tell queues the event on the connections that watch one of the aspects. One that may not read the
// node does not hear of it, and its watch is spent all the same, as in ZooKeeper since 3.8.4: a
// recursive watch would otherwise show the names of hidden nodes.
func (o *owner) tell(path string, ev event, acl []aclEntry, aspects ...aspect) {
	clear(o.told)
	for _, a := range aspects {
		o.watches.fire(path, a, o.told)
	}
	for c := range o.told {
		if allowed(acl, c.ids, permRead) {
			o.event(c, path, ev)
		}
	}
}

// event queues one event. Its place before the reply of the change that caused it, and before every
// later reply, is what lets clients trust their caches.
func (o *owner) event(c *conn, path string, ev event) {
	const xid, zxid, syncConnected = -1, -1, 3
	e := o.queue(c)
	at := e.open()
	e.int32(xid)
	e.int64(zxid)
	e.int32(int32(codeOK))
	e.int32(int32(ev))
	e.int32(syncConnected)
	e.text(path)
	e.shut(at)
	o.stats.sent.Add(1)
}
