package session

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// conn is a connection that goes nowhere.
type conn struct {
	mu     sync.Mutex
	choked bool
}

func (c *conn) Write(b *Buffer)    { b.Recycle() }
func (c *conn) Close(error)        {}
func (c *conn) Run(work func())    { work() }
func (c *conn) RemoteAddr() string { return "127.0.0.1:1" }
func (c *conn) Writable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.choked
}

func (c *conn) choke(choked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.choked = choked
}

var begin = time.Unix(1_700_000_000, 0) //nolint:gochecknoglobals // constant

// TestJoin makes a session a member of exactly one group, however often it joins.
func TestJoin(t *testing.T) {
	t.Parallel()
	d := NewDirectory(0)
	a, b := New(1, &conn{}), New(2, &conn{})
	expect := func(group string, want ...*Session) {
		t.Helper()
		if got := d.Members(group); !slices.Equal(got, want) || d.Online(group) != (len(want) > 0) {
			t.Errorf("members of %s: %v, want %v; online %v", group, got, want, d.Online(group))
		}
	}
	join := func(s *Session, group, wantLeft string) {
		t.Helper()
		if left := d.Join(s, group, 0, begin); left != wantLeft {
			t.Errorf("joined %s and left %q, want %q", group, left, wantLeft)
		}
		if s.Group() != group {
			t.Errorf("the session says it is in %q", s.Group())
		}
	}
	if a.Group() != "" {
		t.Error("a new session is in a group")
	}
	expect("s-a")
	join(a, "s-a", "")
	join(a, "s-a", "")
	join(b, "s-a", "")
	expect("s-a", a, b)
	join(a, "s-b", "s-a")
	expect("s-a", b)
	expect("s-b", a)
	seen := map[string]int{}
	d.Groups(func(group string, members []*Session) { seen[group] = len(members) })
	if len(seen) != 2 || seen["s-a"] != 1 || seen["s-b"] != 1 {
		t.Errorf("groups %v", seen)
	}
	d.Leave(b)
	d.Leave(b)
	expect("s-a")
	join(a, "s-a", "s-b")
	join(b, "s-a", "")
	expect("s-a", a, b)
	expect("s-b")
	if d.Claim(d.Members("s-none"), begin, nil) != nil || d.Pick("s-none", begin, 0) != nil {
		t.Error("a member of nobody")
	}
}

// TestClaim takes credit up to the bound, of members that take bytes, and gets it back by Release.
func TestClaim(t *testing.T) {
	t.Parallel()
	d := NewDirectory(2)
	ca := &conn{}
	a, b := New(1, ca), New(2, &conn{})
	d.Join(a, "s-a", 0, begin)
	d.Join(b, "s-a", 0, begin)
	got := map[*Session]int{}
	for range 4 {
		got[d.Claim(d.Members("s-a"), begin, nil)]++
	}
	if got[a] != 2 || got[b] != 2 || a.InFlight() != 2 {
		t.Errorf("claimed a %d, b %d times, want 2 each", got[a], got[b])
	}
	if s := d.Claim(d.Members("s-a"), begin, nil); s != nil {
		t.Errorf("a fifth credit of session %d", s.ID)
	}
	a.Release(false)
	ca.choke(true)
	if s := d.Claim(d.Members("s-a"), begin, nil); s != nil {
		t.Errorf("claimed session %d, whose connection takes nothing", s.ID)
	}
	if d.Pick("s-a", begin, 0) != b || d.Pick("s-a", begin, 1) != b {
		t.Error("a pick needs no credit, but a connection that takes bytes")
	}
	ca.choke(false)
	b.Release(false)
	if s := d.Claim(d.Members("s-a"), begin, func(s *Session) bool { return s == b }); s != b {
		t.Error("only those that fit count")
	}
	if s := d.Claim(d.Members("s-a"), begin, func(s *Session) bool { return s == b }); s != nil {
		t.Errorf("claimed %d beyond its credit or without fitting", s.ID)
	}
	if NewDirectory(0).inFlight.Load() != DefaultInFlight || NewDirectory(-1).inFlight.Load() != DefaultInFlight {
		t.Error("the default is not taken")
	}
}

