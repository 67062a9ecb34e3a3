package txn

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running checker in a synctest bubble, with a fake of the producers and of the lane.
type rig struct {
	*Checker
	t *testing.T

	mu      sync.Mutex
	offline map[string]bool // groups that cannot be asked
	bad     kite.MessageID  // cannot be asked about
	asked   map[kite.MessageID][]time.Duration
	turns   []int
	begin   time.Time
	refuse  error                // what the lane says
	ask     func(kite.MessageID) // runs while somebody is asked, if it is not nil
	flushed int                  // of turns
	parks   []kite.Item
}

func (r *rig) Ask(group string, id kite.MessageID, position kite.Position, turn int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.offline[group] || id == r.bad || uint64(position) != binary.BigEndian.Uint64(id[8:])+1 {
		return ""
	}
	if r.ask != nil {
		r.ask(id)
	}
	r.asked[id] = append(r.asked[id], time.Since(r.begin))
	r.turns = append(r.turns, turn)
	return "10.0.0.1:7"
}

func (r *rig) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = len(r.turns)
}

func (r *rig) Submit(b *kite.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse == nil {
		r.parks = append(r.parks, b.Items...)
	}
	return r.refuse
}

func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) times(n int) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[id(n)]
}

func run(t *testing.T, o Options, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, offline: map[string]bool{}, asked: map[kite.MessageID][]time.Duration{}, begin: time.Now(), bad: id(-1)}
		r.Checker = New(o.WithDefaults(), r, r, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		test(t, r)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pass lets the time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func id(n int) (id kite.MessageID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func item(kind kite.Kind, n int) kite.Item {
	return kite.Item{Record: kite.Record{
		Kind: kind, ID: id(n), Topic: "trade", Group: []byte("p-trade"), Position: kite.Position(n + 1),
		TimeMs: kite.UnixMs(time.Now()), ExpiresMs: kite.UnixMs(time.Now().Add(time.Hour)),
	}}
}

// tell is the lane's news about the items.
func (r *rig) tell(items ...kite.Item) {
	r.Durable([]*kite.Batch{{Items: items}})
	synctest.Wait()
}

// TestPauses asks first after First, then after pauses that double up to Longest, give or take a fifth,
// and parks after the last check.
func TestPauses(t *testing.T) {
	t.Parallel()
	for range 20 { // the jitter is random
		run(t, Options{First: 10 * time.Second, Longest: time.Minute, MaxChecks: 7}, func(t *testing.T, r *rig) {
			r.tell(item(kite.KindPrepared, 1))
			pass(time.Hour - time.Second)
			at := r.times(1)
			if len(at) != 7 || r.Stats().Sent != 7 {
				t.Fatalf("%d checks, %d counted, want 7: %v", len(at), r.Stats().Sent, at)
			}
			if at[0] != 10*time.Second {
				t.Errorf("the first check came after %v", at[0])
			}
			for i, pause := range []time.Duration{20, 40, 60, 60, 60, 60} {
				pause *= time.Second
				if got := at[i+1] - at[i]; got < pause*4/5 || got > pause*6/5 {
					t.Errorf("pause %d: %v, want %v give or take a fifth", i+1, got, pause)
				}
			}
			if len(r.parks) == 0 || r.parks[0].Kind != kite.KindPark || r.parks[0].ID != id(1) || kite.DecodeNote(r.parks[0].Body).Reason != "undecided after the last check" {
				t.Errorf("parks %+v", r.parks)
			}
		})
	}
}

// TestJitter spreads pauses over the whole range that it may.
func TestJitter(t *testing.T) {
	t.Parallel()
	low, high := int64(1<<62), int64(0)
	for range 10_000 {
		ms := jitter(1000)
		low, high = min(low, ms), max(high, ms)
	}
	if low < 800 || low > 810 || high > 1200 || high < 1190 {
		t.Errorf("pauses of 1000ms lie between %d and %d", low, high)
	}
}

// TestOffline tries again about every two seconds, counts nothing, and asks a group that came back at once.
func TestOffline(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second, MaxChecks: 2}, func(t *testing.T, r *rig) {
		r.set(func() { r.offline["p-trade"] = true })
		r.tell(item(kite.KindPrepared, 1))
		pass(50 * time.Minute)
		if r.Stats().Sent != 0 || len(r.parks) != 0 {
			t.Fatalf("%d checks sent, %d parked while nobody was there", r.Stats().Sent, len(r.parks))
		}
		r.set(func() { r.offline["p-trade"] = false })
		r.Joined("another")
		r.Joined("p-trade")
		synctest.Wait()
		if at := r.times(1); len(at) != 1 || at[0] != 50*time.Minute {
			t.Errorf("asked at %v, want at once when the group joined", at)
		}
	})
}

