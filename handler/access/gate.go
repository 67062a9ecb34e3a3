package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Gate holds who comes to the rules.
//
// A look at a key is made to be slow (bcrypt, some 50 ms), so it is never made on an event loop: a few
// goroutines work a bounded queue off. A key that was right is remembered under a hash of its own, which is
// as good as the key and cheap to compare: a thousand clients that come again at once cost a thousand
// HMACs. A wrong one is not remembered. It costs its address time instead: after some of them it waits, longer
// each time, for every key that is not remembered. Unknown names cost the same time as wrong keys.
type Gate struct {
	log    *slog.Logger
	rules  atomic.Pointer[Rules]
	secret [32]byte // of the hashes in memory
	jobs   chan job
	match  func(hash, key []byte) error // bcrypt's
	now    func() time.Time

	mu       sync.Mutex
	known    map[string][sha256.Size]byte // bcrypt hash -> HMAC of the key that it fits
	failures failures

	counters struct{ granted, remembered, refused, waiting, busy atomic.Int64 }
}

// job is a look at a key.
type job struct {
	hashes []string
	key    string
	from   netip.Addr
	done   func(error)
}

// queueLength bounds the looks that wait.
const queueLength = 1024

// New returns a gate with the rules, which must be valid. Until Run no key is looked at.
func New(r Rules, log *slog.Logger) *Gate {
	g := &Gate{
		log: log.With("component", "access"), jobs: make(chan job, queueLength), match: bcrypt.CompareHashAndPassword, now: time.Now,
		known: map[string][sha256.Size]byte{}, failures: failures{},
	}
	_, _ = rand.Read(g.secret[:]) // never fails
	g.rules.Store(&r)
	if open := r.open(); len(open) > 0 {
		g.log.Warn("groups are open: no key is asked for", "groups", open)
	}
	return g
}

// Run looks at keys until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case j := <-g.jobs:
					j.done(g.look(j))
				}
			}
		})
	}
	workers.Wait()
	return nil
}

// Swap puts other rules, which must be valid, in force. It returns the groups whose members must show their key
// again: those that are gone or lost a key. Others is among them if its entry did.
func (g *Gate) Swap(r Rules) (revoked []string) {
	old := g.rules.Swap(&r)
	good := map[string]bool{}
	for _, group := range r.Groups {
		for _, hash := range group.Keys {
			good[hash] = true
		}
	}
	for _, o := range r.Operators {
		for _, hash := range o.Keys {
			good[hash] = true
		}
	}
	g.mu.Lock()
	for hash := range g.known {
		if !good[hash] {
			delete(g.known, hash)
		}
	}
	g.mu.Unlock()
	for name, was := range old.Groups {
		is, ok := r.Groups[name]
		lost := slices.ContainsFunc(was.Keys, func(hash string) bool { return !slices.Contains(is.Keys, hash) })
		if !ok || lost || was.Open && !is.Open {
			revoked = append(revoked, name)
		}
	}
	slices.Sort(revoked)
	return revoked
}

// Rules returns those in force.
func (g *Gate) Rules() Rules { return *g.rules.Load() }

// Rule returns the name of the entry that is good for the group: its own, or Others.
func (g *Gate) Rule(group string) string {
	if _, ok := g.rules.Load().Groups[group]; ok {
		return group
	}
	return Others
}

// Admit tells whether a client at remote, "ip:port", may join the group with the key. When it is not known at once,
// now is false, and done is called later, by another goroutine, with the answer; when the gate ends before, it is
// not. An error is of code kite.Unauthorized, or kite.Busy when so many wait that nobody can look.
func (g *Gate) Admit(group, key, remote string, done func(error)) (now bool, err error) {
	entry, ok := g.rules.Load().group(group)
	if ok && entry.Open {
		return true, nil
	}
	return g.check(entry.Keys, key, addressOf(remote), done)
}

func (g *Gate) check(hashes []string, key string, from netip.Addr, done func(error)) (now bool, err error) {
	if g.remembered(hashes, key) {
		g.counters.remembered.Add(1)
		return true, nil
	}
	if err := g.held(from); err != nil {
		return true, err
	}
	select {
	case g.jobs <- job{hashes: hashes, key: key, from: from, done: done}:
		return false, nil
	default:
		g.counters.busy.Add(1)
		return true, kite.Errorf(kite.Busy, "%d others wait until their keys are looked at", queueLength)
	}
}

