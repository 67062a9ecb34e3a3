package session

import (
	"testing"
	"time"
)

// TestChoose gives each member its share of the keys; when one leaves only its keys move, and when one
// joins keys move to it only.
func TestChoose(t *testing.T) {
	t.Parallel()
	const keys = 4000
	d := NewDirectory(0)
	var all []*Session
	for id := range uint64(4) {
		s := New(id+1, &conn{})
		d.Join(s, "s-a", 0, begin)
		all = append(all, s)
	}
	owners := func() (owner [keys]*Session, share map[*Session]int) {
		share = map[*Session]int{}
		for key := range owner {
			owner[key] = d.Choose(d.Members("s-a"), begin, uint64(key))
			share[owner[key]]++
		}
		return owner, share
	}
	before, share := owners()
	for _, s := range all {
		if n := share[s]; n < keys/5 || n > keys/3 {
			t.Errorf("member %d has %d of %d keys", s.ID, n, keys)
		}
	}
	d.Leave(all[0])
	without, _ := owners()
	for key := range before {
		if before[key] != all[0] && without[key] != before[key] {
			t.Fatalf("key %d moved from %d, who stayed", key, before[key].ID)
		}
	}
	d.Join(all[0], "s-a", 0, begin)
	if after, _ := owners(); after != before {
		t.Error("the same members have other keys")
	}
}

// TestChooseTrusts passes over who has stopped answering while there is somebody else, and who warms up.
func TestChooseTrusts(t *testing.T) {
	t.Parallel()
	d := NewDirectory(0)
	a, b := New(1, &conn{}), New(2, &conn{})
	d.Join(a, "s-a", 0, begin)
	for range suspectAfter {
		a.Late()
	}
	if got := d.Choose(d.Members("s-a"), begin, 7); got != a {
		t.Error("a suspect alone is not chosen")
	}
	d.Join(b, "s-a", 0, begin)
	for key := range uint64(50) {
		if d.Choose(d.Members("s-a"), begin, key) != b {
			t.Fatalf("key %d went to a suspect", key)
		}
	}
	d.Join(b, "s-a", time.Hour, begin)
	a.Release(false)
	for key := range uint64(50) {
		if d.Choose(d.Members("s-a"), begin, key) != a {
			t.Fatalf("key %d went to a member that only begins to warm up", key)
		}
	}
}

// TestClaimOf takes a member's credit as Claim does, until there is none.
func TestClaimOf(t *testing.T) {
	t.Parallel()
	d := NewDirectory(2)
	c := &conn{}
	s := New(1, c)
	d.Join(s, "s-a", 0, begin)
	if !d.ClaimOf(s) || !d.Free(d.Members("s-a")) || !d.ClaimOf(s) || d.ClaimOf(s) || d.Free(d.Members("s-a")) || s.InFlight() != 2 {
		t.Errorf("%d credits taken of 2", s.InFlight())
	}
	s.Release(false)
	c.choke(true)
	if d.ClaimOf(s) || d.Free(d.Members("s-a")) {
		t.Error("claimed on a choked connection")
	}
}
