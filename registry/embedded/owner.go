package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// owner is the goroutine that has all state: tree, sessions, watches and journal. Connections send
// it decoded requests and it queues bytes on connections; nothing else crosses.
//
// One owner rather than one mutex, for the sake of the disk: requests that arrive while a commit
// is syncing wait in the inbox and form the next batch, so that one fdatasync serves them all, and
// nothing of a batch, neither reply nor event nor read, leaves before what it has seen is durable.
// With a mutex each writer would either sync alone or need this same queue behind the lock.
//
// A batch goes: apply each request to the tree, appending its transaction to records and its reply
// to its connection's pending bytes; then commit: sync records, then hand pending to the writers.
// A failed sync ends the server with nothing answered, since what the disk holds is then unknown.
type owner struct {
	options  Options
	log      *slog.Logger
	tree     *tree
	watches  *watches
	journal  *journal // nil: memory only
	sessions sessionTable
	inbox    chan inbound // bound: inboxSize
	stats    *counters

	// of the batch under way
	records encoder            // transactions to make durable
	txns    int                // how many
	queued  int                // bytes of replies
	dirty   []*conn            // with pending bytes or answered requests
	told    map[*conn]struct{} // scratch of tell
	started time.Time          // of the batch
}

const (
	inboxSize     = 1024
	maxBatch      = 256     // requests in one commit
	maxBatchBytes = 4 << 20 // records and replies in one commit, passed by at most one request
	// stall is how long the owner may be away (a slow sync, a stopped process) before it grants every
	// session that time: clients' pings may be waiting unread.
	stall = 500 * time.Millisecond
)

// inbound is what a connection hands to the owner. Exactly one of connect and request is set, or gone.
type inbound struct {
	conn    *conn
	at      time.Time
	connect *connectRequest
	request *request
	gone    bool // the last: nothing follows, the reader has ended
}

func newOwner(o Options, t *tree, j *journal, stats *counters, log *slog.Logger) *owner {
	return &owner{
		options: o, log: log, tree: t, journal: j, stats: stats,
		watches: newWatches(),
		inbox:   make(chan inbound, inboxSize),
		told:    make(map[*conn]struct{}),
	}
}

// run serves until ctx ends, with nil, or the journal fails.
func (o *owner) run(ctx context.Context) error {
	o.sessions.restore(o.tree, time.Now())
	expiry := time.NewTimer(0)
	defer expiry.Stop()
	reap := time.NewTicker(o.options.ReapInterval)
	defer reap.Stop()
	for {
		due, some := o.sessions.next()
		if some {
			expiry.Reset(time.Until(due))
		} else {
			expiry.Stop()
		}
		select {
		case in := <-o.inbox:
			o.started = time.Now()
			o.handle(in)
			o.drain()
		case <-expiry.C:
			o.started = time.Now()
			o.drain() // a packet that has arrived is in time
			o.expire(due)
		case <-reap.C:
			o.started = time.Now()
			o.reap()
		case err := <-o.journal.snapshotDone():
			o.started = time.Now()
			o.journal.retire(err, o.log)
		case <-ctx.Done():
			return nil
		}
		if err := o.commit(); err != nil {
			return err
		}
	}
}

// drain handles what waits, up to a batch.
func (o *owner) drain() {
	for n := 0; n < maxBatch && len(o.records.b)+o.queued < maxBatchBytes; n++ {
		select {
		case in := <-o.inbox:
			o.handle(in)
		default:
			return
		}
	}
}

func (o *owner) handle(in inbound) {
	c := in.conn
	switch {
	case in.gone:
		o.detach(c)
		return
	case in.connect != nil:
		o.answered(c, in.at)
		o.connect(c, in.connect, in.at)
		return
	}
	o.answered(c, in.at)
	o.stats.received.Add(1)
	if c.session == nil { // refused, closed or moved to another connection: nothing more is done for it
		return
	}
	c.session.touch(in.at)
	o.serve(c, in.request)
}

// serve does one request of a connection that has a session.
func (o *owner) serve(c *conn, r *request) {
	switch r.op {
	case opPing, opAuth, opSync, opWhoAmI, opReconfig:
		o.serveSession(c, r)
	case opCloseSession:
		o.endSession(c.session.id)
		o.reply(c, r.xid, codeOK, nil)
		c.finish()
		o.detach(c)
	case opMulti:
		o.multi(c, r)
	case opCreate, opCreate2, opCreateContainer, opCreateTTL, opDelete, opSetData, opSetACL, opCheck:
		o.write(c, r)
	default:
		o.read(c, r)
	}
}