// TestJoinedEarly asks nothing before First is over, whoever joins: the local transaction may still run.
func TestJoinedEarly(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{time.Second, 10 * time.Second} {
		run(t, Options{First: first}, func(t *testing.T, r *rig) {
			r.tell(item(kite.KindPrepared, 1))
			pass(first - time.Millisecond)
			r.Joined("p-trade")
			synctest.Wait()
			if at := r.times(1); len(at) != 0 {
				t.Errorf("asked after %v, the first check is due after %v", at, first)
			}
			pass(time.Millisecond)
			if at := r.times(1); len(at) != 1 {
				t.Errorf("asked %v, want once", at)
			}
		})
	}
}

// TestDecided asks no more about what is decided or parked, and does not know what was not made durable.
func TestDecided(t *testing.T) {
	t.Parallel()
	for _, kind := range []kite.Kind{kite.KindCommit, kite.KindRollback, kite.KindPark} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			run(t, Options{First: time.Second}, func(t *testing.T, r *rig) {
				refused, repeated := item(kite.KindPrepared, 3), item(kite.KindPrepared, 4)
				refused.Verdict, repeated.Repeat = kite.Busy, true
				r.tell(item(kite.KindPrepared, 1), item(kite.KindPrepared, 2), refused, repeated, item(kite.KindMessage, 5))
				conflict := item(kind, 2)
				conflict.Verdict = kite.TxConflict
				r.tell(item(kind, 1), item(kind, 77), conflict)
				if n := r.Stats().Open; n != 1 {
					t.Errorf("%d open, want 1", n)
				}
				pass(10 * time.Minute)
				for n, want := range map[int]bool{1: false, 2: true, 3: false, 4: false, 5: false} {
					if got := len(r.times(n)) > 0; got != want {
						t.Errorf("message %d asked about: %v, want %v", n, got, want)
					}
				}
				r.tell(item(kind, 2))
				r.set(func() { clear(r.asked) })
				pass(10 * time.Minute)
				if kind == kite.KindPark { // it waits for an operator
					r.tell(item(kite.KindRollback, 1), item(kite.KindRollback, 2))
				}
				if len(r.asked) != 0 || r.Stats().Open != 0 || len(r.book.groups) != 0 || len(r.book.queue) != 0 {
					t.Errorf("%v asked about after all was decided; %d open", r.asked, r.Stats().Open)
				}
			})
		})
	}
}

// TestPark submits until the lane has recorded it; a verdict that comes first wins.
func TestPark(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second, Longest: time.Second, MaxChecks: 1}, func(t *testing.T, r *rig) {
		r.set(func() { r.refuse = kite.Busy })
		r.tell(item(kite.KindPrepared, 1), item(kite.KindPrepared, 2))
		pass(time.Minute)
		r.tell(item(kite.KindCommit, 2))
		r.set(func() { r.refuse = nil })
		pass(3 * time.Second)
		if len(r.parks) == 0 || r.parks[0].ID != id(1) || r.parks[0].Topic != "trade" {
			t.Fatalf("parks %+v", r.parks)
		}
		r.tell(item(kite.KindPark, 1))
		n := len(r.parks)
		pass(time.Hour)
		if len(r.parks) != n || r.Stats().Sent != 2 {
			t.Errorf("%d parks after it was recorded, %d checks sent", len(r.parks)-n, r.Stats().Sent)
		}
	})
}