// TestClaimSpreads chooses each member about equally often.
func TestClaimSpreads(t *testing.T) {
	t.Parallel()
	d := NewDirectory(1)
	for n := range 4 {
		d.Join(New(uint64(n), &conn{}), "s-a", 0, begin)
	}
	got := map[uint64]int{}
	for turn := range 4000 {
		s := d.Claim(d.Members("s-a"), begin, nil)
		got[s.ID]++
		s.Release(false)
		got[10+d.Pick("s-a", begin, turn).ID]++
	}
	for n := range uint64(4) {
		for _, key := range []uint64{n, 10 + n} {
			if got[key] < 850 || got[key] > 1150 {
				t.Errorf("member %d was chosen %d times of 4000", key, got[key])
			}
		}
	}
}

// TestWarmUp chooses a new member with the probability of the time that has gone by.
func TestWarmUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after     time.Duration
		low, high int // of 2000
	}{
		{-time.Second, 0, 0}, {0, 0, 0}, {time.Second, 140, 260}, {5 * time.Second, 890, 1110},
		{9 * time.Second, 1740, 1860}, {10 * time.Second, 2000, 2000}, {time.Hour, 2000, 2000},
	} {
		d := NewDirectory(1)
		s := New(1, &conn{})
		d.Join(s, "s-a", 10*time.Second, begin)
		claimed, picked := 0, 0
		for range 2000 {
			if d.Claim(d.Members("s-a"), begin.Add(c.after), nil) != nil {
				s.Release(false)
				claimed++
			}
			if d.Pick("s-a", begin.Add(c.after), 0) != nil {
				picked++
			}
		}
		if claimed < c.low || claimed > c.high || picked < c.low || picked > c.high {
			t.Errorf("after %v: claimed %d and picked %d times of 2000, want %d to %d", c.after, claimed, picked, c.low, c.high)
		}
		d.Join(s, "s-a", 0, begin)
		if d.Claim(d.Members("s-a"), begin, nil) == nil {
			t.Error("joined again without a warm-up, and is still cold")
		}
	}
}

// TestNextCheck draws numbers that no client and no delivery uses, and goes round.
func TestNextCheck(t *testing.T) {
	t.Parallel()
	s := New(1, &conn{})
	seen := map[uint32]bool{}
	s.opaque.Store(1<<30 - 500)
	for range 1000 {
		n := s.NextCheck()
		if n>>30 != 3 || seen[n] {
			t.Fatalf("opaque %#x: drawn twice, or not in the range of checks", n)
		}
		seen[n] = true
	}
}

// TestBuffer gives memory back, but not that of one large message.
func TestBuffer(t *testing.T) {
	t.Parallel()
	b := NewBuffer()
	b.B = append(b.B, make([]byte, keep+1)...)
	b.Recycle()
	for range 100 {
		b := NewBuffer()
		if len(b.B) != 0 || cap(b.B) > keep {
			t.Fatalf("a new buffer has %d bytes in room for %d", len(b.B), cap(b.B))
		}
		b.B = append(b.B, "used"...)
		defer b.Recycle()
	}
}

// TestConcurrent joins, leaves and changes groups from many sides while others choose.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	d := NewDirectory(4)
	groups := []string{"s-a", "s-b", "s-c"}
	var comers, choosers sync.WaitGroup
	done := make(chan struct{})
	for n := range 8 {
		comers.Go(func() {
			s := New(uint64(n), &conn{})
			for i := range 500 {
				d.Join(s, groups[(n+i)%3], time.Duration(i%2)*time.Nanosecond, begin)
				if i%5 == 0 {
					d.Leave(s)
				}
			}
			d.Join(s, fmt.Sprintf("s-last-%d", n), 0, begin)
		})
	}
	for _, group := range groups { // one goroutine claims for a group, as a shard does
		choosers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if s := d.Claim(d.Members(group), begin.Add(time.Hour), nil); s != nil {
					s.Release(false)
				}
				d.Pick(group, begin, 0)
				d.Groups(func(string, []*Session) {})
			}
		})
	}
	comers.Wait()
	close(done)
	choosers.Wait()
	left := 0
	d.Groups(func(group string, members []*Session) {
		left++
		if len(members) != 1 || members[0].Group() != group || members[0].InFlight() != 0 {
			t.Errorf("group %s has %d members", group, len(members))
		}
	})
	if left != 8 {
		t.Errorf("%d groups at the end, want 8: the others are empty", left)
	}
}

