package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/mmap"
)

// fate is what becomes of a message by its producer's doing.
type fate int

const (
	plain      fate = iota // published, and answered
	committed              // a transaction, with its commit
	rolledBack             // the same with its rollback
	foundRow               // left undecided, and the check finds the row
	foundNone              // the same, and the check finds that there will be none
	undecided              // left undecided, and nobody can say
)

// arrives tells whether groups get the message.
func (f fate) arrives() bool { return f == plain || f == committed || f == foundRow }

// entry is one message of the ledger.
type entry struct {
	topic, kind string
	fate        fate
	at          time.Time // of the answer
}

// poison is the type that the moody group never takes.
const poison = "poison"

// ledger has every message that was answered, and what each group was given.
type ledger struct {
	db   *database
	plan func(n int) entry // what the n-th message is
	mu   sync.Mutex
	all  map[string]entry
	got  map[string]map[string]int // group -> id -> deliveries
	bad  []string                  // deliveries of other bytes than were published
}

func newLedger() *ledger {
	return &ledger{db: &database{rows: map[string]bool{}}, plan: plan, all: map[string]entry{}, got: map[string]map[string]int{}}
}

// plan is the n-th message of all: where it goes and what becomes of it.
func plan(n int) entry {
	e := entry{topic: []string{"trade", "fee", "logs"}[n%3], kind: []string{"pay", "refund"}[n/3%2]}
	switch n / 6 % 20 {
	case 0, 1, 2:
		e.fate = committed
	case 3:
		e.fate = rolledBack
	case 4:
		e.fate = foundRow
	case 5:
		e.fate = foundNone
	case 6:
		if n%6 == 0 {
			e.fate = undecided
		}
	case 7:
		e.topic, e.kind = "trade", poison
	}
	return e
}

// publish does what the plan says, and enters the message when the broker has answered.
func (l *ledger) publish(ctx context.Context, c *client.Client, n int) error {
	e, id := l.plan(n), client.NewID()
	m := &client.Message{ID: id, Topic: e.topic, Type: e.kind, Body: body(id)}
	if e.kind == poison {
		m.DeliverLimit = 3
	}
	if n%3 == 0 {
		m.DeliverAt = time.Now().Add(time.Duration(n%2000) * time.Millisecond)
	}
	err := l.act(ctx, c, m, e.fate)
	if err != nil {
		return fmt.Errorf("message %d: %w", n, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.at = time.Now()
	l.all[id] = e
	return nil
}

func (l *ledger) act(ctx context.Context, c *client.Client, m *client.Message, f fate) error {
	switch f {
	case plain:
		return c.Publish(ctx, m)
	case committed, rolledBack:
		err := c.PublishTx(ctx, m, func(context.Context) error {
			l.db.set(m.ID, f == committed)
			if f == rolledBack {
				return errDeclined
			}
			return nil
		})
		return ignore(ignore(err, errDeclined), client.Indeterminate) // the check decides, and finds the row
	}
	tx, err := c.Prepare(ctx, m)
	if err != nil {
		return err
	}
	if f != undecided {
		l.db.set(m.ID, f == foundRow)
	}
	tx.Leave()
	return nil
}

// size is how many messages were answered.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (l *ledger) entry(id string) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[id]
}

func body(id string) []byte { return []byte("body of " + id) }

// handler is that of a member of the group. The moody refuses poison always and everything else now and
// then for the first time.
func (l *ledger) handler(group string, moody bool) client.Handler {
	return func(_ context.Context, d *client.Delivery) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.got[group] == nil {
			l.got[group] = map[string]int{}
		}
		l.got[group][d.ID]++
		if string(d.Body) != string(body(d.ID)) {
			l.bad = append(l.bad, fmt.Sprintf("group %s: message %s has the body %.60q", group, d.ID, d.Body))
		}
		if at, err := strconv.ParseInt(d.Properties[kite.PropertyDeliverAt], 10, 64); err == nil && time.Now().UnixMilli() < at {
			l.bad = append(l.bad, fmt.Sprintf("group %s: message %s comes %d ms before its time", group, d.ID, at-time.Now().UnixMilli()))
		}
		if moody && (d.Type == poison || d.ID[0] == '0' && l.got[group][d.ID] == 1) {
			return errMoody
		}
		return nil
	}
}

var errMoody = errors.New("not today")

// due returns what a group with the bindings must get.
func (l *ledger) due(bindings []client.Binding) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]bool{}
	for id, e := range l.all {
		if e.fate.arrives() && bound(bindings, e) {
			ids[id] = true
		}
	}
	return ids
}

func bound(bindings []client.Binding, e entry) bool {
	return slices.ContainsFunc(bindings, func(b client.Binding) bool {
		return b.Topic == e.topic && (b.Type == kite.BindFanout || strings.Trim(b.MessageType, "^$") == e.kind)
	})
}

// missing counts what of the ids the group has not got, and names the one that was answered first.
func (l *ledger) missing(group string, ids map[string]bool) (n int, oldest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range ids {
		if l.got[group][id] > 0 {
			continue
		}
		if n++; oldest == "" || l.all[id].at.Before(l.all[oldest].at) {
			oldest = id
		}
	}
	return n, oldest
}

// verify reports what a group got and must not have.
func (l *ledger) verify(t *testing.T, group string, due map[string]bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	repeats, alien := 0, l.bad
	l.bad = nil
	for id, n := range l.got[group] {
		repeats += n - 1
		if e, known := l.all[id]; !due[id] {
			alien = append(alien, fmt.Sprintf("group %s: message %s (published: %v, %+v)", group, id, known, e))
		}
	}
	if len(alien) > 0 {
		t.Errorf("%d deliveries that should not be, such as %s", len(alien), alien[0])
	}
	t.Logf("group %s: %d messages, %d repeats", group, len(l.got[group]), repeats)
}

// settleUndecided commits what nobody could decide: it was kept all the time. The deliveries begin meanwhile,
// so the handlers must not find the ledger locked.
func (l *ledger) settleUndecided(t *testing.T, c *client.Client) {
	t.Helper()
	var open []string
	l.mu.Lock()
	for id, e := range l.all {
		if e.fate == undecided {
			open = append(open, id)
			e.fate = committed
			l.all[id] = e
		}
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for _, id := range open {
		if err := c.Decide(ctx, "trade", id, client.Commit, "by hand"); err != nil {
			t.Fatalf("commit %s: %v", id, err)
		}
	}
	t.Logf("%d transactions were undecided to the end", len(open))
}

// verifyDeadLetters looks into the journal of a broker that has stopped: a poisoned message is in the group's
// dead letters, once, and no other is.
func (l *ledger) verifyDeadLetters(t *testing.T, dir, topic, group string) {
	t.Helper()
	journal, err := mmap.Open(mmap.Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	letters := map[string]int{}
	err = journal.Read(kite.DeadStream(topic, group), 1, func(r *kite.Record) bool {
		letters[r.ID.String()]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range letters {
		if e := l.all[id]; e.kind != poison || n != 1 {
			t.Errorf("message %s (%+v) is %d times in the dead letters of %s", id, e, n, group)
		}
	}
	for id, e := range l.all {
		if e.kind == poison && letters[id] == 0 {
			t.Errorf("message %s is not in the dead letters of %s", id, group)
		}
	}
	t.Logf("group %s: %d dead letters", group, len(letters))
}
