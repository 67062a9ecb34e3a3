package session

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Conn is the connection under a session, as the transport provides it.
type Conn interface {
	// Write sends the buffer's bytes and recycles it: the caller has given it away. It never blocks.
	// The bytes leave after the reply of a read that is under way: a new member's first delivery comes
	// after the answer to its ConnMeta.
	// A connection whose unsent bytes pass the hard bound is closed.
	Write(b *Buffer)
	// Writable tells whether unsent bytes are below the soft bound: deliveries and checks wait while
	// they are not, replies do not.
	Writable() bool
	// Close ends the connection after what was written; reason goes to the log.
	Close(reason error)
	// Run calls work where the session's requests are handled: never beside one of them or after its end. It
	// may return before; when the connection is gone, work is never called. It must not be called there itself.
	Run(work func())
	// RemoteAddr is the peer's "ip:port".
	RemoteAddr() string
}

// Session is one connection that a client opened. It belongs to one group from Directory.Join on.
type Session struct {
	ID   uint64
	Conn Conn
	// Framing is the protocol.Framing in which this client is answered, as a number: this package
	// does not know the wire. The transport sets it before the first frame is handed on.
	Framing uint8
	// Level is what newer clients said in ConnMeta; 0 for every old one.
	Level atomic.Int32
	// Greeting is the ConnMeta whose key is being looked at, nil when none is. It belongs to who handles the
	// session's requests.
	Greeting *Greeting
	// Answers gathers what one turn of the lane answers this client. It belongs to the lane's goroutine and
	// is nil between two turns.
	Answers *Buffer

	group    atomic.Pointer[string]
	warm     atomic.Pointer[warmUp]
	credit   atomic.Int32 // that it named itself; 0: the directory's
	inFlight atomic.Int32
	late     atomic.Int32 // deliveries in a row that were not answered in time
	forgiven atomic.Int32 // deliveries that were never answered and hold no credit any more
	opaque   atomic.Uint32
	joined   bool // guarded by Directory.mu
}

// Greeting is who a connection says it is.
type Greeting struct {
	Group, Key string
	WarmingUp  time.Duration
	Level      int32
	Credit     int32  // deliveries that the client takes at a time; 0: the broker's
	Opaque     uint32 // of the newest ConnMeta that said so
}

type warmUp struct {
	start time.Time
	span  time.Duration
}

// firstOpaque begins the range of the numbers that the broker draws: no client generates them.
const firstOpaque = 1 << 31

// New returns a session that is in no group yet.
func New(id uint64, conn Conn) *Session { return &Session{ID: id, Conn: conn} }

// String is the peer's address: what people know a member by.
func (s *Session) String() string { return s.Conn.RemoteAddr() }

// Group returns the session's group, or "" before Join.
func (s *Session) Group() string {
	if g := s.group.Load(); g != nil {
		return *g
	}
	return ""
}

// NextCheck draws the opaque of a transaction check. Deliveries draw theirs in the lower half of
// the range, checks in the upper.
func (s *Session) NextCheck() uint32 { return firstOpaque | 1<<30 | s.opaque.Add(1)&(1<<30-1) }

// SetCredit says how many unanswered deliveries the client takes, for one that has said so; 0 is the
// directory's limit.
func (s *Session) SetCredit(n int32) { s.credit.Store(max(n, 0)) }

// limit returns the credit of the session where limit is the directory's, and what it may hold in all.
func (s *Session) limit(limit int32) (credit, unanswered int32) {
	if named := s.credit.Load(); named > 0 {
		return named, max(named, maxUnanswered)
	}
	return limit, maxUnanswered
}

// maxUnanswered bounds the deliveries that a client holds that named no credit, forgiven ones too: old Go
// clients stop reading their sockets at 100 (interop contract §0.6).
const maxUnanswered = 90

// suspectAfter is how many late deliveries in a row make other members preferred (interop contract §4.7).
const suspectAfter = 3

// Release implements kite.Member. An answer shows that the client is at work: what it was forgiven it
// works off one by one.
func (s *Session) Release(forgiven bool) {
	if !forgiven {
		s.inFlight.Add(-1)
	}
	if s.late.Load() != 0 { // a store is dearer than a look
		s.late.Store(0)
	}
	if s.forgiven.Load() > 0 {
		s.forgiven.Add(-1) // only the shard of the session's group forgives and releases
	}
}

// Unclaim gives back a credit that was taken for a delivery that is not sent.
func (s *Session) Unclaim() { s.inFlight.Add(-1) }

// Late implements kite.Member.
func (s *Session) Late() { s.late.Add(1) }

// Forgive implements kite.Member.
func (s *Session) Forgive() bool {
	if _, most := s.limit(0); s.inFlight.Load()+s.forgiven.Load() >= most {
		return false
	}
	s.inFlight.Add(-1)
	s.forgiven.Add(1)
	return true
}

// suspect tells whether the client has stopped answering.
func (s *Session) suspect() bool { return s.late.Load() >= suspectAfter }

// InFlight returns how many deliveries are unanswered.
func (s *Session) InFlight() int { return int(s.inFlight.Load()) }

// claim takes one credit when there is one below limit and the connection takes bytes.
func (s *Session) claim(limit int32) bool {
	if !s.free(limit) {
		return false
	}
	s.inFlight.Add(1) // only the shard of the session's group claims: no race for the last credit
	return true
}

// free tells whether claim would take one.
func (s *Session) free(limit int32) bool {
	held := s.inFlight.Load()
	limit, most := s.limit(limit)
	return held < limit && held+s.forgiven.Load() < most && s.Conn.Writable()
}

// cold tells whether the warm-up passes this session over this time: with the probability of the
// share of the warm-up that is still to come.
func (s *Session) cold(now time.Time) bool {
	w := s.warm.Load()
	if w == nil {
		return false
	}
	elapsed := now.Sub(w.start)
	if elapsed >= w.span {
		s.warm.Store(nil)
		return false
	}
	return rand.Float64() >= float64(elapsed)/float64(w.span)
}
