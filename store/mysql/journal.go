package mysql

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Journal is one journal of a Database. Database.Create and Claim make it.
//
// The lane alone writes, but for what Run deletes: each write is one transaction that begins by changing the journal's row of
// kite_journal where the epoch is still this owner's. So a broker that lost the journal to another, and does
// not know it, changes nothing any more; and after a connection broke in the middle of a transaction, that row
// says whether it was committed. Readers have connections of their own. What they may see is bounded by the
// streams' bounds in memory, which grow when Append has its answer.
//
// While the database is away Append waits for it, and Err says so.
type Journal struct {
	db   *Database
	held Held
	log  *slog.Logger
	life *lifetime

	mu      sync.RWMutex
	streams map[string]*stream
	closed  bool
	tail    tail

	ids    ids
	pages  sync.Pool    // of *page, owned by one reader at a time
	bytes  atomic.Int64 // what the rows cost
	poison atomic.Pointer[kite.Error]
	away   atomic.Pointer[outage] // of an Append that waits

	// Of the lane.
	writer     writer
	tx         transaction
	turn       uint64
	key        []byte
	plan       []*stream
	replayed   bool
	appended   bool
	head       kite.Position // the newest record's
	covered    kite.Position // what the newest checkpoint stands for
	generation uint64        // of the newest checkpoint
	units      []unit        // complete ones, oldest first
	open       unit          // the one being filled

	// Of Trim and Run, which sweeps for it.
	sweeps   chan *sweep
	sweeping atomic.Bool   // Run is there
	swept    store.Trimmed // by Run, since the last Trim; guarded by mu
	lowest   kite.Position // nothing lies before; guarded by mu
	passed   []*stream     // minutes of which nothing is left, in the map until the lane takes them out; guarded by mu
}

var _ store.Journal = (*Journal)(nil)

var (
	errClosed    = errors.New("the journal is closed")
	errAbandoned = errors.New("the broker stops without the database")
)

// open loads what the journal keeps in memory: the bounds of its streams, its units, the filters of ids.
func (d *Database) open(h Held) (*Journal, error) {
	j := &Journal{
		db: d, held: h, log: d.log.With("journal", h.Journal),
		life: &lifetime{ended: make(chan struct{})}, streams: map[string]*stream{}, sweeps: make(chan *sweep),
		tail: tail{bases: map[kite.Position]*kite.Record{}, limit: int64(d.o.tailBytes)},
	}
	j.writer = writer{connector: d.writers, life: j.life, journal: h.Journal}
	if err := j.load(); err != nil {
		return nil, errors.Join(d.o.explain(fmt.Errorf("open journal %d: %w", h.Journal, err)), j.writer.close())
	}
	j.log.Info("journal opened", "broker", h.Broker, "owner", h.Owner, "epoch", h.Epoch, "streams", len(j.streams), "bytes", j.bytes.Load())
	return j, nil
}

// Held says whose the journal is.
func (j *Journal) Held() Held { return j.held }

// Class is mysql: what was appended is committed in the database.
func (j *Journal) Class() kite.Class { return kite.ClassMySQL }

// Sync has nothing to do for class mysql, and no other can be had.
func (j *Journal) Sync(class kite.Class) error {
	if err := j.usable(); err != nil {
		return err
	}
	if class != kite.ClassMySQL {
		return kite.Errorf(kite.Invalid, "the mysql store cannot make messages %s: it knows mysql", class)
	}
	return nil
}

// Err returns why the journal is poisoned, or that the database is away while Append waits for it, or nil.
func (j *Journal) Err() error {
	if e := j.poison.Load(); e != nil {
		return e
	}
	if away := j.away.Load(); away != nil {
		return away.err
	}
	return nil
}

// outage is why an Append waits.
type outage struct {
	err     *kite.Error
	refused bool // the server answers, and does not do it
}

// reachable returns nil, or the error of a server that does not answer the writer: then readers need not wait
// for their time-outs to learn it.
func (j *Journal) reachable() error {
	if away := j.away.Load(); away != nil && !away.refused {
		return away.err
	}
	return nil
}

// Abandon ends an Append that waits for the database, and every later write: the journal is poisoned. It may
// be called beside any other method.
func (j *Journal) Abandon() { j.life.end() }

// Close ends the writing connection. See store.Journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	closed := j.closed
	j.closed = true
	j.mu.Unlock()
	if closed {
		return nil
	}
	return j.writer.close()
}

// usable returns nil, or why nothing may be written.
func (j *Journal) usable() error {
	if j.closed { // the lane's own write
		return &kite.Error{Code: kite.Unavailable, Err: errClosed}
	}
	if e := j.poison.Load(); e != nil {
		return e
	}
	return nil
}

// fail poisons the journal with its first error that nothing can be done about.
func (j *Journal) fail(op string, err error) error {
	e := &kite.Error{Code: kite.Unavailable, Op: op, Err: err}
	if errors.Is(err, store.ErrFenced) {
		e.Op = fmt.Sprintf("%s journal %d at epoch %d", op, j.held.Journal, j.held.Epoch)
	}
	if j.poison.CompareAndSwap(nil, e) {
		j.log.Error("journal poisoned", "err", e)
	}
	return j.poison.Load()
}

// broken is a failed read.
func (j *Journal) broken(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kite.Error{Code: kite.Unavailable, Op: op, Err: j.db.o.explain(err)}
}
