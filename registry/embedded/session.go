package embedded

import (
	"container/heap"
	"crypto/rand"
	"crypto/subtle"
	"time"
)

// session is a client's claim to its ephemeral nodes. It outlives connections, and restarts when
// there is a Dir: then its time starts again. It belongs to the owner goroutine.
type session struct {
	id       int64
	timeout  time.Duration
	deadline time.Time // the last packet plus timeout
	conn     *conn     // nil while there is none
	// queued is the deadline by which the session is in the heap. It lags behind deadline: a packet
	// moves only deadline, and the heap catches up when queued has come.
	queued time.Time
	index  int // in the heap
}

func (s *session) touch(at time.Time) {
	if d := at.Add(s.timeout); d.After(s.deadline) {
		s.deadline = d
	}
}

// sessionTable finds sessions by id and by who expires first.
type sessionTable struct {
	byID   map[int64]*session
	heap   sessionHeap
	lastID int64
}

// restore gives every session found in the tree its full timeout, measured from now.
func (t *sessionTable) restore(from *tree, now time.Time) {
	t.byID = make(map[int64]*session, len(from.sessions))
	// As in ZooKeeper, ids grow with the time of the start, so that a client of an earlier
	// memory-only run never meets its id again.
	t.lastID = now.UnixMilli() << 16 & (1<<56 - 1)
	for id, l := range from.sessions {
		t.lastID = max(t.lastID, id)
		t.add(id, time.Duration(l.timeoutMs)*time.Millisecond, now)
	}
}

func (t *sessionTable) add(id int64, timeout time.Duration, now time.Time) *session {
	s := &session{id: id, timeout: timeout, deadline: now.Add(timeout)}
	s.queued = s.deadline
	t.byID[id] = s
	heap.Push(&t.heap, s)
	return s
}

// next returns when to look for expired sessions.
func (t *sessionTable) next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].queued, true
}

// expired returns a session whose time is over, or nil.
func (t *sessionTable) expired(now time.Time) *session {
	for len(t.heap) > 0 {
		s := t.heap[0]
		if s.queued.After(now) {
			return nil
		}
		if s.deadline.After(now) {
			s.queued = s.deadline
			heap.Fix(&t.heap, 0)
			continue
		}
		return s
	}
	return nil
}

func (t *sessionTable) remove(id int64) {
	if s := t.byID[id]; s != nil {
		delete(t.byID, id)
		heap.Remove(&t.heap, s.index)
	}
}

// grant moves every deadline. The heap's order stays as it is.
func (t *sessionTable) grant(d time.Duration) {
	for _, s := range t.heap {
		s.deadline = s.deadline.Add(d)
		s.queued = s.queued.Add(d)
	}
}

type sessionHeap []*session

func (h sessionHeap) Len() int           { return len(h) }
func (h sessionHeap) Less(i, j int) bool { return h[i].queued.Before(h[j].queued) }
func (h sessionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *sessionHeap) Push(x any) {
	s := x.(*session)
	s.index = len(*h)
	*h = append(*h, s)
}

func (h *sessionHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}

// connect answers a connection's first packet: a new session, the one it had, or "expired".
//
// A client that has seen a zxid beyond ours knows data that we do not have: memory-only after a
// restart, or an older copy of Dir. ZooKeeper closes the connection, since another server of the
// ensemble may be further; here there is none, and the client would try for ever (go-zookeeper issue
// 36), so its session counts as expired and it starts again with what there is.
func (o *owner) connect(c *conn, r *connectRequest, at time.Time) {
	asked := time.Duration(r.timeoutMs) * time.Millisecond
	timeout := min(max(asked, o.options.MinSessionTimeout), o.options.MaxSessionTimeout)
	if r.session == 0 {
		o.openSession(c, r, timeout, at)
		return
	}
	s, l := o.sessions.byID[r.session], o.tree.sessions[r.session]
	if s == nil || l == nil || subtle.ConstantTimeCompare(l.password, r.password) != 1 || r.lastZxid > o.tree.zxid {
		o.log.Debug("session refused: expired, unknown or of other data", "session", r.session, "remote", c.remote)
		o.answerConnect(c, r, 0, 0, make([]byte, passwordSize))
		c.finish()
		return
	}
	if old := s.conn; old != nil {
		// The client has moved. What the old connection still sends is ignored; its watches go, since
		// the client sets them again here.
		o.detach(old)
		old.close()
	}
	s.timeout = timeout
	s.touch(at)
	o.attach(c, s)
	o.answerConnect(c, r, timeout, s.id, l.password)
}