// TestSuspects: a member that does not answer in time, three times in a row, is chosen only when there
// is no other; one answer clears it.
func TestSuspects(t *testing.T) {
	t.Parallel()
	d := NewDirectory(2)
	now := time.Unix(1000, 0)
	silent, good := New(1, &conn{}), New(2, &conn{})
	d.Join(silent, "g", 0, now)
	d.Join(good, "g", 0, now)
	for range suspectAfter {
		silent.Late()
	}
	for range 50 {
		if s := d.Claim(d.Members("g"), now, nil); s != good {
			t.Fatal("the silent member was chosen")
		}
		good.Release(false)
	}
	d.Claim(d.Members("g"), now, nil)
	d.Claim(d.Members("g"), now, nil)
	if s := d.Claim(d.Members("g"), now, nil); s != nil {
		t.Error("the good member has no credit now, but will: the silent one was chosen")
	}
	d.Leave(good)
	if s := d.Claim(d.Members("g"), now, nil); s != silent {
		t.Error("the silent member is the only one: it is better than nobody")
	}
	d.Join(good, "g", 0, now)
	good.Release(false)
	silent.Release(false)
	seen := map[*Session]bool{}
	for range 100 {
		s := d.Claim(d.Members("g"), now, nil)
		seen[s] = true
		s.Release(false)
	}
	if !seen[silent] {
		t.Error("it answered, and is not chosen again")
	}
}

// TestNamedCredit: who says how much it takes gets that, and not the limit for those who do not.
func TestNamedCredit(t *testing.T) {
	t.Parallel()
	d := NewDirectory(32)
	s := New(1, &conn{})
	d.Join(s, "g", 0, time.Unix(1000, 0))
	count := func() (n int) {
		for d.Claim(d.Members("g"), time.Unix(1000, 0), nil) != nil {
			n++
		}
		for range n {
			s.Release(false)
		}
		return n
	}
	for _, c := range []struct{ named, want int32 }{{500, 500}, {3, 3}, {0, 32}, {-1, 32}} {
		s.SetCredit(c.named)
		if got := count(); got != int(c.want) {
			t.Errorf("with %d named it holds %d, want %d", c.named, got, c.want)
		}
	}
}

// TestForgive counts what a client may hold in all: never as many as stop an old one from reading.
func TestForgive(t *testing.T) {
	t.Parallel()
	d := NewDirectory(32)
	now := time.Unix(1000, 0)
	s := New(1, &conn{})
	d.Join(s, "g", 0, now)
	held := 0
	for range 10 { // it never answers, and is forgiven again and again
		for d.Claim(d.Members("g"), now, nil) != nil {
			held++
		}
		for range 32 {
			s.Forgive()
		}
	}
	if held != maxUnanswered {
		t.Errorf("the client holds %d deliveries, want %d", held, maxUnanswered)
	}
	for s.InFlight() > 0 {
		s.Release(false)
	}
	for range maxUnanswered { // it is at work again: what it was forgiven is forgotten
		if s := d.Claim(d.Members("g"), now, nil); s == nil {
			break
		}
		s.Release(false)
	}
	n := 0
	for d.Claim(d.Members("g"), now, nil) != nil {
		n++
	}
	if n != 32 {
		t.Errorf("%d credits after all was worked off, want 32", n)
	}
}