// TestExpired parks without a further check, asked about or not.
func TestExpired(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second, Longest: time.Second, MaxChecks: 1000}, func(t *testing.T, r *rig) {
		silent, away := item(kite.KindPrepared, 1), item(kite.KindPrepared, 2)
		silent.ExpiresMs = kite.UnixMs(time.Now().Add(10 * time.Second))
		away.ExpiresMs, away.Group = silent.ExpiresMs, []byte("p-away")
		r.set(func() { r.offline["p-away"] = true })
		r.tell(silent, away)
		pass(10 * time.Second)
		sent := r.Stats().Sent
		pass(3 * time.Second)
		parked := map[kite.MessageID]string{}
		for _, p := range r.parks {
			parked[p.ID] = kite.DecodeNote(p.Body).Reason
		}
		const why = "undecided when the message expired"
		if len(parked) != 2 || parked[id(1)] != why || parked[id(2)] != why {
			t.Errorf("parked %v", parked)
		}
		if r.Stats().Sent != sent || sent < 8 {
			t.Errorf("%d checks before the expiry, %d after", sent, r.Stats().Sent-sent)
		}
	})
}

// TestMany asks about 10,000 in due time; one that cannot be asked about stops nobody.
func TestMany(t *testing.T) {
	t.Parallel()
	run(t, Options{First: 10 * time.Second, Longest: 10 * time.Second}, func(t *testing.T, r *rig) {
		r.set(func() { r.bad = id(0) })
		items := make([]kite.Item, 10_000)
		for n := range items {
			items[n] = item(kite.KindPrepared, n)
		}
		r.tell(items...)
		pass(10 * time.Second)
		if n := r.Stats().Sent; n != 9_999 {
			t.Errorf("%d checks sent when all were due, want 9999", n)
		}
		pass(12 * time.Second)
		if n := r.Stats().Sent; n != 2*9_999 {
			t.Errorf("%d checks sent, want two for each", n)
		}
		for n := range items {
			items[n].Kind = kite.KindRollback
		}
		r.tell(items...)
		if r.Stats().Open != 0 || len(r.book.queue) != 0 {
			t.Errorf("%d open, %d queued", r.Stats().Open, len(r.book.queue))
		}
	})
}

// TestRestore arms what the journal knew: due at once when its time is over, else when it comes.
func TestRestore(t *testing.T) {
	t.Parallel()
	run(t, Options{First: 10 * time.Second}, func(t *testing.T, r *rig) {
		nowMs := kite.UnixMs(time.Now())
		r.Restore(Undecided{ID: id(1), Group: "p-trade", Position: 2, PreparedMs: nowMs - 3_600_000, ExpiresMs: nowMs + 3_600_000})
		r.Restore(Undecided{ID: id(2), Group: "p-trade", Position: 3, PreparedMs: nowMs - 4000, ExpiresMs: nowMs + 3_600_000})
		r.Joined("p-trade")
		r.tell(item(kite.KindPrepared, 2)) // known already
		pass(0)
		pass(8 * time.Second)
		if one, two := r.times(1), r.times(2); len(one) == 0 || one[0] != 0 || len(two) != 1 || two[0] != 6*time.Second {
			t.Errorf("asked at %v and %v, want at once and after 6s", one, two)
		}
		if r.Stats().Open != 2 {
			t.Errorf("%d open", r.Stats().Open)
		}
	})
}

// TestRejoin offers what is pending to a member that connects, but not what was asked about a moment ago:
// a member that comes and goes must not use the checks up.
func TestRejoin(t *testing.T) {
	t.Parallel()
	run(t, Options{First: 10 * time.Second, Longest: time.Hour}, func(t *testing.T, r *rig) {
		r.tell(item(kite.KindPrepared, 1))
		pass(10 * time.Second)
		for range 50 {
			pass(100 * time.Millisecond)
			r.Joined("p-trade")
		}
		synctest.Wait()
		if at := r.times(1); len(at) != 1 {
			t.Fatalf("asked at %v while a member came and went within 5s", at)
		}
		pass(5 * time.Second)
		r.Joined("p-trade")
		synctest.Wait()
		if at := r.times(1); len(at) != 2 || at[1] != 20*time.Second {
			t.Errorf("asked at %v, want again when a member joined after 20s", at)
		}
		if !slices.Equal(r.turns, []int{0, 1}) {
			t.Errorf("turns %v", r.turns)
		}
	})
}

