package access

import (
	"net/netip"
	"time"
)

// failures are the wrong keys of each address. An address of which nothing is heard for a while is forgotten.
type failures map[netip.Addr]failure

type failure struct {
	count int
	until time.Time // no key is looked at before
	last  time.Time
}

const (
	freeFailures  = 10          // wrong keys before an address waits
	firstPause    = time.Second // doubled by each wrong key after that
	longestPause  = 5 * time.Minute
	forgetAfter   = 15 * time.Minute // since the last wrong key
	maxRemembered = 10_000           // addresses
)

// wait returns how long the address has to wait.
func (f failures) wait(a netip.Addr, now time.Time) time.Duration { return f[a].until.Sub(now) }

// add notes a wrong key and returns how long the address has to wait from now on.
func (f failures) add(a netip.Addr, now time.Time) time.Duration {
	one, known := f[a]
	if !known && len(f) >= maxRemembered {
		f.shrink(now)
	}
	if now.Sub(one.last) > forgetAfter {
		one = failure{}
	}
	one.count++
	one.last = now
	pause := time.Duration(0)
	if over := one.count - freeFailures; over >= 0 {
		pause = min(firstPause<<min(over, 16), longestPause)
		one.until = now.Add(pause)
	}
	f[a] = one
	return pause
}

// shrink makes room: by those that are forgotten, or else by any. It makes much of it, since it looks at all.
func (f failures) shrink(now time.Time) {
	for a, one := range f {
		if now.Sub(one.last) > forgetAfter {
			delete(f, a)
		}
	}
	for a := range f {
		if len(f) < maxRemembered*3/4 {
			return
		}
		delete(f, a)
	}
}
