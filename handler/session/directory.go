package session

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultInFlight is how many unanswered deliveries a connection may have. Go clients stop reading
// their sockets at 100 (interop contract §0.6).
const DefaultInFlight = 32

// Directory finds the live members of a group. Reading it takes no lock.
type Directory struct {
	inFlight atomic.Int32
	mu       sync.Mutex // serialises Join and Leave
	groups   sync.Map   // string -> *members
}

type members struct{ list atomic.Pointer[[]*Session] } // the slice is replaced, never changed

// NewDirectory returns an empty directory that allows inFlight unanswered deliveries a connection,
// 0 meaning DefaultInFlight.
func NewDirectory(inFlight int) *Directory {
	if inFlight <= 0 {
		inFlight = DefaultInFlight
	}
	d := &Directory{}
	d.Allow(inFlight)
	return d
}

// Allow sets how many unanswered deliveries a connection may have from now on.
func (d *Directory) Allow(inFlight int) { d.inFlight.Store(int32(inFlight)) }

// Join makes s a member of group and, for warmingUp, a rarely chosen one. A session that joins
// again stays one member; it leaves the group it was in, whose name is returned, or "".
func (d *Directory) Join(s *Session, group string, warmingUp time.Duration, now time.Time) (left string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := s.Group(); old != group {
		d.removeLocked(s)
		left = old
	}
	if warmingUp > 0 {
		s.warm.Store(&warmUp{start: now, span: warmingUp})
	} else {
		s.warm.Store(nil)
	}
	s.group.Store(&group)
	if s.joined {
		return left
	}
	s.joined = true
	entry, _ := d.groups.LoadOrStore(group, &members{})
	m := entry.(*members)
	list := append(slices.Clone(m.load()), s)
	m.list.Store(&list)
	return left
}

// Leave removes s from its group.
func (d *Directory) Leave(s *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removeLocked(s)
}

func (d *Directory) removeLocked(s *Session) {
	if !s.joined {
		return
	}
	s.joined = false
	m := d.find(s.Group())
	list := slices.DeleteFunc(slices.Clone(m.load()), func(other *Session) bool { return other == s })
	if len(list) == 0 {
		d.groups.Delete(s.Group())
	}
	m.list.Store(&list)
}

func (m *members) load() []*Session {
	if m == nil {
		return nil
	}
	if list := m.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (d *Directory) find(group string) *members {
	entry, ok := d.groups.Load(group)
	if !ok {
		return nil
	}
	return entry.(*members)
}

// Members returns the group's live sessions. The caller must not change the slice.
func (d *Directory) Members(group string) []*Session { return d.find(group).load() }

// Online tells whether the group has a live session.
func (d *Directory) Online(group string) bool { return len(d.Members(group)) > 0 }

// Claim chooses a random one of a group's members, as Members gave them, that has credit, takes bytes and
// is warm, and takes one credit of it. A member that has stopped answering is chosen only when all have.
// It returns nil when there is none. With fits, only those count for which it is true. One goroutine at a
// time may claim for a group.
func (d *Directory) Claim(members []*Session, now time.Time, fits func(*Session) bool) *Session {
	if len(members) == 0 {
		return nil
	}
	start := rand.IntN(len(members))
	suspects := 0
	for i := range members {
		s := members[(start+i)%len(members)]
		if s.suspect() {
			suspects++
			continue
		}
		if (fits == nil || fits(s)) && !s.cold(now) && s.claim(d.inFlight.Load()) {
			return s
		}
	}
	if suspects < len(members) {
		return nil // others will have credit again
	}
	for i := range members {
		s := members[(start+i)%len(members)]
		if (fits == nil || fits(s)) && !s.cold(now) && s.claim(d.inFlight.Load()) {
			return s
		}
	}
	return nil
}

// ClaimOf takes one credit of this member; it returns false when there is none or it takes no bytes.
// One goroutine at a time may claim for a group.
func (d *Directory) ClaimOf(s *Session) bool { return s.claim(d.inFlight.Load()) }

// Free tells whether one of a group's members has credit and takes bytes.
func (d *Directory) Free(members []*Session) bool {
	return slices.ContainsFunc(members, func(s *Session) bool { return s.free(d.inFlight.Load()) })
}

// Choose returns the one of a group's members that the key belongs to, as long as they stay the same: each
// has a weight for each key, and the highest counts. One that warms up is passed over more often than
// not, and one that has stopped answering comes after all others. It returns nil when there is none.
func (d *Directory) Choose(members []*Session, now time.Time, key uint64) *Session {
	var chosen *Session
	var most uint64
	trusted := false
	for _, s := range members {
		if s.cold(now) || trusted && s.suspect() {
			continue
		}
		if w := weight(key, s.ID); chosen == nil || !trusted && !s.suspect() || w > most {
			chosen, most, trusted = s, w, !s.suspect()
		}
	}
	return chosen
}

// weight mixes the bits of both (the finaliser of splitmix64).
func weight(key, id uint64) uint64 {
	x := key ^ id*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Pick chooses a member of the group that is warm and takes bytes, another one with each turn from 0 on,
// or nil. It takes no credit.
func (d *Directory) Pick(group string, now time.Time, turn int) *Session {
	list := d.Members(group)
	for i := range list {
		if s := list[(turn+i)%len(list)]; !s.cold(now) && s.Conn.Writable() {
			return s
		}
	}
	return nil
}

// Groups calls visit for every group with live members, in no order.
func (d *Directory) Groups(visit func(group string, members []*Session)) {
	d.groups.Range(func(group, m any) bool {
		visit(group.(string), m.(*members).load())
		return true
	})
}
