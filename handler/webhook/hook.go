package webhook

import (
	"net/url"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// inquiry is a check that waits for its turn.
type inquiry struct {
	id       kite.MessageID
	position kite.Position
	checks   int // sent before
}

// maxQueue is how many checks wait for one hook. Who finds no room is tried again like one of an absent group.
const maxQueue = 256

// hook is the endpoint of one group.
type hook struct {
	group string
	url   string
	by    string // what is shown of it
	queue chan inquiry

	mu      sync.Mutex
	pending map[kite.MessageID]struct{} // queued, or being asked about
	pause   time.Duration               // 0: it answers
	until   time.Time                   // it rests
	failure string                      // of the newest request, "" when it was answered well
	failed  time.Time
}

func newHook(group string, u *url.URL) *hook {
	return &hook{
		group: group, url: u.String(), by: "webhook " + u.Host,
		queue: make(chan inquiry, maxQueue), pending: map[kite.MessageID]struct{}{},
	}
}

// offer queues the inquiry if that is of use now.
func (k *hook) offer(q inquiry, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, asked := k.pending[q.id]; asked || now.Before(k.until) {
		return
	}
	select {
	case k.queue <- q:
		k.pending[q.id] = struct{}{}
	default:
	}
}

// done says that nobody asks about the message any more.
func (k *hook) done(id kite.MessageID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pending, id)
}

// restsUntil returns until when the hook is left alone; zero: it is not.
func (k *hook) restsUntil(now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Before(k.until) {
		return k.until
	}
	return time.Time{}
}

// rest leaves a hook alone that did not answer. What the other requests of the same moment say counts once.
func (k *hook) rest(now time.Time, first, longest time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Before(k.until) {
		return
	}
	k.pause = min(max(first, 2*k.pause), longest)
	k.until = now.Add(k.pause)
}

// recovered notes that the hook answers.
func (k *hook) recovered() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pause, k.until, k.failure = 0, time.Time{}, ""
}

// complain remembers the failure and tells whether it is news: the hook answered before, or failed otherwise.
func (k *hook) complain(failure string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	news := k.failure != failure
	k.failure, k.failed = failure, time.Now()
	return news
}

// Sight is how a group's hook does.
type Sight struct {
	// By names it as notes and stories do: "webhook host:port".
	By string
	// Failure says what was wrong with the newest request, "" for nothing; FailedMs is when, Unix ms.
	Failure  string
	FailedMs int64
	// RestsMs is until when it is left alone, Unix ms; 0: it is not.
	RestsMs int64
}

// Look returns how the group's hook does; ok is false when it has none.
func (h *Hooks) Look(group string) (s Sight, ok bool) {
	k := h.hooks[group]
	if k == nil {
		return s, false
	}
	s.By = k.by
	if until := k.restsUntil(time.Now()); !until.IsZero() {
		s.RestsMs = kite.UnixMs(until)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Failure = k.failure; s.Failure != "" {
		s.FailedMs = kite.UnixMs(k.failed)
	}
	return s, true
}