// remembered tells whether the key was right before.
func (g *Gate) remembered(hashes []string, key string) bool {
	sum := g.sum(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, hash := range hashes {
		if known, ok := g.known[hash]; ok && hmac.Equal(known[:], sum[:]) {
			return true
		}
	}
	return false
}

func (g *Gate) sum(key string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, g.secret[:])
	mac.Write([]byte(key))
	mac.Sum(sum[:0])
	return sum
}

var errWrong = kite.Errorf(kite.Unauthorized, "unknown name or wrong key")

// look does the slow work.
func (g *Gate) look(j job) error {
	if g.remembered(j.hashes, j.key) { // another one came with it meanwhile
		g.counters.remembered.Add(1)
		return nil
	}
	if err := g.held(j.from); err != nil {
		return err
	}
	key := []byte(j.key)
	if len(key) > MaxKey {
		key = key[:MaxKey]
	}
	for _, hash := range j.hashes {
		if g.match([]byte(hash), key) == nil && len(j.key) <= MaxKey {
			g.mu.Lock()
			g.known[hash] = g.sum(j.key)
			g.mu.Unlock()
			g.counters.granted.Add(1)
			return nil
		}
	}
	if len(j.hashes) == 0 {
		_ = g.match([]byte(g.rules.Load().decoy()), key)
	}
	g.counters.refused.Add(1)
	g.mu.Lock()
	pause := g.failures.add(j.from, g.now())
	g.mu.Unlock()
	if pause > 0 {
		g.log.Warn("wrong keys: the address has to wait", "address", j.from.String(), "pause", pause)
	}
	return errWrong
}

// held returns why the address has to wait, or nil.
func (g *Gate) held(from netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures.wait(from, g.now()) <= 0 {
		return nil
	}
	g.counters.waiting.Add(1)
	return kite.Errorf(kite.Unauthorized, "too many wrong keys from this address: try again later")
}

// MayPublish tells whether the group may publish to the topic.
func (g *Gate) MayPublish(group, topic string) bool {
	entry, ok := g.rules.Load().group(group)
	return ok && anyMatches(entry.Publish, topic)
}

// MayDecide tells whether the group may decide transactions: whoever may publish something.
func (g *Gate) MayDecide(group string) bool {
	entry, ok := g.rules.Load().group(group)
	return ok && len(entry.Publish) > 0
}

// MaySubscribe tells whether the group may be bound to the topic.
func (g *Gate) MaySubscribe(group, topic string) bool {
	entry, ok := g.rules.Load().group(group)
	return ok && anyMatches(entry.Subscribe, topic)
}

// HasOperators tells whether the operators' port asks who comes.
func (g *Gate) HasOperators() bool { return len(g.rules.Load().Operators) > 0 }

// Operator returns the role of the operator with this token, who comes from remote, "ip:port".
func (g *Gate) Operator(ctx context.Context, name, token, remote string) (Role, error) {
	o := g.rules.Load().Operators[name]
	answer := make(chan error, 1)
	now, err := g.check(o.Keys, token, addressOf(remote), func(err error) { answer <- err })
	if !now {
		select {
		case err = <-answer:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return "", err
	}
	return o.Role, nil
}

// Certified returns the role of the operator whose verified certificate has this common name.
func (g *Gate) Certified(name string) (Role, error) {
	if o := g.rules.Load().Operators[name]; o.Certificate {
		return o.Role, nil
	}
	return "", errWrong
}

// Stats is what the gate has done since the start.
type Stats struct {
	// Granted were right after a look, Remembered without one; Refused were wrong; Waiting came from an address
	// that has to wait; Busy found no place in the queue.
	Granted, Remembered, Refused, Waiting, Busy int64
	// Queue is how many wait for a look.
	Queue int
}

// Stats returns the counters.
func (g *Gate) Stats() Stats {
	c := &g.counters
	return Stats{
		Granted: c.granted.Load(), Remembered: c.remembered.Load(), Refused: c.refused.Load(),
		Waiting: c.waiting.Load(), Busy: c.busy.Load(), Queue: len(g.jobs),
	}
}

func addressOf(remote string) netip.Addr {
	at, _ := netip.ParseAddrPort(remote)
	return at.Addr().Unmap()
}