const passwordSize = 16

func (o *owner) openSession(c *conn, r *connectRequest, timeout time.Duration, at time.Time) {
	if len(o.sessions.byID) >= o.options.MaxSessions {
		o.stats.refused.Add(1)
		o.stats.warn(o.log, "session refused: as many as max sessions", "max_sessions", o.options.MaxSessions, "remote", c.remote)
		c.finish()
		return
	}
	password := make([]byte, passwordSize)
	rand.Read(password) // it never fails: the runtime ends the process instead
	o.sessions.lastID++
	id := o.sessions.lastID
	t := o.begin()
	o.do(t, change{
		kind: changeOpenSession, session: id, data: password, timeoutMs: int32(timeout.Milliseconds()),
	})
	o.end(t)
	o.attach(c, o.sessions.add(id, timeout, at))
	o.answerConnect(c, r, timeout, id, password)
}

// answerConnect queues the answer to a connectRequest.
//
//	int32 length | int32 version | int32 timeout ms | int64 session | bytes password | [bool read-only]
func (o *owner) answerConnect(c *conn, r *connectRequest, timeout time.Duration, id int64, password []byte) {
	e := o.queue(c)
	at := e.open()
	e.int32(0)
	e.int32(int32(timeout.Milliseconds()))
	e.int64(id)
	e.bytes(password)
	if r.readOnlyByte {
		e.bool(false)
	}
	e.shut(at)
	o.stats.sent.Add(1)
}

func (o *owner) attach(c *conn, s *session) {
	c.session = s
	s.conn = c
}

// detach parts the connection from its session, which goes on until its deadline, and ends its watches.
func (o *owner) detach(c *conn) {
	o.watches.drop(c)
	if c.session == nil {
		return
	}
	c.session.conn = nil
	c.session = nil
}

// endSession closes the session and deletes its ephemeral nodes, in one transaction.
func (o *owner) endSession(id int64) {
	t := o.begin()
	for _, path := range o.tree.ownedBy(id) {
		o.do(t, change{kind: changeDelete, path: path})
	}
	o.do(t, change{kind: changeCloseSession, session: id})
	o.end(t)
	o.sessions.remove(id)
}

// expire ends the sessions whose time is over. due is when the timer should have rung. When it rang
// much later, we were not listening: everybody gets that time, and a little more, in which the
// packets that wait in sockets are read.
func (o *owner) expire(due time.Time) {
	now := time.Now()
	if late := now.Sub(due); late > stall {
		o.log.Warn("this process was stopped or starved, sessions get more time", "late", late)
		o.sessions.grant(late + stall)
	}
	for n := 0; n < maxBatch; n++ {
		s := o.sessions.expired(now)
		if s == nil {
			return
		}
		o.log.Info("session expired", "session", s.id, "timeout", s.timeout, "nodes", len(o.tree.ephemerals[s.id]))
		o.stats.expired.Add(1)
		o.endSession(s.id)
		if c := s.conn; c != nil {
			o.detach(c)
			c.close()
		}
	}
}

// reap deletes the containers that became empty and the nodes whose TTL is over.
func (o *owner) reap() {
	now := time.Now().UnixMilli()
	for path := range o.tree.reapable {
		n := o.tree.nodes[path]
		over := n.ttl == container && n.creations > 0 || n.ttl > 0 && now-n.modifiedMs > n.ttl
		if len(n.children) > 0 || !over {
			continue
		}
		t := o.begin()
		o.do(t, change{kind: changeDelete, path: path})
		o.end(t)
	}
}