// TestRecheck asks a parked transaction's producer again when an operator says so, with all its checks.
func TestRecheck(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second, Longest: time.Second, MaxChecks: 2}, func(t *testing.T, r *rig) {
		r.tell(item(kite.KindPrepared, 1))
		pass(5 * time.Second)
		r.tell(item(kite.KindPark, 1))
		if s := r.Stats(); s.Open != 0 || s.Parked != 1 || s.Sent != 2 || s.OldestMs == 0 {
			t.Fatalf("%+v", s)
		}
		recheck := item(kite.KindOrder, 1)
		recheck.Body = kite.AppendOrder(nil, &kite.Order{Action: kite.ActionRecheck})
		r.tell(recheck)
		if s := r.Stats(); s.Open != 1 || s.Parked != 0 || s.Sent != 3 {
			t.Errorf("after the recheck: %+v", s)
		}
	})
}

// TestParkedRetention ends a parked transaction by a rollback, but not before its time, over a restart too.
func TestParkedRetention(t *testing.T) {
	t.Parallel()
	for _, restored := range []bool{false, true} {
		run(t, Options{ParkedRetention: time.Hour}, func(t *testing.T, r *rig) {
			if restored {
				nowMs := kite.UnixMs(time.Now())
				r.Restore(Undecided{ID: id(1), Topic: "trade", Group: "p-trade", Position: 2, PreparedMs: nowMs - 1, ParkedMs: nowMs})
			} else {
				r.tell(item(kite.KindPrepared, 1))
				r.tell(item(kite.KindPark, 1))
			}
			pass(time.Hour - time.Second)
			if len(r.parks) != 0 || r.Stats().Sent != 0 {
				t.Fatalf("%+v before its time", r.parks)
			}
			pass(2 * time.Second)
			if len(r.parks) != 1 || r.parks[0].Kind != kite.KindRollback || r.parks[0].ID != id(1) {
				t.Errorf("%+v after its time", r.parks)
			}
		})
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second, Longest: time.Second}, func(t *testing.T, r *rig) {
		if _, ok := r.Look(id(1)); ok {
			t.Error("something is known of nothing")
		}
		r.tell(item(kite.KindPrepared, 1))
		pass(time.Second)
		askedMs := kite.UnixMs(time.Now())
		pass(100 * time.Millisecond)
		r.Answered(id(1), "10.0.0.1:7")
		r.Answered(id(2), "10.0.0.1:8")
		s, ok := r.Look(id(1))
		if s.NextMs < askedMs+800 || s.NextMs > askedMs+1200 {
			t.Errorf("next check %d ms after the first", s.NextMs-askedMs)
		}
		s.NextMs = 0
		want := Sight{Checks: 1, Asked: "10.0.0.1:7", AskedMs: askedMs, Answered: "10.0.0.1:7", AnsweredMs: askedMs + 100}
		if !ok || s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if o := (Options{First: time.Hour}).WithDefaults(); o.Validate() != nil || o.Longest != time.Hour || o.MaxChecks != 15 {
		t.Errorf("%+v: %v", o, o.Validate())
	}
	for _, bad := range []Options{{First: 1}, {First: 2 * time.Hour}, {Longest: time.Second}, {Longest: 25 * time.Hour}, {MaxChecks: -1}, {MaxChecks: 1001}, {ParkedRetention: time.Second}} {
		if bad.WithDefaults().Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

// TestDecidedMeanwhile: what was due, and is decided while others are asked about, is not asked about any
// more. And what was asked leaves with the pass.
func TestDecidedMeanwhile(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		for n := range 3 {
			r.tell(item(kite.KindPrepared, n))
		}
		var asked []kite.MessageID
		r.set(func() {
			r.ask = func(of kite.MessageID) {
				asked = append(asked, of)
				for n := range 3 {
					if id(n) != of {
						r.Durable([]*kite.Batch{{Items: []kite.Item{item(kite.KindCommit, n)}}})
					}
				}
			}
		})
		pass(time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(asked) == 0 || len(r.asked) != 1 {
			t.Errorf("asked about %v, want one of the three", asked)
		}
		if r.flushed != len(r.turns) {
			t.Errorf("%d of %d checks have left", r.flushed, len(r.turns))
		}
	})
}