// queue returns where the connection's next bytes go.
func (o *owner) queue(c *conn) *encoder {
	o.mark(c)
	return &c.pending
}

func (o *owner) mark(c *conn) {
	if !c.dirty {
		c.dirty = true
		o.dirty = append(o.dirty, c)
	}
}

// answered counts a request as done when this batch's bytes are written, which gives back its place
// in the connection's window.
func (o *owner) answered(c *conn, at time.Time) {
	o.mark(c)
	c.answered++
	if c.oldest.IsZero() {
		c.oldest = at
	}
}

// reply queues a reply; body adds what follows the header and is left out of refusals.
//
//	int32 length | int32 xid | int64 zxid | int32 code | body
func (o *owner) reply(c *conn, xid int32, result code, body func(*encoder)) {
	e := o.queue(c)
	at := e.open()
	e.int32(xid)
	e.int64(o.tree.zxid)
	e.int32(int32(result))
	if result == codeOK && body != nil {
		body(e)
	}
	e.shut(at)
	o.queued += len(e.b) - at
	o.stats.sent.Add(1)
}

// begin opens the next transaction.
func (o *owner) begin() *txn {
	return &txn{zxid: o.tree.zxid + 1, timeMs: time.Now().UnixMilli()}
}

// do applies a change that has been checked.
func (o *owner) do(t *txn, ch change) {
	done := applied{acl: ch.acl}
	if n := o.tree.nodes[ch.path]; n != nil {
		done.acl = n.acl
	}
	if path, _, ok := splitPath(ch.path); ok && o.tree.nodes[path] != nil {
		done.parentACL = o.tree.nodes[path].acl
	}
	var err error
	if done.undo, err = o.tree.apply(&ch, t.zxid, t.timeMs); err != nil {
		panic(fmt.Sprintf("embedded: a checked change does not apply: %v", err))
	}
	t.changes = append(t.changes, ch)
	t.applied = append(t.applied, done)
}

// cancel takes the changes back, last first.
func (o *owner) cancel(t *txn) {
	for i := len(t.applied) - 1; i >= 0; i-- {
		t.applied[i].undo()
	}
}

// end makes the transaction part of the batch and queues its events.
func (o *owner) end(t *txn) {
	if len(t.changes) == 0 {
		return
	}
	o.tree.zxid = t.zxid
	if o.journal != nil {
		t.encode(&o.records)
	}
	o.txns++
	for i := range t.changes {
		o.notify(&t.changes[i], &t.applied[i])
	}
}

// commit makes the batch durable and only then lets its replies and events go.
func (o *owner) commit() error {
	if len(o.records.b) > 0 {
		if err := o.journal.append(o.records.b); err != nil {
			return fmt.Errorf("commit %d transactions up to zxid 0x%x: %w", o.txns, o.tree.zxid, err)
		}
		o.records.b = recycle(o.records.b)
	}
	o.stats.publish(o.tree, o.watches, len(o.sessions.byID))
	now := time.Now()
	for _, c := range o.dirty {
		if !c.oldest.IsZero() {
			o.stats.latency(now.Sub(c.oldest))
		}
		if !c.flush(o.options.MaxQueueBytes) {
			o.stats.slow.Add(1)
			o.stats.warn(o.log, "connection closed: it does not read what it asked for", "remote", c.remote,
				"max_queue_bytes", o.options.MaxQueueBytes)
		}
	}
	clear(o.dirty)
	o.dirty = o.dirty[:0]
	o.txns, o.queued = 0, 0
	if err := o.snapshotWhenDue(); err != nil {
		return err
	}
	if away := time.Since(o.started); away > stall {
		o.sessions.grant(away)
	}
	return nil
}

// snapshotWhenDue starts one when enough log has been written. The tree is encoded here, in memory;
// writing it goes on beside the owner.
func (o *owner) snapshotWhenDue() error {
	if o.journal == nil || !o.journal.due(o.options.SnapshotBytes) {
		return nil
	}
	if err := o.journal.snapshot(o.tree); err != nil {
		return fmt.Errorf("snapshot at zxid 0x%x: %w", o.tree.zxid, err)
	}
	return nil
}

// recycle empties a buffer for the next use, unless one large use made it big.
func recycle(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}
